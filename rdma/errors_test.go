package rdma_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// lab is a pair of sides in virtual time.
type lab struct {
	clock  *memport.Clock
	pa, pb *memport.Port
	a, b   *side
	drop   func(from int, p *roce.Packet) bool
}

func newLab(t testing.TB, typ rdma.QPType, attr rdma.QPAttr) *lab {
	t.Helper()
	l := &lab{clock: memport.NewClock()}
	l.pa, l.pb = memport.NewPair(memport.Config{Clock: l.clock, Delay: time.Microsecond, Tap: func(from int, b []byte) bool {
		p, err := roce.Parse(b)
		return err != nil || l.drop == nil || !l.drop(from, &p)
	}})
	l.a, l.b = newSide(t, l.pa, rdma.Options{TraceDepth: 64}, typ, 1<<20), newSide(t, l.pb, rdma.Options{TraceDepth: 64}, typ, 1<<20)
	if typ == rdma.UD {
		for _, s := range []*side{l.a, l.b} {
			if err := s.qp.Activate(0x11111111, 0); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	connect(t, l.a, l.b, attr)
	return l
}

func (l *lab) run() {
	for l.clock.Step() {
	}
}

func (l *lab) post(t testing.TB, wrs ...rdma.SendWR) []rdma.WC {
	t.Helper()
	for i := range wrs {
		wrs[i].Flags |= rdma.Signaled
	}
	if _, err := l.a.qp.PostSend(wrs...); err != nil {
		t.Fatal(err)
	}
	l.run()
	return l.a.poll(t)
}

func (l *lab) recv(t testing.TB, n, size int) {
	t.Helper()
	for i := range n {
		if _, err := l.b.qp.PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{l.b.mr.SGE(i*size, size)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func statuses(wcs []rdma.WC) (s []rdma.Status) {
	for _, w := range wcs {
		s = append(s, w.Status)
	}
	return s
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

const (
	ok    = rdma.Success
	flush = rdma.WRFlushErr
)

// TestErrors has a row per fault: what both sides' work requests end with.
func TestErrors(t *testing.T) {
	write := func(l *lab, n int) rdma.SendWR {
		return rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{l.a.mr.SGE(0, n)}, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()}
	}
	read := func(l *lab, n int) rdma.SendWR {
		w := write(l, n)
		w.Opcode = rdma.WRRead
		return w
	}
	send := func(l *lab, n int) rdma.SendWR {
		return rdma.SendWR{Opcode: rdma.WRSend, SGList: []rdma.SGE{l.a.mr.SGE(0, n)}}
	}
	one := func(w rdma.SendWR) []rdma.SendWR { return []rdma.SendWR{w} }
	for _, c := range []struct {
		name  string
		typ   rdma.QPType
		attr  rdma.QPAttr
		recvs int
		size  int
		drop  func(from int, p *roce.Packet) bool
		work  func(l *lab) []rdma.SendWR
		want  []rdma.Status // requester
		peer  []rdma.Status // responder's receives
	}{
		{name: "wrong rkey", recvs: 2, work: func(l *lab) []rdma.SendWR {
			w := write(l, 10)
			w.RKey ^= 0x5500
			return []rdma.SendWR{write(l, 5), w, write(l, 5)}
		},
			want: []rdma.Status{ok, rdma.RemAccessErr, flush}, peer: []rdma.Status{flush, flush}},
		{name: "out of range", work: func(l *lab) []rdma.SendWR { w := write(l, 10); w.RemoteAddr += 1<<20 - 9; return one(w) }, want: []rdma.Status{rdma.RemAccessErr}},
		{name: "range wraps", work: func(l *lab) []rdma.SendWR { w := write(l, 10); w.RemoteAddr = ^uint64(0) - 3; return one(w) }, want: []rdma.Status{rdma.RemAccessErr}},
		{name: "READ wrong rkey", work: func(l *lab) []rdma.SendWR { w := read(l, 10); w.RKey ^= 0x100; return one(w) }, want: []rdma.Status{rdma.RemAccessErr}},
		{name: "no right on the queue pair", attr: rdma.QPAttr{Access: rdma.RemoteRead}, work: func(l *lab) []rdma.SendWR { return one(write(l, 10)) }, want: []rdma.Status{rdma.RemInvReqErr}},
		{name: "no READ right on the queue pair", attr: rdma.QPAttr{Access: rdma.RemoteWrite}, work: func(l *lab) []rdma.SendWR { return one(read(l, 10)) }, want: []rdma.Status{rdma.RemInvReqErr}},
		{name: "receive too short", recvs: 3, size: 1000, work: func(l *lab) []rdma.SendWR { return []rdma.SendWR{send(l, 1000), send(l, 1001)} },
			want: []rdma.Status{ok, rdma.RemOpErr}, peer: []rdma.Status{ok, rdma.LocQPOpErr, flush}},
		{name: "lkey", recvs: 1, work: func(l *lab) []rdma.SendWR {
			w := send(l, 10)
			w.SGList[0].LKey++
			return []rdma.SendWR{send(l, 1), w, send(l, 1)}
		},
			want: []rdma.Status{ok, rdma.LocProtErr, flush}, peer: []rdma.Status{ok}},
		{name: "READ into a bad lkey", work: func(l *lab) []rdma.SendWR { w := read(l, 10); w.SGList[0].LKey++; return one(w) }, want: []rdma.Status{rdma.LocProtErr}},
		{name: "RNR exhausted", attr: rdma.QPAttr{RNRRetry: 2, MinRNRTimer: 1}, work: func(l *lab) []rdma.SendWR { return []rdma.SendWR{send(l, 1), send(l, 2)} },
			want: []rdma.Status{rdma.RNRRetryExcErr, flush}},
		{name: "nothing arrives", attr: rdma.QPAttr{RetryCnt: 2}, drop: func(from int, _ *roce.Packet) bool { return from == 0 },
			work: func(l *lab) []rdma.SendWR { return []rdma.SendWR{read(l, 5), send(l, 1)} }, want: []rdma.Status{rdma.RetryExcErr, flush}},
		{name: "no answer arrives", recvs: 1, attr: rdma.QPAttr{RetryCnt: 1}, drop: func(from int, _ *roce.Packet) bool { return from == 1 },
			work: func(l *lab) []rdma.SendWR { return one(send(l, 1)) }, want: []rdma.Status{rdma.RetryExcErr}, peer: []rdma.Status{ok}},
		{name: "LOCAL_INV of a common region", work: func(l *lab) []rdma.SendWR {
			return []rdma.SendWR{write(l, 1), {Opcode: rdma.WRLocalInv, InvKey: l.a.mr.LKey()}, write(l, 1)}
		}, want: []rdma.Status{ok, rdma.LocQPOpErr, flush}},
		{name: "SEND_INV of no window", recvs: 1, work: func(l *lab) []rdma.SendWR {
			w := send(l, 1)
			w.Opcode, w.InvKey = rdma.WRSendInv, 0x12300
			return one(w)
		},
			want: []rdma.Status{rdma.RemAccessErr}, peer: []rdma.Status{rdma.RemInvReqErr}},
		{name: "UC receive too short", typ: rdma.UC, recvs: 2, size: 1000, work: func(l *lab) []rdma.SendWR { return []rdma.SendWR{send(l, 3000), send(l, 10)} },
			want: []rdma.Status{ok, ok}, peer: []rdma.Status{rdma.LocQPOpErr, flush}},
		{name: "UC without a receive", typ: rdma.UC, work: func(l *lab) []rdma.SendWR { return one(send(l, 3000)) }, want: []rdma.Status{ok}},
		{name: "UC lkey", typ: rdma.UC, work: func(l *lab) []rdma.SendWR { w := send(l, 1); w.SGList[0].LKey++; return []rdma.SendWR{w, send(l, 1)} }, want: []rdma.Status{rdma.LocProtErr, flush}},
		{name: "FLUSH persistent without the right", work: func(l *lab) []rdma.SendWR {
			return one(rdma.SendWR{Opcode: rdma.WRFlush, Placement: roce.PlacePersistent, FlushLength: 1, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()})
		}, want: []rdma.Status{rdma.RemInvReqErr}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.typ == 0 {
				c.typ = rdma.RC
			}
			if c.size == 0 {
				c.size = 4096
			}
			l := newLab(t, c.typ, c.attr)
			l.drop = c.drop
			l.recv(t, c.recvs, c.size)
			wcs := l.post(t, c.work(l)...)
			if got := statuses(wcs); !equal(got, c.want) {
				t.Errorf("requester: %v, want %v\n%v", got, c.want, l.a.qp.Trace())
			}
			if got := statuses(l.b.poll(t)); !equal(got, c.peer) {
				t.Errorf("responder: %v, want %v", got, c.peer)
			}
			for _, w := range wcs {
				if err := w.Err(); err != nil {
					t.Log(err)
				}
			}
		})
	}
}

// TestBound: with everything lost, and with the worst of networks, a work request
// ends within the bound that was computed.
func TestBound(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{Timeout: 8, RetryCnt: 3, RNRRetry: 3, MinRNRTimer: 1})
	n := 0
	// Let the first copy of each packet be lost, and all answers to it but the last chance's.
	seen := map[roce.PSN]int{}
	l.drop = func(from int, p *roce.Packet) bool {
		if from == 1 {
			return false
		}
		n++
		seen[p.BTH.PSN()]++
		return seen[p.BTH.PSN()]%4 != 0
	}
	bound, fixed := l.a.qp.Bound(200000)
	if !fixed {
		t.Fatal("no bound")
	}
	start := l.clock.Now()
	wcs := l.post(t, rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{l.a.mr.SGE(0, 200000)}, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()})
	if len(wcs) != 1 {
		t.Fatalf("%d completions", len(wcs))
	}
	if took := time.Duration(wcs[0].Time - start); took > bound {
		t.Errorf("took %v, bound %v", took, bound)
	} else {
		t.Logf("%v after %v of at most %v, %d packets", wcs[0].Status, took, bound, n)
	}
}

func TestLoopback(t *testing.T) {
	pa, _ := memport.NewPair(memport.Config{})
	a := newSide(t, pa, rdma.Options{}, rdma.RC, 4096)
	b := &side{dev: a.dev, pd: a.pd, cq: a.cq, mr: a.mr, buf: a.buf}
	var err error
	if b.qp, err = a.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: a.cq, RecvCQ: a.cq}); err != nil {
		t.Fatal(err)
	}
	connect(t, a, b, rdma.QPAttr{})
	copy(a.buf, "through the inside")
	if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{a.mr.SGE(0, 18)}, RemoteAddr: a.mr.Addr() + 100, RKey: a.mr.RKey()}); err != nil {
		t.Fatal(err)
	}
	if wcs := a.poll(t); len(wcs) != 1 || wcs[0].Err() != nil || string(a.buf[100:118]) != "through the inside" {
		t.Errorf("%+v", wcs)
	}
}

func TestWindow(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	mw, err := l.b.pd.AllocMW(rdma.MWType2)
	if err != nil {
		t.Fatal(err)
	}
	bind := func(key uint32) rdma.Status {
		t.Helper()
		if _, err := l.b.qp.PostSend(rdma.SendWR{Opcode: rdma.WRBindMW, Flags: rdma.Signaled, MW: mw, NewRKey: key,
			Bind: rdma.BindInfo{MR: l.b.mr, Addr: l.b.mr.Addr() + 100, Length: 50, Access: rdma.RemoteWrite}}); err != nil {
			t.Fatal(err)
		}
		l.run()
		return l.b.poll(t)[0].Status
	}
	key := rdma.IncRKey(mw.RKey())
	if st := bind(key); st != ok {
		t.Fatal(st)
	}
	if err := l.b.mr.Dereg(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("dereg of a bound region: %v", err)
	}
	w := rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{l.a.mr.SGE(0, 50)}, RemoteAddr: l.b.mr.Addr() + 100, RKey: key}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{ok}) {
		t.Fatal(got)
	}
	l.recv(t, 2, 10)
	inv := rdma.SendWR{Opcode: rdma.WRSendInv, InvKey: key}
	if got := statuses(l.post(t, inv)); !equal(got, []rdma.Status{ok}) {
		t.Fatal(got)
	}
	if wc := l.b.poll(t); len(wc) != 1 || wc[0].Flags&rdma.WCWithInv == 0 || wc[0].Imm != key {
		t.Errorf("%+v", wc)
	}
	if st := bind(rdma.IncRKey(key)); st != ok { // and again, with another key
		t.Fatal(st)
	}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{rdma.RemAccessErr}) { // by the dead one
		t.Error(got)
	}
}

func TestFastRegister(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	mr, err := l.b.pd.AllocMR(4)
	if err != nil {
		t.Fatal(err)
	}
	pages := [][]byte{make([]byte, 4096), make([]byte, 4096), make([]byte, 100)}
	if err := mr.MapPages(pages, 0x10000); err != nil {
		t.Fatal(err)
	}
	key := rdma.IncRKey(mr.LKey())
	if _, err := l.b.qp.PostSend(rdma.SendWR{Opcode: rdma.WRRegMR, MR: mr, NewRKey: key, Access: rdma.LocalWrite | rdma.RemoteWrite, Flags: rdma.Signaled}); err != nil {
		t.Fatal(err)
	}
	if wc := l.b.poll(t); len(wc) != 1 || wc[0].Err() != nil || !mr.Valid() {
		t.Fatalf("%+v", wc)
	}
	for i := range l.a.buf {
		l.a.buf[i] = byte(i)
	}
	w := rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{l.a.mr.SGE(0, 8200)}, RemoteAddr: 0x10000 + 50, RKey: key}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{ok}) {
		t.Fatal(got)
	}
	if pages[0][50] != 0 || pages[1][0] != l.a.buf[4096-50] || pages[2][57] != l.a.buf[8192+57-50] {
		t.Error("pages differ")
	}
	if _, err := l.b.qp.PostSend(rdma.SendWR{Opcode: rdma.WRLocalInv, InvKey: key, Flags: rdma.Signaled}); err != nil {
		t.Fatal(err)
	}
	if wc := l.b.poll(t); len(wc) != 1 || wc[0].Err() != nil || mr.Valid() {
		t.Fatalf("%+v", wc)
	}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{rdma.RemAccessErr}) {
		t.Error(got)
	}
}

func TestSRQLimit(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	srq, err := l.b.pd.CreateSRQ(rdma.SRQInit{MaxWR: 8, MaxSGE: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.b.qp.Destroy(); err != nil {
		t.Fatal(err)
	}
	if l.b.qp, err = l.b.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: l.b.cq, RecvCQ: l.b.cq, SRQ: srq, Cap: rdma.QPCap{MaxSendWR: 4}}); err != nil {
		t.Fatal(err)
	}
	if err := l.a.qp.Modify(&rdma.QPAttr{State: rdma.Reset}, rdma.AttrState); err != nil {
		t.Fatal(err)
	}
	connect(t, l.a, l.b, rdma.QPAttr{})
	for i := range 3 {
		if _, err := srq.PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{l.b.mr.SGE(0, 100)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := srq.Modify(rdma.SRQInit{Limit: 2}, rdma.SRQLimit); err != nil {
		t.Fatal(err)
	}
	s := rdma.SendWR{Opcode: rdma.WRSend, SGList: []rdma.SGE{l.a.mr.SGE(0, 9)}}
	l.post(t, s)
	limit := func() (n int) {
		for {
			e, ok := l.b.dev.PollEvent()
			if !ok {
				return n
			}
			if e.Type == rdma.SRQLimitReached && e.SRQ == srq {
				n++
			}
		}
	}
	if n := limit(); n != 0 {
		t.Errorf("%d events with two receives left", n)
	}
	l.post(t, s)
	l.post(t, s)
	if n := limit(); n != 1 {
		t.Errorf("%d events, want one", n)
	}
}

func TestDatagram(t *testing.T) {
	l := newLab(t, rdma.UD, rdma.QPAttr{})
	l.recv(t, 4, 200)
	gid := rdma.GIDOf(netip.MustParseAddr("10.9.0.2"))
	ah, err := l.a.pd.CreateAH(rdma.AHAttr{DGID: gid, SGIDIndex: l.a.dev.DefaultGID()})
	if err != nil {
		t.Fatal(err)
	}
	copy(l.a.buf, "datagram")
	send := rdma.SendWR{Opcode: rdma.WRSendImm, Imm: 77, SGList: []rdma.SGE{l.a.mr.SGE(0, 8)}, AH: ah, RemoteQPN: l.b.qp.Num(), RemoteQKey: 0x11111111}
	bad := send
	bad.RemoteQKey = 1
	if got := statuses(l.post(t, bad, send)); !equal(got, []rdma.Status{ok, ok}) {
		t.Fatal(got)
	}
	wcs := l.b.poll(t)
	if len(wcs) != 1 || wcs[0].ByteLen != 48 || wcs[0].Imm != 77 || wcs[0].SrcQP != l.a.qp.Num() || string(l.b.buf[40:48]) != "datagram" {
		t.Fatalf("%+v", wcs)
	}
	back, err := l.b.dev.AHFromWC(&wcs[0], l.b.buf)
	if err != nil || back.DGID.Addr() != netip.MustParseAddr("10.9.0.1") {
		t.Errorf("%+v %v", back, err)
	}
	if c := l.b.qp.Counters(); c.Dropped != 1 {
		t.Errorf("%d dropped", c.Dropped)
	}
	send.SGList = []rdma.SGE{l.a.mr.SGE(0, 5000)}
	if _, err := l.a.qp.PostSend(send); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("longer than the MTU: %v", err)
	}
}

func TestDrain(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	w := rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{l.a.mr.SGE(0, 9000)}, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()}
	if _, err := l.a.qp.PostSend(w); err != nil {
		t.Fatal(err)
	}
	a := rdma.QPAttr{State: rdma.SQD, EnSQDAsyncNotify: true}
	if err := l.a.qp.Modify(&a, rdma.AttrState|rdma.AttrEnSQDAsyncNotify); err != nil {
		t.Fatal(err)
	}
	if _, err := l.a.qp.PostSend(w); err != nil {
		t.Fatal(err)
	}
	l.run()
	if got := l.a.poll(t); len(got) != 1 {
		t.Fatalf("%d completions while draining", len(got))
	}
	e, there := l.a.dev.PollEvent()
	if !there || e.Type != rdma.SQDrained {
		t.Errorf("event %v", e)
	}
	if err := l.a.qp.Modify(&rdma.QPAttr{State: rdma.RTS}, rdma.AttrState); err != nil {
		t.Fatal(err)
	}
	l.run()
	if got := l.a.poll(t); len(got) != 1 || got[0].Err() != nil {
		t.Errorf("after SQD: %+v", got)
	}
}

func TestCQ(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	ch := rdma.NewCompChannel(nil)
	cq, err := l.a.dev.CreateCQ(2, ch)
	if err != nil {
		t.Fatal(err)
	}
	qp, err := l.a.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: cq, RecvCQ: cq, Cap: rdma.QPCap{MaxSendWR: 8, MaxSendSGE: 1}, SigAll: true})
	if err != nil {
		t.Fatal(err)
	}
	l.a.qp = qp
	if err := l.b.qp.Modify(&rdma.QPAttr{State: rdma.Reset}, rdma.AttrState); err != nil {
		t.Fatal(err)
	}
	connect(t, l.a, l.b, rdma.QPAttr{})
	w := rdma.SendWR{Opcode: rdma.WRWrite, RKey: l.b.mr.RKey(), RemoteAddr: l.b.mr.Addr()}
	if err := cq.ReqNotify(false); err != nil {
		t.Fatal(err)
	}
	if _, err := qp.PostSend(w, w); err != nil {
		t.Fatal(err)
	}
	l.run()
	if ch.TryGet() != cq || ch.TryGet() != nil {
		t.Error("want one event")
	}
	if err := cq.Resize(1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("resize below what waits: %v", err)
	}
	if err := cq.Resize(3); err != nil {
		t.Error(err)
	}
	if _, err := qp.PostSend(w, w); err != nil {
		t.Fatal(err)
	}
	l.run()
	var wcs [8]rdma.WC
	if n, err := cq.Poll(wcs[:]); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := cq.Poll(wcs[:]); !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("overflow: %v", err)
	}
	if qp.State() != rdma.Err {
		t.Errorf("queue pair in %v", qp.State())
	}
}

// TestCongestion: marks bring notifications, and those a slower sender.
func TestCongestion(t *testing.T) {
	clock := memport.NewClock()
	pa, pb := memport.NewPair(memport.Config{Clock: clock, Delay: time.Microsecond, Mark: 0.5, Seed: 3})
	o := rdma.Options{Congestion: rdma.Congestion{LineRate: 1e9, ECT: true}}
	a, b := newSide(t, pa, o, rdma.RC, 8<<20), newSide(t, pb, o, rdma.RC, 8<<20)
	connect(t, a, b, rdma.QPAttr{})
	start := clock.Now()
	if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{a.mr.SGE(0, 8<<20)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()}); err != nil {
		t.Fatal(err)
	}
	for clock.Step() {
	}
	wcs := a.poll(t)
	if len(wcs) != 1 || wcs[0].Err() != nil {
		t.Fatalf("%+v", wcs)
	}
	rate := float64(8<<20) / time.Duration(wcs[0].Time-start).Seconds()
	ca, cb := a.qp.Counters(), b.qp.Counters()
	if cb.NpCnpSent == 0 || ca.RpCnpHandled == 0 || rate > 0.9e9 || rate < 1e6 {
		t.Errorf("%d marks, %d CNPs, %d handled, %.0f bytes/s", cb.NpEcnMarked, cb.NpCnpSent, ca.RpCnpHandled, rate)
	}
	t.Logf("%d marks, %d CNPs, %.0f MB/s of 1000", cb.NpEcnMarked, cb.NpCnpSent, rate/1e6)
}
