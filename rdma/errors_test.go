package rdma_test

import (
	"math/rand/v2"
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

// TestBoundAnyNetwork: whatever share of the packets is lost, each way, the work
// request ends within the bound.
func TestBoundAnyNetwork(t *testing.T) {
	worst := 0.0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 8))
		l := newLab(t, rdma.RC, rdma.QPAttr{Timeout: uint8(5 + r.IntN(4)), RetryCnt: uint8(1 + r.IntN(7)), RNRRetry: uint8(1 + r.IntN(6)), MinRNRTimer: uint8(1 + r.IntN(5)), PathMTU: roce.MTU1024})
		lose := [2]float64{r.Float64(), r.Float64()}
		l.drop = func(from int, _ *roce.Packet) bool { return r.Float64() < lose[from] }
		wr := rdma.SendWR{Opcode: pick(r, rdma.WRWrite, rdma.WRRead, rdma.WRSend), SGList: []rdma.SGE{l.a.mr.SGE(0, r.IntN(8000))}, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()}
		if r.IntN(2) == 0 {
			l.recv(t, 1, 8000)
		}
		bound, fixed := l.a.qp.Bound(int(wr.SGList[0].Length))
		start := l.clock.Now()
		wcs := l.post(t, wr)
		if !fixed || len(wcs) != 1 {
			t.Fatalf("seed %d: %d completions, bound %v %v", seed, len(wcs), bound, fixed)
		}
		took := time.Duration(wcs[0].Time - start)
		if took > bound {
			t.Errorf("seed %d: %v took %v, bound %v", seed, wr.Opcode, took, bound)
		}
		worst = max(worst, float64(took)/float64(bound))
		for _, s := range []*side{l.a, l.b} {
			if err := s.qp.Destroy(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("the worst needed %.0f %% of its bound", 100*worst)
}
