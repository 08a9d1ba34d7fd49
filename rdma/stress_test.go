package rdma_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// TestFaults: random work requests, many of them wrong, over a bad wire, with
// queue pairs that are reset and drained meanwhile: each work request completes
// exactly once, in order, and nothing is left over.
func TestFaults(t *testing.T) {
	live := packet.Live()
	n := 2000
	if testing.Short() {
		n = 200
	}
	var ended int
	for seed := range uint64(n) {
		if faults(t, seed) {
			ended++
		}
		if t.Failed() {
			break
		}
	}
	if k := packet.Live() - live; k != 0 {
		t.Errorf("%d packets leaked", k)
	}
	t.Logf("%d scenarios, %d queue pairs ended in error", n, ended)
}

func faults(t *testing.T, seed uint64) (ended bool) {
	r := rand.New(rand.NewPCG(seed, 5))
	clock := memport.NewClock()
	pa, pb := memport.NewPair(memport.Config{Clock: clock, Seed: seed, Delay: time.Microsecond, Loss: pick(r, 0, 0.01, 0.3, 1), Dup: pick(r, 0, 0.1), Reorder: pick(r, 0, 0.1), Mark: pick(r, 0, 0.1)})
	typ := pick(r, rdma.RC, rdma.RC, rdma.UC)
	a, b := newSide(t, pa, rdma.Options{TraceDepth: 8}, typ, 256<<10), newSide(t, pb, rdma.Options{}, typ, 256<<10)
	connect(t, a, b, rdma.QPAttr{PathMTU: roce.MTU1024, MaxRdAtomic: pick[uint8](r, 1, 4), Timeout: 5, RetryCnt: uint8(r.IntN(8)), RNRRetry: uint8(r.IntN(7)), MinRNRTimer: 1,
		Access: pick(r, rdma.RemoteWrite|rdma.RemoteRead|rdma.RemoteAtomic, rdma.RemoteWrite|rdma.RemoteRead|rdma.RemoteAtomic, rdma.RemoteRead)})
	bad := pick(r, 0, 3, 20) // one in so many is wrong
	wrong := func() bool { return bad > 0 && r.IntN(bad) == 0 }
	next, done := uint64(0), uint64(0)
	check := func() {
		for _, wc := range a.poll(t) {
			if wc.ID != done {
				t.Fatalf("seed %d: %d completed, expected %d", seed, wc.ID, done)
			}
			done++
		}
	}
	for range 20 {
		var wrs []rdma.SendWR
		for range r.IntN(6) {
			wr := rdma.SendWR{ID: next, Flags: rdma.Signaled, RemoteAddr: (b.mr.Addr() + 7) &^ 7, RKey: b.mr.RKey(), SGList: []rdma.SGE{a.mr.SGE(r.IntN(1000), r.IntN(9000))}}
			wr.Opcode = pick(r, rdma.WRSend, rdma.WRWrite, rdma.WRWriteImm)
			if typ == rdma.RC {
				wr.Opcode = pick(r, rdma.WRSend, rdma.WRWrite, rdma.WRWriteImm, rdma.WRRead, rdma.WRFetchAdd, rdma.WRFlush, rdma.WRAtomicWrite, rdma.WRLocalInv, rdma.WRSendInv)
			}
			switch wr.Opcode {
			case rdma.WRFetchAdd, rdma.WRAtomicWrite:
				wr.SGList[0].Length = 8
			case rdma.WRFlush:
				wr.Placement = roce.PlaceVisible
			case rdma.WRLocalInv, rdma.WRSendInv: // nearly always an error
				if r.IntN(20) > 0 {
					wr.Opcode = rdma.WRSend
				}
			}
			if wrong() {
				wr.RKey++
			}
			if wrong() {
				wr.RemoteAddr += 256 << 10
			}
			if wrong() {
				wr.SGList[0].LKey++
			}
			if r.IntN(8) == 0 {
				wr.Flags |= rdma.Fence
			}
			wrs = append(wrs, wr)
			next++
		}
		k, _ := a.qp.PostSend(wrs...)
		next -= uint64(len(wrs) - k)
		for range r.IntN(6) {
			_, _ = b.qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{b.mr.SGE(r.IntN(1000), pick(r, 9000, 9000, 100))}})
		}
		for range r.IntN(40) {
			clock.Step()
		}
		b.poll(t)
		check()
		switch r.IntN(60) {
		case 0:
			_ = a.qp.Modify(&rdma.QPAttr{State: rdma.SQD}, rdma.AttrState)
		case 1:
			_ = b.qp.Modify(&rdma.QPAttr{State: rdma.Err}, rdma.AttrState)
		case 2:
			_ = a.qp.Modify(&rdma.QPAttr{State: rdma.Err}, rdma.AttrState)
		case 3:
			pb.SetUp(false)
		}
		_ = a.qp.Modify(&rdma.QPAttr{State: rdma.RTS}, rdma.AttrState)
	}
	for i := 0; clock.Step(); i++ {
		if i > 1e6 {
			t.Fatalf("seed %d: no end; %v", seed, a.qp.Trace())
		}
	}
	check()
	if done != next {
		t.Fatalf("seed %d: %d of %d completed, state %v\n%v", seed, done, next, a.qp.State(), a.qp.Trace())
	}
	ended = a.qp.State() == rdma.Err
	if err := a.qp.Destroy(); err != nil {
		t.Fatal(err)
	}
	if err := b.qp.Destroy(); err != nil {
		t.Fatal(err)
	}
	return ended
}

// TestConcurrent: goroutines on both sides, several queue pairs, the machine's
// clock; for the race detector.
func TestConcurrent(t *testing.T) {
	const pairs, rounds, size = 4, 60, 20000
	pa, pb := memport.NewPair(memport.Config{})
	x, y := newSide(t, pa, rdma.Options{}, rdma.RC, pairs*size), newSide(t, pb, rdma.Options{}, rdma.RC, pairs*size)
	var wg sync.WaitGroup
	errs := make(chan error, 2*pairs)
	for i := range pairs {
		var ends [2]*side
		for k, s := range []*side{x, y} {
			e := *s
			var err error
			if e.cq, err = e.dev.CreateCQ(64, nil); err != nil {
				t.Fatal(err)
			}
			if e.qp, err = e.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: e.cq, RecvCQ: e.cq, Cap: rdma.QPCap{MaxSendWR: 8, MaxSendSGE: 1, MaxRecvWR: 8, MaxRecvSGE: 1}}); err != nil {
				t.Fatal(err)
			}
			ends[k] = &e
		}
		connect(t, ends[0], ends[1], rdma.QPAttr{MaxRdAtomic: 2, Timeout: 18})
		for k := range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs <- ping(ends[k], ends[1-k], i, k, rounds, size/2)
			}()
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// ping writes to one half of the peer's part of memory and reads it back.
func ping(me, peer *side, part, half, rounds, size int) error {
	off := part*2*size + half*size
	src := make([]byte, 2*size)
	mr, err := me.pd.RegMR(src, rdma.LocalWrite)
	if err != nil {
		return err
	}
	to := rdma.SendWR{Flags: rdma.Signaled, RemoteAddr: peer.mr.Addr() + uint64(off), RKey: peer.mr.RKey()}
	for n := range rounds {
		for i := range size {
			src[i] = byte(i*n + part + half)
		}
		w, r := to, to
		w.Opcode, w.SGList = rdma.WRWrite, []rdma.SGE{mr.SGE(0, size)}
		r.Opcode, r.SGList = rdma.WRRead, []rdma.SGE{mr.SGE(size, size)}
		if _, err := me.qp.PostSend(w, r); err != nil {
			return err
		}
		var wcs [4]rdma.WC
		for k, end := 0, time.Now().Add(20*time.Second); k < 2; {
			c, err := me.cq.Poll(wcs[:])
			if err != nil {
				return err
			}
			for _, wc := range wcs[:c] {
				if err := wc.Err(); err != nil {
					return err
				}
			}
			if k += c; time.Now().After(end) {
				return fmt.Errorf("qp %#x: %d of 2 completions", me.qp.Num(), k)
			}
		}
		if !bytes.Equal(src[:size], src[size:]) {
			return fmt.Errorf("qp %#x round %d: memory differs", me.qp.Num(), n)
		}
	}
	return mr.Dereg()
}
