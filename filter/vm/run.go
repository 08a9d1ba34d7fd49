package vm

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"taproom/filter/maps"
	"taproom/filter/vm/jit"
	"taproom/stack/packet"
)

const (
	maxDepth = jit.Frames - 2 // nested calls of one run
	// maxLoops is how often one run may pass may_goto (BPF_MAX_LOOPS).
	maxLoops = 8 << 20
)

// frame is what an interpreted call returns to.
type frame struct {
	prog  *Prog
	pc    int
	saved [5]uint64 // R6 to R10
}

// Run is a place for one program to run at a time. It is not safe for concurrent
// use; Acquire hands out different ones.
type Run struct {
	st                  *jit.State
	busy                atomic.Uint32
	stackTop, nativeTop uint64 // of an empty stack
	native              bool   // the program that runs is compiled: trust its pointers
	kind                ctxKind
	dirty               bool  // an interpreted program has written to the context
	cur                 *Prog // whose map handles are in use
	depth               int
	frames              [maxDepth]frame

	pkt    region    // linear part of the packet
	extra  regions   // map values, records and other memory handed out in this run
	inner  []*handle // maps found in maps, by this run or earlier ones
	skb    *packet.Packet
	env    Env
	err    error // set by a helper to stop the run
	rings  []record
	encap  bool  // the program has put an outer header around the packet
	levels uint8 // checksums verified beyond the first
	nf     netfilterCtx
	xdp    xdpCtx
	socks  []*sockMem // found in this run
	print  []byte     // scratch of the formatting helpers
	// scratch holds bytes that a helper gathers from a packet in pieces.
	scratch []byte
}

// record is a ring buffer record that the program has reserved.
type record struct {
	m      *maps.Map
	sample []byte
}

var slots = newSlots()

func newSlots() []*Run {
	s := make([]*Run, maps.NumCPU())
	for i := range s {
		s[i] = newRun(i)
	}
	return s
}

func newRun(cpu int) *Run {
	r := &Run{st: new(jit.State)}
	r.st.CPU = uint64(cpu)
	r.st.CtxAddr = uint64(uintptr(unsafe.Pointer(&r.st.Ctx)))
	r.stackTop, r.nativeTop = r.st.StackTop(), r.st.NativeTop()
	return r
}

// Acquire returns a Run that nobody else has, with a CPU slot of its own. If all
// are taken it waits for one; if that lasts, because the holders wait for the
// caller, it makes one that shares a slot.
func Acquire() *Run {
	for spins := 0; spins < 1000; spins++ {
		for _, r := range slots {
			if r.busy.Load() == 0 && r.busy.CompareAndSwap(0, 1) {
				return r
			}
		}
		runtime.Gosched()
	}
	return newRun(0)
}

// Release gives the Run back.
func (r *Run) Release() {
	r.skb, r.env, r.cur, r.xdp = nil, nil, nil, xdpCtx{}
	r.pkt = region{}
	r.busy.Store(0)
}

// quiesce returns after every Run has been idle at some moment since the call.
func quiesce() {
	for _, r := range slots {
		for !r.busy.CompareAndSwap(0, 1) {
			runtime.Gosched()
		}
		r.busy.Store(0)
	}
}

// start runs p from its first instruction; the context is ready.
func (r *Run) start(p *Prog) (uint64, error) {
	st := r.st
	st.Budget, st.TailCalls, st.Loops = p.budget, 0, maxLoops
	st.Regs[1], st.Regs[10] = st.CtxAddr, r.stackTop
	r.cur, r.depth, r.dirty = p, 0, false
	var v uint64
	var err error
	if n := p.native; n != nil {
		r.native = true
		st.SP, st.Resume = r.nativeTop, uint64(n.entry)
		if jit.Enter(st) == jit.Done {
			v = st.Regs[0]
		} else {
			v, err = r.serve(jit.Done)
		}
	} else {
		r.native = false
		v, err = r.interpret(p, 0)
	}
	if len(r.extra.list)+len(r.rings)+len(r.inner)+len(r.socks) != 0 || r.err != nil {
		r.tidy()
	}
	return v, err
}

// tidy forgets what a run has handed out. Records that a program stopped by a fault
// had reserved are discarded, or the ring's reader would wait for them for ever.
func (r *Run) tidy() {
	for _, rec := range r.rings {
		rec.m.Discard(rec.sample, maps.RingNoWakeup)
	}
	clear(r.rings)
	r.rings = r.rings[:0]
	clear(r.socks)
	r.socks = r.socks[:0]
	r.extra.reset()
	if len(r.inner) > maxInnerCache {
		clear(r.inner) // the maps may be gone
		r.inner = r.inner[:0]
	}
	r.err = nil
}

// reach returns a pointer to n bytes at address a if the program may read, or
// write, all of them. Context memory is not reached this way.
func (r *Run) reach(a, n uint64, write bool) unsafe.Pointer {
	if p := r.pkt.at(a, n); p != nil {
		if write && !r.pkt.write {
			return nil
		}
		return p
	}
	st := r.st
	low := st.Regs[10] - jit.FrameSize
	if o := a - low; o < r.stackTop-low && r.stackTop-low-o >= n {
		return unsafe.Add(unsafe.Pointer(st), a-uint64(uintptr(unsafe.Pointer(st))))
	}
	if g := r.extra.find(a, n); g != nil && (g.write || !write) {
		return g.at(a, n)
	}
	if r.cur != nil {
		s := &r.cur.static
		if i := s.search(a); i >= 0 && (s.list[i].write || !write) {
			return s.list[i].at(a, n)
		}
	}
	return nil
}

// load reads n bytes for an interpreted load that missed the fast paths.
func (r *Run) load(a, n uint64) (uint64, bool) {
	if o := a - r.st.CtxAddr; o < jit.CtxSize && r.kind != ctxNone {
		return r.loadCtx(o, n)
	}
	if p := r.reach(a, n, false); p != nil {
		return rawLoad(p, n), true
	}
	if r.kind == ctxNetfilter && a < 4096 {
		return 0, true // kernel structures may hold NULL; Linux reads 0 there
	}
	return 0, false
}

func (r *Run) store(a, n, v uint64) bool {
	if o := a - r.st.CtxAddr; o < jit.CtxSize && r.kind != ctxNone {
		return r.storeCtx(o, n, v)
	}
	p := r.reach(a, n, true)
	if p != nil {
		rawStore(p, n, v)
	}
	return p != nil
}

// mem gives a helper n bytes at address a, nil (and the run stopped) if they are not
// the program's. Compiled programs have been verified and are believed.
func (r *Run) mem(a, n uint64, write bool) []byte {
	switch {
	case n == 0:
		return empty
	case r.native:
		return unsafe.Slice((*byte)(pointer(a)), n)
	}
	p := r.reach(a, n, write)
	if p == nil {
		r.fail(fmt.Errorf("%w: a helper is given %d bytes at %#x", ErrAccess, n, a))
		return nil
	}
	return unsafe.Slice((*byte)(p), n)
}

// empty is a slice of no bytes that is not nil.
var empty = []byte{}

// pointer turns an address that a verified program computed into a pointer. The
// memory is outside the Go heap, or kept alive by the Run.
func pointer(a uint64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

// fail stops the run; the first reason counts.
func (r *Run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// grant lets the program use b until the run ends.
func (r *Run) grant(b []byte, write bool) uint64 {
	g := regionOf(b, write)
	if !r.native {
		r.extra.add(g)
	}
	return g.base
}

// badAccess is the error for a memory operation that was refused.
func (r *Run) badAccess(p *Prog, pc int) error {
	in := &p.code.Insns[pc]
	reg := in.Dst
	if in.Op.IsLoad() {
		reg = in.Src
	}
	if in.Op.Width() == 0 {
		return p.fault(pc, -1, 0, ErrInsn)
	}
	base := r.st.Regs[reg&15]
	return p.fault(pc, int(reg), base, accessErr(in, base+uint64(int64(in.Off))))
}

// Memory runs a program that has no context (type Unspec) on a piece of memory: R1 is
// its address and R2 its length, both 0 without memory.
func (r *Run) Memory(p *Prog, mem []byte) (uint64, error) {
	r.skb, r.env, r.kind = nil, nil, ctxNone
	r.pkt = region{}
	st := r.st
	st.CtxAddr = 0
	defer func() { st.CtxAddr = addressOf(st.Ctx[:]) }()
	st.Regs[2] = uint64(len(mem))
	if len(mem) > 0 {
		r.pkt = regionOf(mem, true)
		st.CtxAddr = r.pkt.base
	}
	return r.start(p)
}
