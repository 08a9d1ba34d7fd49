package scalar

import (
	"math"
	"math/bits"

	"taproom/filter/ebpf"
	"taproom/filter/verifier/tnum"
)

// ALU replaces r by "r op src", as a 64-bit operation or (with the high half of
// the result zero) a 32-bit one. op is one of the ebpf.ALU constants except
// ALUMov and ALUEnd; src is ignored for ALUNeg. Signedness of division does not
// matter since nothing is known of quotients.
func (r *Range) ALU(op uint8, src *Range, wide bool) {
	s := *src
	switch op {
	case ebpf.ALUAdd:
		r.add(&s)
	case ebpf.ALUSub:
		r.sub(&s)
	case ebpf.ALUNeg:
		n := *r
		*r = Const(0)
		r.sub(&n)
	case ebpf.ALUMul:
		r.mul(&s)
	case ebpf.ALUAnd:
		r.and(&s)
	case ebpf.ALUOr:
		r.or(&s)
	case ebpf.ALUXor:
		r.xor(&s)
	case ebpf.ALULsh, ebpf.ALURsh, ebpf.ALUArsh:
		if !r.shift(op, &s, wide) {
			*r = unknown
			return
		}
	default:
		*r = unknown
	}
	if !wide {
		r.zext32()
		return
	}
	r.Sync()
}

func (r *Range) add(s *Range) {
	r.SMin, r.SMax = add64(r.SMin, s.SMin, r.SMax, s.SMax)
	umin, c1 := bits.Add64(r.UMin, s.UMin, 0)
	umax, c2 := bits.Add64(r.UMax, s.UMax, 0)
	// If both ends wrap, or neither, the interval between them is still whole.
	if c1 != c2 {
		umin, umax = 0, math.MaxUint64
	}
	r.UMin, r.UMax = umin, umax

	lo, hi := int64(r.S32Min)+int64(s.S32Min), int64(r.S32Max)+int64(s.S32Max)
	r.S32Min, r.S32Max = wrap32(lo, hi)
	ulo, uhi := uint64(r.U32Min)+uint64(s.U32Min), uint64(r.U32Max)+uint64(s.U32Max)
	if ulo>>32 != uhi>>32 {
		ulo, uhi = 0, math.MaxUint32
	}
	r.U32Min, r.U32Max = uint32(ulo), uint32(uhi)
	r.Bits = tnum.Add(r.Bits, s.Bits)
}

func add64(a, b, c, d int64) (lo, hi int64) {
	lo, hi = a+b, c+d
	if (lo < a) != (b < 0) || (hi < c) != (d < 0) {
		return math.MinInt64, math.MaxInt64
	}
	return lo, hi
}

// wrap32 narrows a 64-bit interval of int32 sums if it did not leave int32.
func wrap32(lo, hi int64) (int32, int32) {
	if lo < math.MinInt32 || hi > math.MaxInt32 {
		return math.MinInt32, math.MaxInt32
	}
	return int32(lo), int32(hi)
}

func (r *Range) sub(s *Range) {
	lo, hi := r.SMin-s.SMax, r.SMax-s.SMin
	if (lo < r.SMin) != (s.SMax > 0) || (hi < r.SMax) != (s.SMin > 0) {
		lo, hi = math.MinInt64, math.MaxInt64
	}
	r.SMin, r.SMax = lo, hi
	umin, b1 := bits.Sub64(r.UMin, s.UMax, 0)
	umax, b2 := bits.Sub64(r.UMax, s.UMin, 0)
	if b1 != b2 {
		umin, umax = 0, math.MaxUint64
	}
	r.UMin, r.UMax = umin, umax

	r.S32Min, r.S32Max = wrap32(int64(r.S32Min)-int64(s.S32Max), int64(r.S32Max)-int64(s.S32Min))
	ulo, uhi := uint64(r.U32Min)-uint64(s.U32Max), uint64(r.U32Max)-uint64(s.U32Min)
	if ulo>>32 != uhi>>32 {
		ulo, uhi = 0, math.MaxUint32
	}
	r.U32Min, r.U32Max = uint32(ulo), uint32(uhi)
	r.Bits = tnum.Sub(r.Bits, s.Bits)
}

func (r *Range) mul(s *Range) {
	r.Bits = tnum.Mul(r.Bits, s.Bits)
	if h, umax := bits.Mul64(r.UMax, s.UMax); h == 0 {
		r.UMin, r.UMax = r.UMin*s.UMin, umax
	} else {
		r.UMin, r.UMax = 0, math.MaxUint64
	}
	r.SMin, r.SMax = corners64(r.SMin, r.SMax, s.SMin, s.SMax)
	if umax := uint64(r.U32Max) * uint64(s.U32Max); umax <= math.MaxUint32 {
		r.U32Min, r.U32Max = r.U32Min*s.U32Min, uint32(umax)
	} else {
		r.U32Min, r.U32Max = 0, math.MaxUint32
	}
	lo, hi := corners64(int64(r.S32Min), int64(r.S32Max), int64(s.S32Min), int64(s.S32Max))
	r.S32Min, r.S32Max = wrap32(lo, hi)
}

// corners64 bounds a product: its extremes are products of extremes.
func corners64(a, b, c, d int64) (lo, hi int64) {
	lo, hi = math.MaxInt64, math.MinInt64
	for _, p := range [4][2]int64{{a, c}, {a, d}, {b, c}, {b, d}} {
		x, y := p[0], p[1]
		v := x * y
		if x != 0 && (v/x != y || x == -1 && y == math.MinInt64) {
			return math.MinInt64, math.MaxInt64
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

func (r *Range) and(s *Range) {
	r.Bits = tnum.And(r.Bits, s.Bits)
	// Masking never makes an unsigned number larger than either operand.
	umax, umax32 := min(r.UMax, s.UMax), min(r.U32Max, s.U32Max)
	r.forget()
	r.UMax, r.U32Max = umax, umax32
	r.UMin, r.U32Min = r.Bits.Value, uint32(r.Bits.Value)
}

func (r *Range) or(s *Range) {
	r.Bits = tnum.Or(r.Bits, s.Bits)
	umin, umin32 := max(r.UMin, s.UMin), max(r.U32Min, s.U32Min)
	r.forget()
	r.UMin, r.U32Min = umin, umin32
	r.UMax, r.U32Max = r.Bits.Max(), uint32(r.Bits.Max())
}

func (r *Range) xor(s *Range) {
	r.Bits = tnum.Xor(r.Bits, s.Bits)
	r.forget()
}

// forget drops all bounds but not the bits; Sync finds again what follows.
func (r *Range) forget() {
	r.forget32()
	r.forget64()
}

// shift handles shifts by a known distance below the width; of others nothing
// is known, since machines mask the distance; it returns false for them.
func (r *Range) shift(op uint8, s *Range, wide bool) bool {
	width := uint64(32)
	if wide {
		width = 64
	}
	if !s.IsConst() && !(!wide && s.IsConst32()) || s.Value()&(1<<32-1) >= width || wide && s.Value() >= 64 {
		return false
	}
	n := uint8(s.Value())
	if !wide {
		r.shift32(op, n)
		return true
	}
	switch op {
	case ebpf.ALULsh:
		r.Bits = tnum.Lsh(r.Bits, n)
		umin, umax, smin, smax := r.UMin, r.UMax, r.SMin, r.SMax
		u32ok := n < 32 && uint64(r.U32Max)<<n <= math.MaxUint32
		lo, hi := r.U32Min, r.U32Max
		r.forget()
		if bits.Len64(umax)+int(n) <= 64 {
			r.UMin, r.UMax = umin<<n, umax<<n
		}
		if smin<<n>>n == smin && smax<<n>>n == smax {
			r.SMin, r.SMax = smin<<n, smax<<n
		}
		if u32ok {
			r.U32Min, r.U32Max = lo<<n, hi<<n
		}
	case ebpf.ALURsh:
		r.Bits = tnum.Rsh(r.Bits, n)
		umin, umax := r.UMin>>n, r.UMax>>n
		r.forget()
		r.UMin, r.UMax = umin, umax
	case ebpf.ALUArsh:
		r.Bits = tnum.Arsh(r.Bits, n, 64)
		smin, smax := r.SMin>>n, r.SMax>>n
		r.forget()
		r.SMin, r.SMax = smin, smax
	}
	return true
}

// shift32 works on the low half; the caller zero-extends.
func (r *Range) shift32(op uint8, n uint8) {
	low := r.Bits.Zext(4)
	lo, hi, slo, shi := r.U32Min, r.U32Max, r.S32Min, r.S32Max
	r.forget()
	switch op {
	case ebpf.ALULsh:
		r.Bits = tnum.Lsh(low, n).Zext(4)
		if bits.Len32(hi)+int(n) <= 32 {
			r.U32Min, r.U32Max = lo<<n, hi<<n
		}
	case ebpf.ALURsh:
		r.Bits = tnum.Rsh(low, n)
		r.U32Min, r.U32Max = lo>>n, hi>>n
	case ebpf.ALUArsh:
		r.Bits = tnum.Arsh(low, n, 32)
		r.S32Min, r.S32Max = slo>>n, shi>>n
	}
	r.narrow()
}

// narrow completes the 32-bit views of a number whose high half is 0 in Bits.
func (r *Range) narrow() {
	b := r.Bits
	r.U32Min, r.U32Max = max(r.U32Min, uint32(b.Value)), min(r.U32Max, uint32(b.Max()))
	signs32(r)
}

// Swap makes r the byte-reversed low size bytes of what it was. Bounds do not
// survive that, bits do.
func (r *Range) Swap(size int) {
	b := r.Bits.Swap(size)
	*r = unknown
	r.Bits = b
	r.Sync()
}
