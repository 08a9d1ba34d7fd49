package rdma_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
)

func TestLoopback(t *testing.T) {
	pa, _ := memport.NewPair(memport.Config{Clock: memport.NewClock()})
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
