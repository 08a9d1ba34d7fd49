package verifier

import (
	"math"

	"taproom/filter/ebpf"
	"taproom/filter/verifier/tnum"
)

var aluNames = map[uint8]string{
	ebpf.ALUAdd: "+=", ebpf.ALUSub: "-=", ebpf.ALUMul: "*=", ebpf.ALUDiv: "/=", ebpf.ALUOr: "|=",
	ebpf.ALUAnd: "&=", ebpf.ALULsh: "<<=", ebpf.ALURsh: ">>=", ebpf.ALUNeg: "neg", ebpf.ALUMod: "%=",
	ebpf.ALUXor: "^=", ebpf.ALUMov: "=", ebpf.ALUArsh: "s>>=", ebpf.ALUEnd: "endian",
}

// pointerALU is dst = dst op src where at least one is a pointer.
func (v *verifier) pointerALU(in ebpf.Insn, dst, src *reg, wide bool) error {
	op := in.ALUOp()
	if dst.isPtr() && src.isPtr() {
		if op == ebpf.ALUSub {
			dst.setUnknown() // a distance; who may load programs may know it
			return nil
		}
		return v.denied("R%d pointer %s pointer prohibited", in.Dst(), aluNames[op])
	}
	num := src
	ptr := *dst
	if src.isPtr() {
		ptr = *src
		n := *dst
		num = &n
	}
	v.track.need(num.node)
	if num.num.Empty() {
		dst.setUnknown()
		return nil
	}
	if !wide {
		if op == ebpf.ALUSub {
			dst.setUnknown()
			return nil
		}
		return v.denied("R%d 32-bit pointer arithmetic prohibited", in.Dst())
	}
	if ptr.maybeNull() {
		return v.denied("R%d pointer arithmetic on %s prohibited, null-check it first", in.Dst(), ptr.typeName())
	}
	switch ptr.kind {
	case ptrCtx, ptrMapValue, ptrMapKey, ptrStack, ptrPacket, ptrPacketMeta, ptrMem, ptrKernel, ptrFunc:
	case ptrMap:
		if !(op == ebpf.ALUAdd && num.num.Is(0)) {
			return v.denied("R%d pointer arithmetic on %s prohibited", in.Dst(), ptr.typeName())
		}
	default:
		return v.denied("R%d pointer arithmetic on %s prohibited", in.Dst(), ptr.typeName())
	}
	if err := v.saneOffset(num, &ptr); err != nil {
		return err
	}
	fromNumber := src.isPtr()
	switch op {
	case ebpf.ALUAdd:
		*dst = v.movePointer(ptr, num, false)
	case ebpf.ALUSub:
		if fromNumber {
			return v.denied("R%d tried to subtract pointer from scalar", in.Dst())
		}
		if ptr.kind == ptrStack {
			return v.denied("R%d subtraction from stack pointer prohibited", in.Dst())
		}
		*dst = v.movePointer(ptr, num, true)
	case ebpf.ALUAnd, ebpf.ALUOr, ebpf.ALUXor:
		return v.denied("R%d bitwise operator %s on pointer prohibited", in.Dst(), aluNames[op])
	default:
		return v.denied("R%d pointer arithmetic with %s operator prohibited", in.Dst(), aluNames[op])
	}
	return v.saneOffset(dst, &ptr)
}

// saneOffset keeps offsets far from where they could wrap: r is the number added
// or the pointer made.
func (v *verifier) saneOffset(r, ptr *reg) error {
	name := kindNames[ptr.kind]
	if r.num.IsConst() {
		if n := int64(r.num.Value()); n >= maxVarOff || n <= -maxVarOff {
			return v.invalid("math between %s pointer and %d is not allowed", name, n)
		}
	}
	if r.isPtr() && (r.off >= maxVarOff || r.off <= -maxVarOff) {
		return v.invalid("%s pointer offset %d is not allowed", name, r.off)
	}
	if r.num.SMin == math.MinInt64 {
		return v.invalid("math between %s pointer and register with unbounded min value is not allowed", name)
	}
	if r.num.SMin >= maxVarOff || r.num.SMin <= -maxVarOff {
		return v.invalid("value %d makes %s pointer be out of bounds", r.num.SMin, name)
	}
	return nil
}

// movePointer returns ptr plus or minus a number.
func (v *verifier) movePointer(ptr reg, num *reg, minus bool) reg {
	if num.num.IsConst() {
		n := int64(num.num.Value())
		if minus {
			n = -n
		}
		if sum := int64(ptr.off) + n; sum == int64(int32(sum)) {
			ptr.off = int32(sum)
			return ptr
		}
	}
	op := uint8(ebpf.ALUAdd)
	if minus {
		op = ebpf.ALUSub
	}
	wasUnsigned := num.num.SMin >= 0
	ptr.num.ALU(op, &num.num, true)
	if ptr.isPacket() {
		// What was known of its range was relative to the old variable part. A
		// step back cannot leave what was in range before it.
		ptr.id = v.nextID()
		if !minus || !wasUnsigned {
			ptr.rng = 0
		}
	}
	return ptr
}

// checkFixed refuses a pointer with a variable or non-zero offset.
func (v *verifier) checkFixed(n uint8, r *reg, zero bool) error {
	if r.off < 0 {
		return v.denied("negative offset %s ptr R%d off=%d disallowed", r.typeName(), n, r.off)
	}
	if zero && r.off != 0 {
		return v.denied("dereference of modified %s ptr R%d off=%d disallowed", r.typeName(), n, r.off)
	}
	if r.num.Bits != (tnum.Tnum{}) {
		return v.denied("variable %s access var_off=%v disallowed", r.typeName(), r.num.Bits)
	}
	return nil
}

func (v *verifier) checkCtxPointer(n uint8, r *reg) error { return v.checkFixed(n, r, true) }
