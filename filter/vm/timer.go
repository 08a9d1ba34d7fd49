package vm

import (
	"sync"
	"syscall"
	"time"
	"unsafe"

	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/filter/vm/jit"
	"taproom/stack/packet"
)

func init() {
	helpers[helper.TimerInit] = timerInit
	helpers[helper.TimerSetCallback] = timerSetCallback
	helpers[helper.TimerStart] = timerStart
	helpers[helper.TimerCancel] = timerCancel
}

// timer is a bpf_timer: the field in the map value is only its address.
//
//	        set_callback            start
//	init ─────────────────▶ ready ─────────▶ armed
//	                          ▲                │ fires, or cancel
//	                          └────────────────┘
//
// From any of them it is gone when its value leaves the map, or the map's last user
// reference goes.
type timer struct {
	mu    sync.Mutex // guards all below
	m     *maps.Map
	value uint64 // address of the map value
	prog  *Prog  // nil: no callback yet
	fn    uint64
	clock *time.Timer
	armed uint64 // number of the start that counts; 0: not armed
	seq   uint64
	gone  bool
}

// timers holds all that were initialised, by the address of their field.
var timers sync.Map // uint64 -> *timer

const (
	timerAbsolute = 1
	timerCPUPin   = 2
	clockMono     = 1
	clockBoot     = 7
)

func timerInit(r *Run, field, handle, clock, _, _ uint64) uint64 {
	m := r.mapOf(handle)
	if m == nil || r.mem(field, 16, true) == nil {
		return 0
	}
	if clock != 0 && clock != clockMono && clock != clockBoot || m.Spec().Timer == 0 {
		return eInval
	}
	off := uint64(m.Spec().Timer - 1)
	m.OnDrop(func(value []byte) { dropTimer(addressOf(value) + off) })
	t := &timer{m: m, value: field - off}
	if _, taken := timers.LoadOrStore(field, t); taken {
		return errno(syscall.EBUSY)
	}
	if !m.InUse() { // the map has already been emptied of timers, or this one is seen
		dropTimer(field)
		return errno(syscall.EPERM)
	}
	return 0
}

// dropTimer cancels the timer at an address for good, if there is one. A callback that
// has begun runs to its end.
func dropTimer(field uint64) {
	v, ok := timers.LoadAndDelete(field)
	if !ok {
		return
	}
	t := v.(*timer)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed, t.gone = 0, true
	if t.clock != nil {
		t.clock.Stop()
	}
	if t.prog != nil {
		t.prog.Release()
		t.prog = nil
	}
}

func timerAt(field uint64) *timer {
	if v, ok := timers.Load(field); ok {
		return v.(*timer)
	}
	return nil
}

func timerSetCallback(r *Run, field, fn, _, _, _ uint64) uint64 {
	t := timerAt(field)
	if t == nil {
		return eInval
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.gone:
		return eInval
	case !t.m.InUse():
		return errno(syscall.EPERM)
	}
	r.cur.Hold()
	if t.prog != nil {
		t.prog.Release()
	}
	t.prog, t.fn = r.cur, fn
	return 0
}

func timerStart(r *Run, field, ns, flags, _, _ uint64) uint64 {
	t := timerAt(field)
	if t == nil || flags&^(timerAbsolute|timerCPUPin) != 0 {
		return eInval
	}
	if flags&timerAbsolute != 0 {
		ns -= min(ns, r.now(Monotonic))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.prog == nil {
		return eInval
	}
	if t.clock != nil {
		t.clock.Stop()
	}
	t.seq++
	n := t.seq
	t.armed = n
	t.clock = time.AfterFunc(time.Duration(min(ns, 1<<62)), func() { t.fire(n) })
	return 0
}

func timerCancel(_ *Run, field, _, _, _, _ uint64) uint64 {
	t := timerAt(field)
	if t == nil {
		return eInval
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.armed != 0
	t.armed = 0
	if t.clock != nil {
		t.clock.Stop()
	}
	return truth(was)
}

// fire runs the callback, unless the timer was started again or cancelled meanwhile.
// Nothing hears of a callback that fails.
func (t *timer) fire(n uint64) {
	t.mu.Lock()
	if t.armed != n { // never of one that is gone
		t.mu.Unlock()
		return
	}
	t.armed = 0
	p, fn := t.prog, t.fn
	p.Hold()
	t.mu.Unlock()
	defer p.Release()
	r := Acquire()
	defer r.Release()
	// A callback has no packet; helpers that want one find an empty one.
	pk := packet.Alloc(0)
	defer pk.Release()
	r.skb, r.kind, r.env = pk, p.kind, nil
	r.xdp = xdpCtx{pk: pk}
	r.setPacket(nil)
	st := r.st
	st.Budget, st.TailCalls, st.Loops = p.budget, 0, maxLoops
	st.SP, st.Regs[10] = r.nativeTop, r.stackTop+jit.FrameSize
	r.cur, r.depth, r.native = p, 0, p.native != nil
	key, value, handle := t.element(r)
	if key != 0 {
		_, _ = r.invoke(fn, handle, key, value, 0, 0)
	}
	r.tidy()
}

// element returns what the callback is told: the addresses of key and value, and the
// map. The key of an array's element is made up, that of a hash's lies before the value.
func (t *timer) element(r *Run) (key, value, handle uint64) {
	handle = r.innerHandle(t.m)
	l := t.m.Layout()
	v := pointer(t.value)
	r.grant(unsafe.Slice((*byte)(v), t.m.ValueSize()), true)
	switch l.Kind {
	case maps.LayoutArray:
		r.st.Spare[1] = (t.value - uint64(l.Base)) / uint64(l.Stride)
		return r.grant(unsafe.Slice((*byte)(unsafe.Pointer(&r.st.Spare[1])), 4), false), t.value, handle
	case maps.LayoutHash:
		k := unsafe.Add(v, int(l.KeyOff)-int(l.ValueOff))
		return r.grant(unsafe.Slice((*byte)(k), t.m.KeySize()), false), t.value, handle
	}
	return 0, 0, 0
}
