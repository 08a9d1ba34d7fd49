package verifier

// slotKind is what one byte of stack holds.
type slotKind uint8

const (
	slotInvalid slotKind = iota // nothing was written yet
	slotSpill                   // part of a spilled register
	slotMisc                    // some number
	slotZero                    // zero
	slotDynptr                  // part of a struct bpf_dynptr
	slotIter                    // part of a struct bpf_iter_num
)

// slot is 8 bytes of stack. bytes[0] has the lowest address; slot n starts at
// R10 - 8*(n+1).
type slot struct {
	bytes [8]slotKind
	live  int32 // track.go: marked if a later read depends on what is in it
	// reg is the spilled register, or describes the dynptr or iterator.
	reg reg
	dyn dynSlot
}

// dynSlot describes a dynptr (two slots) or an iterator (one slot).
type dynSlot struct {
	kind     dynKind
	first    bool
	readOnly bool
	id       uint32 // identity: slices die with it
	ref      uint32 // 0 if nothing must be released
	depth    uint32 // iterations, iterators only
	drained  bool   // iterator: next returned NULL
}

type dynKind uint8

const (
	dynNone dynKind = iota
	dynLocal
	dynRingbuf
	dynSKB
	dynXDP
)

// frame is one function activation.
type frame struct {
	regs     [11]reg
	stack    []slot
	callsite int // slot of the call that made it
	subprog  int
	// callback frames
	callback  bool
	async     bool
	retMin    int64 // what the callback may return
	retMax    int64
	callDepth uint32 // how often a callback was called from here in a row
}

// resource is something that must be given back before the program ends.
type resource struct {
	id   uint32
	insn int
}

// lockState says which spin lock is held.
type lockState struct {
	held bool
	m    *mapInfo
	id   uint32 // register id of the element, 0 for direct map values
}

// state is the machine at one point of one path.
type state struct {
	frames [maxFrames]*frame
	top    int // index of the innermost frame
	refs   []resource
	lock   lockState
	rcu    int

	parent   *state // saved state that the path came through last
	branches int    // paths from here that are not finished
	pc       int    // of a saved state
	next     *state // saved states of one slot
	hits     int
	misses   int

	mayGoto  uint32 // depth of may_goto loops
	unrolled uint32 // iterations of callbacks, for telling endless loops apart
	path     int    // instructions since entry
	retired  bool   // taken off its list but still someone's parent

	// openUntil is the unfinished state that a path through this one ended at:
	// until that one is finished, what matters of this one is not all known.
	openUntil *state
	target    bool // is some state's openUntil
}

func (s *state) frame() *frame { return s.frames[s.top] }

func (v *verifier) newFrame() *frame {
	if n := len(v.freeFrames); n > 0 {
		f := v.freeFrames[n-1]
		v.freeFrames = v.freeFrames[:n-1]
		return f
	}
	return new(frame)
}

func (v *verifier) dropFrame(f *frame) { v.freeFrames = append(v.freeFrames, f) }

// copyFrame makes dst equal to src without sharing memory.
func copyFrame(dst, src *frame) {
	st := dst.stack
	*dst = *src
	dst.stack = append(st[:0], src.stack...)
}

// clone returns a copy of s with the same parent and no successors.
func (v *verifier) clone(s *state) *state {
	var d *state
	if n := len(v.freeStates); n > 0 {
		d = v.freeStates[n-1]
		v.freeStates = v.freeStates[:n-1]
	} else {
		d = new(state)
	}
	refs := d.refs
	*d = *s
	d.refs = append(refs[:0], s.refs...)
	d.branches, d.hits, d.misses, d.next, d.retired = 0, 0, 0, nil, false
	d.openUntil, d.target = nil, false
	for i := 0; i <= s.top; i++ {
		f := v.newFrame()
		copyFrame(f, s.frames[i])
		d.frames[i] = f
	}
	for i := s.top + 1; i < maxFrames; i++ {
		d.frames[i] = nil
	}
	return d
}

// drop returns a state's memory to the pool.
func (v *verifier) drop(s *state) {
	if s.target {
		return // still pointed at
	}
	for i := 0; i <= s.top; i++ {
		if s.frames[i] != nil {
			v.dropFrame(s.frames[i])
			s.frames[i] = nil
		}
	}
	s.parent = nil
	v.freeStates = append(v.freeStates, s)
}

// reset prepares a fresh frame for a call.
func (f *frame) reset(callsite, subprog int) {
	st := f.stack
	*f = frame{stack: st[:0], callsite: callsite, subprog: subprog}
}

// grow makes slots up to index n exist.
func (f *frame) grow(n int) {
	for len(f.stack) <= n {
		f.stack = append(f.stack, slot{})
	}
}

// each calls fn for every register of every frame, spilled ones included.
func (s *state) each(fn func(r *reg)) {
	for i := 0; i <= s.top; i++ {
		f := s.frames[i]
		for n := range f.regs {
			fn(&f.regs[n])
		}
		for n := range f.stack {
			if f.stack[n].spilled() {
				fn(&f.stack[n].reg)
			}
		}
	}
}

// spilled reports whether the slot holds a register, whole or its low bytes.
func (s *slot) spilled() bool { return s.bytes[0] == slotSpill }

// spillSize is how many low bytes of the slot belong to the spilled register.
func (s *slot) spillSize() int {
	n := 0
	for n < 8 && s.bytes[n] == slotSpill {
		n++
	}
	return n
}

func (s *state) hasRef(id uint32) bool {
	for _, r := range s.refs {
		if r.id == id {
			return true
		}
	}
	return false
}

func (s *state) removeRef(id uint32) bool {
	for i, r := range s.refs {
		if r.id == id {
			s.refs = append(s.refs[:i], s.refs[i+1:]...)
			return true
		}
	}
	return false
}
