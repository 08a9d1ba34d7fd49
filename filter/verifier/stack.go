package verifier

// span is a range of stack bytes an access may touch, relative to R10.
type span struct {
	lo, hi int64 // lo <= offset < hi
	fixed  bool
}

// stackSpan checks that an access of size bytes stays in its frame, and accounts
// for the depth used.
func (v *verifier) stackSpan(p *reg, a access) (span, error) {
	verb := "read from"
	if a.write {
		verb = "write to"
	}
	off := int64(p.off) + int64(a.off)
	s := span{fixed: p.num.IsConst()}
	if s.fixed {
		s.lo = off + int64(p.num.Value())
		s.hi = s.lo + int64(a.size)
	} else {
		if p.num.SMin <= -maxVarOff || p.num.SMax >= maxVarOff {
			return s, v.denied("invalid unbounded variable-offset %s stack R%d", verb, a.n)
		}
		s.lo, s.hi = off+p.num.SMin, off+p.num.SMax+int64(a.size)
	}
	if s.lo < -stackSize || s.lo >= 0 && a.size > 0 || s.hi > 0 {
		if s.fixed {
			return s, v.denied("invalid %s stack R%d off=%d size=%d", verb, a.n, s.lo, a.size)
		}
		return s, v.denied("invalid variable-offset %s stack R%d var_off=%v off=%d size=%d", verb, a.n, p.num.Bits, s.lo, a.size)
	}
	f := v.cur.frames[p.frame]
	sub := &v.subprogs[f.subprog]
	sub.depth = max(sub.depth, int(-s.lo))
	if a.size > 0 {
		f.grow(slotOf(s.lo))
	}
	return s, nil
}

// slotOf returns the index of the slot that holds the byte at off, byteOf which
// of its bytes that is.
func slotOf(off int64) int { return int((-off - 1) / 8) }
func byteOf(off int64) int { return int(off & 7) }

// loadStack returns what a load from the stack yields; the caller truncates it.
func (v *verifier) loadStack(p *reg, a access) (reg, error) {
	sp, err := v.stackSpan(p, a)
	if err != nil {
		return reg{}, err
	}
	f := v.cur.frames[p.frame]
	if sp.fixed {
		// Aligned, so in one slot.
		s := &f.stack[slotOf(sp.lo)]
		v.track.read(s.live)
		if b := byteOf(sp.lo); s.spilled() && b < s.spillSize() {
			if s.reg.kind != number && (a.size != 8 || s.spillSize() != 8) {
				return reg{}, v.denied("invalid size of register fill")
			}
			if b == 0 && a.size <= s.spillSize() {
				return v.fill(s, a), nil
			}
		}
	}
	zero, node := true, int32(0)
	for o := sp.lo; o < sp.hi; o++ {
		s := &f.stack[slotOf(o)]
		v.track.read(s.live)
		switch s.bytes[byteOf(o)] {
		case slotZero:
		case slotSpill:
			if s.reg.isNull() {
				node = v.track.join(node, s.reg.node)
			} else {
				zero = false
			}
		case slotMisc, slotInvalid:
			zero = false
		default:
			return reg{}, v.denied("invalid read from stack off %d+%d size %d", sp.lo, o-sp.lo, a.size)
		}
	}
	if zero {
		r := constReg(0)
		r.node = node
		return r, nil
	}
	return unknownReg(), nil
}

// fill restores a spilled register, or its low bytes.
func (v *verifier) fill(s *slot, a access) reg {
	if s.reg.kind != number {
		return s.reg
	}
	whole := a.size == 8 || s.reg.num.UMax < 1<<(8*a.size)
	if whole && !a.signed {
		v.link(&s.reg)
	}
	r := s.reg
	if !whole || a.signed {
		r.id, r.delta = 0, 0
	}
	return r
}

// storeStack checks a store to the stack and carries it out.
func (v *verifier) storeStack(p *reg, a access, value *reg) error {
	sp, err := v.stackSpan(p, a)
	if err != nil {
		return err
	}
	f := v.cur.frames[p.frame]
	if value.isPtr() && sp.fixed {
		if a.size != 8 {
			return v.denied("invalid size of register spill")
		}
		if int(p.frame) != v.cur.top && value.kind == ptrStack {
			return v.invalid("cannot spill pointers to stack into stack frame of the caller")
		}
	}
	if err := v.destroyDynptrs(f, sp); err != nil {
		return err
	}
	if !sp.fixed {
		return v.scatter(f, sp, value)
	}
	s := &f.stack[slotOf(sp.lo)]
	if byteOf(sp.lo) == 0 {
		v.spill(s, value, a.size)
		return nil
	}
	s.scrub()
	k := slotMisc
	if value.isNull() {
		// These bytes are taken for zeros whatever happens to the number.
		v.track.need(value.node)
		k = slotZero
	}
	for o := sp.lo; o < sp.hi; o++ {
		s.bytes[byteOf(o)] = k
	}
	return nil
}

// spill stores the low size bytes of a register at the start of a slot.
func (v *verifier) spill(s *slot, value *reg, size int) {
	fits := size == 8 || value.kind == number && value.num.UMax < 1<<(8*size)
	if value.kind == number && fits {
		v.link(value)
	}
	old := s.bytes
	wasSpill := s.spilled()
	s.reg = *value
	if value.kind == number && !fits {
		s.reg.id, s.reg.delta = 0, 0
		s.reg.num.Load(size)
	}
	for n := range s.bytes {
		switch {
		case n < size:
			s.bytes[n] = slotSpill
		case wasSpill && old[n] == slotSpill || old[n] == slotIter:
			s.bytes[n] = slotMisc
		}
	}
	if size == 8 {
		s.live = 0 // whatever was there cannot be read any more
	}
	s.dyn = dynSlot{}
}

// scrub turns a spilled register into plain bytes.
func (s *slot) scrub() {
	for n, b := range s.bytes {
		if b == slotSpill || b == slotIter || b == slotDynptr {
			s.bytes[n] = slotMisc
		}
	}
	s.reg, s.dyn = reg{}, dynSlot{}
}

// scatter is a store somewhere into a span: each byte may have changed or not.
func (v *verifier) scatter(f *frame, sp span, value *reg) error {
	zero := value.isNull()
	if zero {
		v.track.need(value.node)
	}
	for o := sp.lo; o < sp.hi; o++ {
		s := &f.stack[slotOf(o)]
		if s.spilled() || s.bytes[0] == slotIter {
			if zero && s.spilled() && s.reg.isNull() {
				v.track.need(s.reg.node)
				for n, b := range s.bytes {
					if b == slotSpill {
						s.bytes[n] = slotZero
					}
				}
				s.reg = reg{}
			} else {
				s.scrub()
			}
		}
		if b := &s.bytes[byteOf(o)]; !(zero && *b == slotZero) {
			*b = slotMisc
		}
	}
	return nil
}

// useStack checks a helper's use of stack memory and applies its writes. fresh
// says that the helper writes size bytes, all of them, without reading.
func (v *verifier) useStack(p *reg, a access, fresh bool) error {
	sp, err := v.stackSpan(p, a)
	if err != nil || a.size == 0 {
		return err
	}
	f := v.cur.frames[p.frame]
	for o := sp.lo; o < sp.hi; o++ {
		s := &f.stack[slotOf(o)]
		switch b := s.bytes[byteOf(o)]; {
		case b == slotDynptr:
			if a.write {
				return v.denied("potential write to dynptr at off=%d disallowed", o)
			}
			return v.denied("invalid read from stack R%d off %d", a.n, o)
		case b == slotIter && !a.write:
			return v.denied("invalid read from stack R%d off %d", a.n, o)
		}
		if !(fresh && sp.fixed) {
			v.track.read(s.live)
		}
	}
	if !a.write {
		return nil
	}
	for o := sp.lo; o < sp.hi; o++ {
		s := &f.stack[slotOf(o)]
		if s.spilled() || s.bytes[0] == slotIter {
			s.scrub()
		}
		s.bytes[byteOf(o)] = slotMisc
		if fresh && sp.fixed && byteOf(o) == 0 && o+8 <= sp.hi {
			s.live = 0
		}
	}
	return nil
}

// constKey returns the constant that a 4-byte map key on the stack holds.
func (v *verifier) constKey(p *reg) (uint32, bool) {
	if p.kind != ptrStack || !p.num.IsConst() {
		return 0, false
	}
	off := p.constOff()
	f := v.cur.frames[p.frame]
	n := slotOf(off)
	if off >= 0 || off < -stackSize || off&3 != 0 || n >= len(f.stack) {
		return 0, false
	}
	s := &f.stack[n]
	b := byteOf(off)
	if b == 0 && s.spillSize() >= 4 && s.reg.kind == number && s.reg.num.IsConst32() {
		v.track.read(s.live)
		v.track.need(s.reg.node)
		return uint32(s.reg.num.Value()), true
	}
	for i := b; i < b+4; i++ {
		if s.bytes[i] != slotZero {
			return 0, false
		}
	}
	v.track.read(s.live)
	return 0, true
}
