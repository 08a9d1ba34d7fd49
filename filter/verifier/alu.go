package verifier

import (
	"math"

	"taproom/filter/ebpf"
	"taproom/filter/verifier/scalar"
)

// stepALU executes an instruction of class ALU or ALU64.
func (v *verifier) stepALU(in ebpf.Insn) error {
	wide := in.Class() == ebpf.ClassALU64
	switch in.ALUOp() {
	case ebpf.ALUMov:
		return v.stepMove(in, wide)
	case ebpf.ALUNeg, ebpf.ALUEnd:
		if _, err := v.read(in.Dst()); err != nil {
			return err
		}
		dst, err := v.write(in.Dst())
		if err != nil {
			return err
		}
		if dst.isPtr() {
			dst.setUnknown()
			return nil
		}
		dst.id, dst.delta = 0, 0
		if in.ALUOp() == ebpf.ALUNeg {
			dst.num.ALU(ebpf.ALUNeg, &dst.num, wide)
			return nil
		}
		// To big endian, or always: we are little-endian. To little endian only
		// cuts the number off.
		if size := int(in.Imm) / 8; wide || in.SrcReg() {
			dst.num.Swap(size)
		} else {
			dst.num.Load(size)
		}
		return nil
	}
	src := &v.scratch.operand
	if in.SrcReg() {
		r, err := v.read(in.Src())
		if err != nil {
			return err
		}
		*src = *r
	} else {
		src.set(uint64(int64(in.Imm)))
	}
	if _, err := v.read(in.Dst()); err != nil {
		return err
	}
	dst, err := v.write(in.Dst())
	if err != nil {
		return err
	}
	if dst.isPtr() || src.isPtr() {
		return v.pointerALU(in, dst, src, wide)
	}
	v.numberALU(in, dst, src, wide)
	return nil
}

// numberALU is dst = dst op src on numbers.
func (v *verifier) numberALU(in ebpf.Insn, dst, src *reg, wide bool) {
	op := in.ALUOp()
	// A constant distance keeps the link: r2 = r1 + 4 still moves with r1.
	if dst.id != 0 {
		step := int64(src.num.Value())
		if op == ebpf.ALUSub {
			step = -step
		}
		sum := int64(dst.delta) + step
		if wide && (op == ebpf.ALUAdd || op == ebpf.ALUSub) && src.num.IsConst() &&
			step == int64(int32(step)) && sum == int64(int32(sum)) {
			dst.delta = int32(sum)
		} else {
			dst.id, dst.delta = 0, 0
		}
	}
	dst.node = v.track.join(dst.node, src.node)
	if dst.num.IsConst() && src.num.IsConst() {
		if r, ok := fold(op, dst.num.Value(), src.num.Value(), wide); ok {
			dst.num = scalar.Const(r)
			return
		}
	}
	if op == ebpf.ALUDiv || op == ebpf.ALUMod {
		// Nothing at all is known of quotients, not even their width.
		dst.setUnknown()
		return
	}
	dst.num.ALU(op, &src.num, wide)
}

// fold computes an operation on constants; divisions are left to the machine.
func fold(op uint8, a, b uint64, wide bool) (uint64, bool) {
	width := uint64(64)
	if !wide {
		width = 32
		b = uint64(uint32(b))
	}
	switch op {
	case ebpf.ALUAdd:
		a += b
	case ebpf.ALUSub:
		a -= b
	case ebpf.ALUMul:
		a *= b
	case ebpf.ALUAnd:
		a &= b
	case ebpf.ALUOr:
		a |= b
	case ebpf.ALUXor:
		a ^= b
	case ebpf.ALULsh:
		if b >= width {
			return 0, false
		}
		a <<= b
	case ebpf.ALURsh:
		if b >= width {
			return 0, false
		}
		if !wide {
			a = uint64(uint32(a))
		}
		a >>= b
	default:
		return 0, false
	}
	if !wide {
		a = uint64(uint32(a))
	}
	return a, true
}

// stepMove is MOV and MOVSX.
func (v *verifier) stepMove(in ebpf.Insn, wide bool) error {
	if !in.SrcReg() {
		dst, err := v.write(in.Dst())
		if err != nil {
			return err
		}
		imm := uint64(int64(in.Imm))
		if !wide {
			imm = uint64(uint32(in.Imm))
		}
		dst.set(imm)
		return nil
	}
	src, err := v.read(in.Src())
	if err != nil {
		return err
	}
	dst, err := v.write(in.Dst())
	if err != nil {
		return err
	}
	if src.isPtr() {
		if wide && in.Off == 0 {
			*dst = *src
			return nil
		}
		// Part of an address is some number.
		dst.setUnknown()
		if !wide {
			dst.num.Load(4)
		}
		return nil
	}
	keeps := true // the value is the same number, so the copy stays linked
	switch {
	case in.Off != 0:
		keeps = fitsSigned(&src.num, int(in.Off)) && (wide || src.num.SMin >= 0)
	case !wide:
		keeps = src.num.UMax <= math.MaxUint32
	}
	if keeps {
		v.link(src)
	}
	*dst = *src
	if !keeps {
		dst.id, dst.delta = 0, 0
	}
	if in.Off != 0 {
		dst.num.LoadSigned(int(in.Off) / 8)
	}
	if !wide {
		dst.num.Load(4)
	}
	return nil
}

// fitsSigned reports whether every number in r survives sign extension from
// width bits.
func fitsSigned(r *scalar.Range, width int) bool {
	limit := int64(1) << (width - 1)
	return r.SMin >= -limit && r.SMax < limit
}

// link names a number, so that what is learned of it is learned of its copies.
func (v *verifier) link(r *reg) {
	if r.id == 0 && !r.num.IsConst() {
		r.id = v.nextID()
	}
}

// spread gives what was just learned of r to all numbers linked to it.
func (v *verifier) spread(s *state, r *reg) {
	if r.id == 0 {
		return
	}
	known := *r
	s.each(func(x *reg) {
		if x.kind != number || x.id != known.id || x == r {
			return
		}
		x.node = v.track.join(x.node, known.node)
		if x.delta == known.delta {
			x.num = known.num
			return
		}
		d := scalar.Const(uint64(int64(x.delta) - int64(known.delta)))
		n := known.num
		n.ALU(ebpf.ALUAdd, &d, true)
		x.num = n
	})
}
