package rdma_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

var (
	modelRuns = flag.Int("model.runs", 1500, "random scenarios of TestModel")
	modelSeed = flag.Uint64("model.seed", 1, "first seed of TestModel")
)

// Layout of a side's region in the model: what the peer writes, what it only
// reads, where receives land, where sends come from and READs land.
const (
	mWrite, mStatic, mRecv, mLocal = 0, 64 << 10, 128 << 10, 512 << 10
	mSize                          = 1 << 20
	mSlot                          = 8 << 10 // of a receive
	mSlots                         = 40
)

// actor is one side of a scenario: it posts, and knows what must come of it.
type actor struct {
	*side
	peer   *actor
	rng    *rand.Rand
	shadow []byte // what the peer's mWrite area must hold when all is done
	fence  bool   // a READ of that area is not fenced off yet

	left     int // work requests still to post
	local    int // next free byte of mLocal
	posted   []want
	done     int // completions seen, among the signaled of posted
	messages [][]byte
	imms     []int64 // of the messages that take a receive; -1 without
	kinds    []bool  // true: WRITE with immediate data
	slots    []int   // receives posted, in order
	got      int     // receives completed
	slot     int
	late     bool // posts receives only now and then
}

// want is a posted work request and what its completion must be.
type want struct {
	id     uint64
	signal bool
	at     int
	data   []byte // READ: must be at mr[at:]
	old    uint64
	atomic bool
}

func TestModel(t *testing.T) {
	live := packet.Live()
	var total, failed int
	for i := range *modelRuns {
		seed := *modelSeed + uint64(i)
		if testing.Short() && i > 200 {
			break
		}
		total++
		if err := scenario(t, seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
			if failed++; failed > 3 {
				break
			}
		}
	}
	if n := packet.Live(); n != live {
		t.Errorf("%d packets were not released", n-live)
	}
	t.Logf("%d scenarios", total)
}

func pick[T any](r *rand.Rand, v ...T) T { return v[r.IntN(len(v))] }

func scenario(t *testing.T, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 99))
	clock := memport.NewClock()
	c := memport.Config{Clock: clock, Seed: seed, Delay: pick(rng, 0, time.Microsecond, 50*time.Microsecond), MaxRun: pick(rng, 1, 4, 64)}
	if rng.IntN(4) > 0 {
		c.Loss, c.Dup, c.Reorder, c.Corrupt = pick(rng, 0, 0.001, 0.02, 0.05), pick(rng, 0, 0.02), pick(rng, 0, 0.02, 0.1), pick(rng, 0, 0.01)
		c.Mark = pick(rng, 0, 0, 0.05)
		c.Jitter = pick(rng, 0, 20*time.Microsecond)
	}
	pa, pb := memport.NewPair(c)
	opts := func() rdma.Options {
		o := rdma.Options{LikeRxe: rng.IntN(3) == 0, FirstIPID: uint16(rng.Uint32()), TraceDepth: 32}
		o.Limits.MaxUnacked = pick(rng, 1, 3, 16, 128, 1000)
		return o
	}
	a := &actor{side: newSide(t, pa, opts(), rdma.RC, mSize), rng: rng}
	b := &actor{side: newSide(t, pb, opts(), rdma.RC, mSize), rng: rng}
	a.peer, b.peer = b, a
	psn := pick(rng, 0x1000, 0xfffff0, 0x7ffff8)
	attr := rdma.QPAttr{PathMTU: pick(rng, roce.MTU256, roce.MTU1024, roce.MTU4096), MaxRdAtomic: pick[uint8](rng, 1, 2, 16), Timeout: 10, RetryCnt: 7, RNRRetry: 7, MinRNRTimer: pick[uint8](rng, 1, 5, 12)}
	connectAt(t, a.side, b.side, attr, roce.PSN(psn))
	for _, x := range []*actor{a, b} {
		for i := range x.buf {
			x.buf[i] = byte(rng.Uint32())
		}
		x.left = rng.IntN(40)
		x.late = rng.IntN(3) == 0
	}
	a.shadow = append([]byte(nil), b.buf[:mStatic]...)
	b.shadow = append([]byte(nil), a.buf[:mStatic]...)
	for step := 0; ; step++ {
		moved := false
		for _, x := range []*actor{a, b} {
			if x.left > 0 && (rng.IntN(2) == 0 || step > 2000) {
				x.postSome()
				moved = true
			}
			x.postRecvs(step)
			if err := x.check(); err != nil {
				return err
			}
		}
		if !clock.Step() && !moved && a.left+b.left == 0 && a.settled() && b.settled() {
			break
		}
		if step > 400000 {
			return fmt.Errorf("no end: a %d of %d, b %d of %d\n%s", a.done, len(a.posted), b.done, len(b.posted), dump(a, b))
		}
	}
	return finish(a, b)
}

func dump(a, b *actor) (s string) {
	for _, x := range []*actor{a, b} {
		for _, l := range x.qp.Trace() {
			s += fmt.Sprintf("%#x %s\n", x.qp.Num(), l)
		}
	}
	return s
}

func finish(a, b *actor) error {
	for _, x := range []*actor{a, b} {
		if err := x.check(); err != nil {
			return err
		}
		if x.done != x.signals() {
			return fmt.Errorf("qp %#x: %d of %d completions; nothing happens any more\n%s", x.qp.Num(), x.done, x.signals(), dump(a, b))
		}
		if x.got != len(x.peer.messages) {
			return fmt.Errorf("qp %#x: %d of %d messages received", x.qp.Num(), x.got, len(x.peer.messages))
		}
		if !bytes.Equal(x.shadow, x.peer.buf[:mStatic]) {
			return fmt.Errorf("qp %#x: the peer's memory differs from the model", x.qp.Num())
		}
	}
	return a.close(b)
}

// close takes both sides down; everything must be free.
func (x *actor) close(y *actor) error {
	for _, s := range []*actor{x, y} {
		for _, f := range []func() error{s.qp.Destroy, s.mr.Dereg, s.cq.Destroy, s.pd.Dealloc, s.dev.Close} {
			if err := f(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *actor) signals() (n int) {
	for _, w := range x.posted {
		if w.signal {
			n++
		}
	}
	return n
}

func (x *actor) settled() bool { return x.done == x.signals() && x.got == len(x.peer.messages) }

// bytesAt takes n bytes of local memory that no other work request uses.
func (x *actor) bytesAt(n int) int {
	if x.local+n > mSize-mLocal {
		x.local = 0
	}
	off := mLocal + x.local
	x.local += (n + 7) &^ 7
	return off
}

func (x *actor) postSome() {
	var wrs []rdma.SendWR
	for n := min(x.left, 1+x.rng.IntN(8)); n > 0; n-- {
		wrs = append(wrs, x.request())
		x.left--
	}
	// Signal the last, so that the end is seen.
	wrs[len(wrs)-1].Flags |= rdma.Signaled
	x.posted[len(x.posted)-1].signal = true
	if n, err := x.qp.PostSend(wrs...); err != nil || n != len(wrs) {
		panic(fmt.Sprint(n, err))
	}
}

// request makes a random work request and does it to the model.
func (x *actor) request() rdma.SendWR {
	r := x.rng
	id := uint64(len(x.posted))
	wr := rdma.SendWR{ID: id, RKey: x.peer.mr.RKey()}
	w := want{id: id}
	if r.IntN(2) == 0 {
		wr.Flags, w.signal = rdma.Signaled, true
	}
	size := pick(r, 0, 1, 7, 64, 255, 256, 1024, 1025, 4096, 5000, 8000)
	off := r.IntN(mStatic/8-size/8) * 8
	modifies := func() {
		if x.fence {
			wr.Flags |= rdma.Fence
			x.fence = false
		}
	}
	switch k := r.IntN(9); k {
	case 0, 1, 2, 3: // SEND, SEND_IMM, WRITE, WRITE_IMM
		at := x.bytesAt(size)
		data := x.buf[at : at+size]
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		wr.SGList = x.split(at, size)
		wr.Opcode = pick(r, rdma.WRSend, rdma.WRSendImm)
		if k >= 2 {
			wr.Opcode = pick(r, rdma.WRWrite, rdma.WRWriteImm)
			wr.RemoteAddr = x.peer.mr.Addr() + uint64(off)
			modifies()
			copy(x.shadow[off:], data)
		}
		if wr.Opcode != rdma.WRWrite {
			imm := int64(-1)
			if wr.Opcode != rdma.WRSend {
				wr.Imm = r.Uint32()
				imm = int64(wr.Imm)
			}
			x.messages = append(x.messages, append([]byte(nil), data...))
			x.imms, x.kinds = append(x.imms, imm), append(x.kinds, k >= 2)
		}
	case 4, 5: // READ of either area
		at := x.bytesAt(size)
		wr.Opcode, wr.SGList, w.at = rdma.WRRead, x.split(at, size), at
		if r.IntN(2) == 0 {
			wr.RemoteAddr = x.peer.mr.Addr() + uint64(off)
			w.data = append([]byte(nil), x.shadow[off:off+size]...)
			x.fence = true
		} else {
			wr.RemoteAddr = x.peer.mr.Addr() + mStatic + uint64(off)
			w.data = append([]byte(nil), x.peer.buf[mStatic+off:mStatic+off+size]...)
		}
	case 6: // atomics
		at := x.bytesAt(8)
		wr.SGList = x.split(at, 8)
		off = r.IntN(4) * 8
		wr.RemoteAddr = x.peer.mr.Addr() + uint64(off)
		modifies()
		w.at, w.atomic, w.old = at, true, binary.NativeEndian.Uint64(x.shadow[off:])
		wr.CompareAdd, wr.Swap = w.old+uint64(r.IntN(2)), r.Uint64()
		if wr.Opcode = pick(r, rdma.WRFetchAdd, rdma.WRCompareSwap); wr.Opcode == rdma.WRFetchAdd {
			binary.NativeEndian.PutUint64(x.shadow[off:], w.old+wr.CompareAdd)
		} else if wr.CompareAdd == w.old {
			binary.NativeEndian.PutUint64(x.shadow[off:], wr.Swap)
		}
	case 7: // ATOMIC_WRITE
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], r.Uint64())
		wr.Opcode, wr.Inline, wr.RemoteAddr = rdma.WRAtomicWrite, b[:], x.peer.mr.Addr()+uint64(off)
		wr.Flags |= rdma.Inline
		modifies()
		copy(x.shadow[off:], b[:])
	case 8:
		wr.Opcode, wr.Placement, wr.FlushLength, wr.RemoteAddr = rdma.WRFlush, roce.PlaceVisible, uint32(size), x.peer.mr.Addr()
	}
	x.posted = append(x.posted, w)
	return wr
}

// split cuts a piece of local memory into up to four SGEs.
func (x *actor) split(at, n int) (s []rdma.SGE) {
	for len(s) < 3 && n > 1 && x.rng.IntN(2) == 0 {
		k := 1 + x.rng.IntN(n-1)
		s = append(s, x.mr.SGE(at, k))
		at, n = at+k, n-k
	}
	if n > 0 {
		s = append(s, x.mr.SGE(at, n))
	}
	return s
}

func (x *actor) postRecvs(step int) {
	if x.late && step%50 != 0 && x.rng.IntN(100) > 0 {
		return
	}
	for len(x.slots)-x.got < mSlots-1 && len(x.slots) < len(x.peer.messages)+8 {
		x.slots = append(x.slots, x.slot)
		if _, err := x.qp.PostRecv(rdma.RecvWR{ID: uint64(len(x.slots) - 1), SGList: x.split(mRecv+x.slot*mSlot, mSlot)}); err != nil {
			panic(err)
		}
		x.slot = (x.slot + 1) % mSlots
	}
}

// check compares new completions with the model.
func (x *actor) check() error {
	var wcs [32]rdma.WC
	for {
		n, err := x.cq.Poll(wcs[:])
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for _, wc := range wcs[:n] {
			if err := wc.Err(); err != nil {
				return fmt.Errorf("%w\n%s", err, dump(x, x.peer))
			}
			if wc.Opcode >= rdma.WCRecv {
				err = x.received(&wc)
			} else {
				err = x.completed(&wc)
			}
			if err != nil {
				return fmt.Errorf("%w\n%s", err, dump(x, x.peer))
			}
		}
	}
}

func (x *actor) received(wc *rdma.WC) error {
	i := x.got
	x.got++
	msg, imm := x.peer.messages[i], x.peer.imms[i]
	switch {
	case wc.ID != uint64(i):
		return fmt.Errorf("qp %#x: receive %d completed, expected %d", wc.QPN, wc.ID, i)
	case int(wc.ByteLen) != len(msg):
		return fmt.Errorf("qp %#x: message %d has %d bytes, want %d", wc.QPN, i, wc.ByteLen, len(msg))
	case imm >= 0 && (wc.Flags&rdma.WCWithImm == 0 || int64(wc.Imm) != imm):
		return fmt.Errorf("qp %#x: message %d: immediate %#x, want %#x", wc.QPN, i, wc.Imm, imm)
	case x.peer.kinds[i] != (wc.Opcode == rdma.WCRecvImm):
		return fmt.Errorf("qp %#x: message %d is %v", wc.QPN, i, wc.Opcode)
	}
	at := mRecv + x.slots[i]*mSlot
	if !x.peer.kinds[i] && !bytes.Equal(x.buf[at:at+len(msg)], msg) {
		return fmt.Errorf("qp %#x: message %d differs", wc.QPN, i)
	}
	return nil
}

func (x *actor) completed(wc *rdma.WC) error {
	n := 0
	for i := range x.posted {
		w := &x.posted[i]
		if !w.signal {
			continue
		}
		if n++; n <= x.done {
			continue
		}
		x.done++
		if wc.ID != w.id {
			return fmt.Errorf("qp %#x: %d completed, expected %d", wc.QPN, wc.ID, w.id)
		}
		if w.data != nil && !bytes.Equal(x.buf[w.at:w.at+len(w.data)], w.data) {
			return fmt.Errorf("qp %#x: READ %d brought other bytes than the model's", wc.QPN, wc.ID)
		}
		if w.atomic && binary.NativeEndian.Uint64(x.buf[w.at:]) != w.old {
			return fmt.Errorf("qp %#x: atomic %d brought %#x, model %#x", wc.QPN, wc.ID, binary.NativeEndian.Uint64(x.buf[w.at:]), w.old)
		}
		return nil
	}
	return fmt.Errorf("qp %#x: completion of %d, none was expected", wc.QPN, wc.ID)
}
