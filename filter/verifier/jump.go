package verifier

import (
	"taproom/filter/ebpf"
	"taproom/filter/verifier/scalar"
)

// stepJump executes an instruction of class JMP or JMP32.
func (v *verifier) stepJump(in ebpf.Insn) (end bool, err error) {
	switch {
	case in.Op == ebpf.OpCall:
		switch in.Src() {
		case ebpf.PseudoCall:
			return v.callLocal(in)
		case ebpf.PseudoKfunc:
			err = v.callKfunc(in)
		default:
			return v.callHelper(in)
		}
		v.pc++
		return false, err
	case in.Op == ebpf.OpExit:
		return v.stepExit()
	case in.Op == ebpf.OpJa || in.Op == ebpf.OpJaLong:
		v.pc, _ = jumpTarget(v.pc, in)
		return false, nil
	case in.ALUOp() == ebpf.JmpCond:
		return false, v.stepMayGoto(in)
	}
	return false, v.stepBranch(in)
}

// stepBranch follows a conditional jump, both ways unless it is decided.
func (v *verifier) stepBranch(in ebpf.Insn) error {
	if _, err := v.read(in.Dst()); err != nil {
		return err
	}
	if in.SrcReg() {
		if _, err := v.read(in.Src()); err != nil {
			return err
		}
	}
	f := v.cur.frame()
	dst := &f.regs[in.Dst()]
	src := &v.scratch.operand
	if in.SrcReg() {
		src = &f.regs[in.Src()]
	} else {
		src.set(uint64(int64(in.Imm)))
	}
	wide := in.Class() == ebpf.ClassJMP
	target, _ := jumpTarget(v.pc, in)
	fact := &v.facts[v.pc].Branch
	switch v.decide(in, dst, src, wide) {
	case scalar.Always:
		*fact |= Jumps
		v.needBoth(dst, src)
		v.pc = target
		return nil
	case scalar.Never:
		*fact |= FallsThrough
		v.needBoth(dst, src)
		v.pc++
		return nil
	}
	*fact |= Jumps | FallsThrough
	if dst.kind == number && src.kind == number && (in.SrcReg() || dst.id != 0) {
		// Each is narrowed by the other's bounds from here on.
		n := v.track.join(dst.node, src.node)
		dst.node = n
		if in.SrcReg() {
			src.node = n
		}
	}
	other, err := v.fork(target)
	if err != nil {
		return err
	}
	v.learn(in, v.cur, wide, false)
	v.learn(in, other, wide, true)
	v.pc++
	return nil
}

func (v *verifier) needBoth(a, b *reg) {
	if a.kind == number {
		v.track.need(a.node)
	}
	if b.kind == number {
		v.track.need(b.node)
	}
}

// decide tells whether the condition is known.
func (v *verifier) decide(in ebpf.Insn, dst, src *reg, wide bool) scalar.Outcome {
	op := in.ALUOp()
	switch {
	case dst.kind == number && src.kind == number:
		return scalar.Decide(op, &dst.num, &src.num, wide)
	case !wide:
		return scalar.Maybe
	case dst.isPtr() && src.isNull() || src.isPtr() && dst.isNull():
		p := dst
		if src.isPtr() {
			p = src
		}
		if p.notNull() {
			switch op {
			case ebpf.JmpEq:
				return scalar.Never
			case ebpf.JmpNE:
				return scalar.Always
			}
		}
	case dst.kind == ptrPacket && src.kind == ptrPacketEnd:
		return decidePacket(dst, op)
	case src.kind == ptrPacket && dst.kind == ptrPacketEnd:
		return decidePacket(src, flip(op))
	}
	return scalar.Maybe
}

// flip swaps the sides of a comparison.
func flip(op uint8) uint8 {
	switch op {
	case ebpf.JmpGT:
		return ebpf.JmpLT
	case ebpf.JmpLT:
		return ebpf.JmpGT
	case ebpf.JmpGE:
		return ebpf.JmpLE
	case ebpf.JmpLE:
		return ebpf.JmpGE
	}
	return op
}

// decidePacket decides "pkt op end" for a pointer known to be past the end.
func decidePacket(pkt *reg, op uint8) scalar.Outcome {
	if pkt.rng >= 0 {
		return scalar.Maybe
	}
	beyond := pkt.rng == beyondEnd
	switch {
	case op == ebpf.JmpGT && beyond, op == ebpf.JmpGE:
		return scalar.Always
	case op == ebpf.JmpLE && beyond, op == ebpf.JmpLT:
		return scalar.Never
	}
	return scalar.Maybe
}

// learn narrows state s by the outcome of a comparison.
func (v *verifier) learn(in ebpf.Insn, s *state, wide, holds bool) {
	f := s.frame()
	op := in.ALUOp()
	dst := &f.regs[in.Dst()]
	if !in.SrcReg() {
		if dst.kind == number {
			imm := scalar.Const(uint64(int64(in.Imm)))
			v.refine(s, op, dst, nil, &dst.num, &imm, wide, holds)
		} else if dst.isPtr() && in.Imm == 0 && wide && (op == ebpf.JmpEq || op == ebpf.JmpNE) {
			v.learnNull(s, dst, (op == ebpf.JmpEq) == holds)
		}
		return
	}
	src := &f.regs[in.Src()]
	switch {
	case dst.kind == number && src.kind == number:
		if dst == src {
			return
		}
		v.refine(s, op, dst, src, &dst.num, &src.num, wide, holds)
	case !wide:
	case dst.isPacket() || src.isPacket():
		v.learnPacket(s, op, dst, src, holds)
	case op == ebpf.JmpEq || op == ebpf.JmpNE:
		if (op == ebpf.JmpEq) != holds {
			if dst.isPtr() && src.isNull() {
				v.learnNull(s, dst, false)
			} else if src.isPtr() && dst.isNull() {
				v.learnNull(s, src, false)
			}
			return
		}
		switch {
		case dst.isPtr() && src.isNull():
			v.learnNull(s, dst, true)
		case src.isPtr() && dst.isNull():
			v.learnNull(s, src, true)
		case dst.maybeNull() && src.isPtr() && src.notNull() && src.kind != ptrKernel:
			v.learnNull(s, dst, false)
		case src.maybeNull() && dst.isPtr() && dst.notNull() && dst.kind != ptrKernel:
			v.learnNull(s, src, false)
		}
	}
}

// refine narrows two numbers and their links. src is nil for an immediate.
func (v *verifier) refine(s *state, op uint8, dst, src *reg, a, b *scalar.Range, wide, holds bool) {
	scalar.Refine(op, a, b, wide, holds)
	// Contradictory views mean that this way cannot be taken. Forgetting is the
	// safe answer to whatever made them contradict.
	if a.Empty() {
		*a = scalar.Unknown()
	}
	if b.Empty() {
		*b = scalar.Unknown()
	}
	v.spread(s, dst)
	if src != nil {
		v.spread(s, src)
	}
}

// learnNull turns a maybe-null pointer and its copies into NULL or a pointer.
func (v *verifier) learnNull(s *state, r *reg, null bool) {
	if !r.maybeNull() || r.off != 0 || r.num.Bits.Value != 0 || !r.num.IsConst() {
		return
	}
	id := r.id
	if ref := r.ref; null && ref != 0 && ref == id {
		// The resource was not obtained after all.
		s.removeRef(ref)
	}
	s.each(func(x *reg) {
		if x.maybeNull() && x.id == id {
			v.settle(x, null)
		}
	})
}

// settle makes a maybe-null pointer NULL or a plain pointer.
func (v *verifier) settle(r *reg, null bool) {
	if null {
		r.set(0)
		return
	}
	r.flags &^= mayBeNull
	if r.kind == ptrMapValue && r.m.inner != nil {
		// What is found in a map of maps is a map.
		*r = reg{kind: ptrMap, flags: inner, m: r.m.inner, uid: r.id}
		if r.m.spec.SpinLock == 0 && r.m.spec.Timer == 0 {
			r.uid = 0
		}
		return
	}
	if !r.lockable() {
		r.id = 0
	}
}

// stepMayGoto is a jump that the machine takes once a budget is used up: the
// loop around it ends even if its condition never does.
func (v *verifier) stepMayGoto(in ebpf.Insn) error {
	target, _ := jumpTarget(v.pc, in)
	v.facts[v.pc].Branch |= Jumps | FallsThrough
	prev := v.earlier(v.pc, true)
	if _, err := v.fork(target); err != nil {
		return err
	}
	v.cur.mayGoto++
	if prev != nil {
		v.widen(prev, v.cur)
	}
	v.pc++
	return nil
}

// earlier finds the latest saved state of the running path at slot pc in the
// current frame; if skip is set, not the one that was saved just now.
func (v *verifier) earlier(pc int, skip bool) *state {
	p := v.cur.parent
	if skip && p != nil && p.pc == pc {
		p = p.parent
	}
	for ; p != nil; p = p.parent {
		if p.pc == pc && p.top == v.cur.top {
			return p
		}
	}
	return nil
}

// widen forgets what changes from turn to turn of a loop and did not matter so
// far, so that the next turn looks like this one.
func (v *verifier) widen(prev, cur *state) {
	for i := 0; i <= min(prev.top, cur.top); i++ {
		f, g := prev.frames[i], cur.frames[i]
		for n := range g.regs {
			v.widenReg(&f.regs[n], &g.regs[n])
		}
		for n := range min(len(f.stack), len(g.stack)) {
			if f.stack[n].spilled() && g.stack[n].spilled() {
				v.widenReg(&f.stack[n].reg, &g.stack[n].reg)
			}
		}
	}
}

func (v *verifier) widenReg(prev, cur *reg) {
	if prev.kind == number && cur.kind == number && prev.num != cur.num &&
		!v.track.needed(prev.node) && !v.track.needed(cur.node) {
		cur.setUnknown()
	}
}
