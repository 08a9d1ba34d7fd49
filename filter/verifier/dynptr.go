package verifier

import "taproom/filter/helper"

// A struct bpf_dynptr fills two slots of the stack; programs may only touch it
// through helpers. The slot with the lower address is the first.

const dynptrSize = 16

// dynSlotAt returns the index of the first slot of the dynptr (size 16) or
// iterator (size 8) that r points at.
func (v *verifier) dynSlotAt(n uint8, r *reg, what string, size int64) (*frame, int, error) {
	if !r.num.IsConst() {
		return nil, 0, v.invalid("%s has to be at a constant offset", what)
	}
	off := r.constOff()
	if off%8 != 0 || off < -stackSize || off > -size {
		return nil, 0, v.invalid("cannot pass in %s at an offset=%d", what, off)
	}
	f := v.cur.frames[r.frame]
	v.subprogs[f.subprog].depth = max(v.subprogs[f.subprog].depth, int(-off))
	i := slotOf(off)
	f.grow(i)
	return f, i, nil
}

// useDynptr checks a helper's dynptr argument.
func (v *verifier) useDynptr(p *helper.Proto, n uint8, r *reg, arg helper.Arg, meta *callMeta) error {
	if arg.Flags&helper.Uninit != 0 {
		kind := dynLocal
		if arg.Flags&helper.RingDynptr != 0 {
			kind = dynRingbuf
		}
		if m := &v.cur.frame().regs[1]; p.ID == helper.DynptrFromMem && m.kind != ptrMapValue {
			return v.invalid("unsupported reg type %s for bpf_dynptr_from_mem data", m.typeName())
		}
		return v.makeDynptr(n, r, dynSlot{kind: kind})
	}
	d, err := v.dynptrAt(n, r)
	if err != nil {
		return err
	}
	if arg.Flags&helper.RingDynptr != 0 && d.kind != dynRingbuf {
		return v.invalid("expected a dynptr of type ringbuf as arg #%d", n)
	}
	copied := *d
	meta.dyn = &copied
	if arg.Flags&helper.Release != 0 {
		meta.release = d.ref
		v.forgetDynptrs(d.ref)
	}
	return nil
}

// dynptrAt returns the initialised dynptr that r points at.
func (v *verifier) dynptrAt(n uint8, r *reg) (*dynSlot, error) {
	if r.kind != ptrStack {
		return nil, v.invalid("arg#%d expected pointer to stack or const struct bpf_dynptr", n-1)
	}
	f, i, err := v.dynSlotAt(n, r, "dynptr", dynptrSize)
	if err != nil {
		return nil, err
	}
	a, b := &f.stack[i], &f.stack[i-1]
	if a.bytes[0] != slotDynptr || b.bytes[0] != slotDynptr || !a.dyn.first || b.dyn.first {
		return nil, v.invalid("expected an initialized dynptr as arg #%d", n)
	}
	v.track.read(a.live)
	v.track.read(b.live)
	return &a.dyn, nil
}

// makeDynptr puts a dynptr where r points. A ring buffer's must be given back.
func (v *verifier) makeDynptr(n uint8, r *reg, d dynSlot) error {
	if r.kind != ptrStack {
		return v.invalid("arg#%d expected pointer to stack", n-1)
	}
	f, i, err := v.dynSlotAt(n, r, "dynptr", dynptrSize)
	if err != nil {
		return err
	}
	off := -8 * int64(i+1)
	if err := v.destroyDynptrs(f, span{off, off + dynptrSize, true}); err != nil {
		return err
	}
	d.id, d.first = v.nextID(), true
	if d.kind == dynRingbuf && d.ref == 0 {
		d.ref = d.id
		v.cur.refs = append(v.cur.refs, resource{d.ref, v.pc})
	}
	for k, s := range []*slot{&f.stack[i], &f.stack[i-1]} {
		*s = slot{dyn: d}
		s.dyn.first = k == 0
		for b := range s.bytes {
			s.bytes[b] = slotDynptr
		}
	}
	return nil
}

// destroyDynptrs undoes dynptrs that a store to span overwrites.
func (v *verifier) destroyDynptrs(f *frame, sp span) error {
	for i := slotOf(sp.lo); i >= 0 && -8*int64(i+1) < sp.hi; i-- {
		if i >= len(f.stack) || f.stack[i].bytes[0] != slotDynptr {
			continue
		}
		d := f.stack[i].dyn
		if d.ref != 0 && v.countDynptrs(d.ref) < 2 {
			return v.invalid("cannot overwrite referenced dynptr")
		}
		v.forget(func(s *slot) bool { return s.dyn.id == d.id })
		v.killSlices(func(r *reg) bool { return r.dyn == d.id })
	}
	return nil
}

// eachDynptr calls fn for every slot that is part of a dynptr.
func (v *verifier) eachDynptr(fn func(s *slot)) {
	for i := 0; i <= v.cur.top; i++ {
		f := v.cur.frames[i]
		for n := range f.stack {
			if s := &f.stack[n]; s.bytes[0] == slotDynptr {
				fn(s)
			}
		}
	}
}

func (v *verifier) countDynptrs(ref uint32) (n int) {
	v.eachDynptr(func(s *slot) {
		if s.dyn.ref == ref && s.dyn.first {
			n++
		}
	})
	return n
}

// forget makes dynptrs plain bytes.
func (v *verifier) forget(match func(s *slot) bool) {
	v.eachDynptr(func(s *slot) {
		if match(s) {
			*s = slot{live: s.live}
		}
	})
}

// forgetDynptrs undoes a dynptr that was given back and all its clones.
func (v *verifier) forgetDynptrs(ref uint32) {
	v.forget(func(s *slot) bool { return s.dyn.ref == ref })
}

// killSlices makes numbers of memory got from dynptrs.
func (v *verifier) killSlices(match func(r *reg) bool) {
	v.cur.each(func(r *reg) {
		if r.kind == ptrMem && r.flags&sliced != 0 && match(r) {
			r.setUnknown()
		}
	})
}

// makeIter puts a number iterator where r points.
func (v *verifier) makeIter(n uint8, r *reg) error {
	f, i, err := v.iterSlot(n, r)
	if err != nil {
		return err
	}
	s := &f.stack[i]
	if s.bytes[0] == slotIter {
		return v.invalid("expected uninitialized iter_num as arg #%d", n-1)
	}
	off := -8 * int64(i+1)
	if err := v.destroyDynptrs(f, span{off, off + 8, true}); err != nil {
		return err
	}
	id := v.nextID()
	v.cur.refs = append(v.cur.refs, resource{id, v.pc})
	*s = slot{dyn: dynSlot{id: id, ref: id}}
	for b := range s.bytes {
		s.bytes[b] = slotIter
	}
	return nil
}

func (v *verifier) iterSlot(n uint8, r *reg) (*frame, int, error) {
	if r.kind != ptrStack {
		return nil, 0, v.invalid("arg#%d expected pointer to an iterator on stack", n-1)
	}
	return v.dynSlotAt(n, r, "iterator", 8)
}

// iterAt returns the slot of the live iterator that r points at.
func (v *verifier) iterAt(n uint8, r *reg) (*slot, error) {
	f, i, err := v.iterSlot(n, r)
	if err != nil {
		return nil, err
	}
	s := &f.stack[i]
	if s.bytes[0] != slotIter {
		return nil, v.invalid("expected an initialized iter_num as arg #%d", n-1)
	}
	v.track.read(s.live)
	return s, nil
}
