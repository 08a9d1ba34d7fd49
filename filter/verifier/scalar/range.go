// Package scalar tracks what a verifier knows of a number in a register.
//
// A Range is the conjunction of five views of one 64-bit number: its known bits,
// its bounds as unsigned and signed number, and the bounds of its low 32 bits
// both ways. Each view often knows what the others do not, so every operation
// ends by letting them tighten each other (Sync). All operations are sound:
// whatever the operands may be, the result may be.
//
//	r := scalar.Unknown()
//	r.Load(1)                       // the number came from a byte
//	r.ALU(ebpf.ALUAdd, &four, true) // 4 to 259
package scalar

import (
	"fmt"
	"math"
	"strings"

	"taproom/filter/verifier/tnum"
)

// Range is a set of 64-bit numbers. The zero value is the constant 0.
type Range struct {
	Bits           tnum.Tnum
	UMin, UMax     uint64
	SMin, SMax     int64
	U32Min, U32Max uint32
	S32Min, S32Max int32
}

// Const returns the set of v alone.
func Const(v uint64) Range {
	return Range{
		Bits: tnum.Const(v),
		UMin: v, UMax: v, SMin: int64(v), SMax: int64(v),
		U32Min: uint32(v), U32Max: uint32(v), S32Min: int32(v), S32Max: int32(v),
	}
}

var unknown = Range{
	Bits: tnum.Unknown,
	UMax: math.MaxUint64, SMin: math.MinInt64, SMax: math.MaxInt64,
	U32Max: math.MaxUint32, S32Min: math.MinInt32, S32Max: math.MaxInt32,
}

// Unknown returns the set of all numbers.
func Unknown() Range { return unknown }

// Between returns the unsigned numbers from lo to hi.
func Between(lo, hi uint64) Range {
	r := unknown
	r.UMin, r.UMax = lo, hi
	r.Sync()
	return r
}

// SignedBetween returns the signed numbers from lo to hi.
func SignedBetween(lo, hi int64) Range {
	r := unknown
	r.SMin, r.SMax = lo, hi
	r.Sync()
	return r
}

// IsConst reports whether the number is known.
func (r *Range) IsConst() bool { return r.Bits.Mask == 0 }

// Value returns the number of a constant.
func (r *Range) Value() uint64 { return r.Bits.Value }

// Is reports whether the number is known to be v.
func (r *Range) Is(v uint64) bool { return r.Bits.Is(v) }

// IsUnknown reports whether nothing is known.
func (r *Range) IsUnknown() bool { return *r == unknown }

// IsConst32 reports whether the low 32 bits are known.
func (r *Range) IsConst32() bool { return uint32(r.Bits.Mask) == 0 }

// Empty reports whether the views contradict each other: no number is in the
// set, so the code that has it cannot be reached.
func (r *Range) Empty() bool {
	return r.UMin > r.UMax || r.SMin > r.SMax || r.U32Min > r.U32Max || r.S32Min > r.S32Max
}

// Contains reports whether every number in c is in r, as far as the views tell.
func (r *Range) Contains(c *Range) bool {
	return r.UMin <= c.UMin && r.UMax >= c.UMax &&
		r.SMin <= c.SMin && r.SMax >= c.SMax &&
		r.U32Min <= c.U32Min && r.U32Max >= c.U32Max &&
		r.S32Min <= c.S32Min && r.S32Max >= c.S32Max &&
		r.Bits.Contains(c.Bits)
}

// Holds reports whether v is in r.
func (r *Range) Holds(v uint64) bool {
	return v >= r.UMin && v <= r.UMax && int64(v) >= r.SMin && int64(v) <= r.SMax &&
		uint32(v) >= r.U32Min && uint32(v) <= r.U32Max && int32(v) >= r.S32Min && int32(v) <= r.S32Max &&
		r.Bits.Holds(v)
}

// Load makes r the zero-extended low size bytes of what it was.
func (r *Range) Load(size int) {
	if size >= 8 {
		return
	}
	if size == 4 {
		r.zext32()
		return
	}
	limit := uint64(1)<<(8*size) - 1
	fits := r.UMax <= limit
	r.Bits = r.Bits.Zext(size)
	if !fits {
		// Dropping high bits says nothing of the rest unless the bits do.
		r.UMin, r.UMax = 0, limit
	}
	r.SMin, r.SMax = int64(r.UMin), int64(r.UMax)
	r.U32Min, r.U32Max = uint32(r.UMin), uint32(r.UMax)
	r.S32Min, r.S32Max = int32(r.UMin), int32(r.UMax)
	r.Sync()
}

// LoadSigned makes r the sign-extended low size bytes of what it was.
func (r *Range) LoadSigned(size int) {
	if size >= 8 {
		return
	}
	hi := int64(1)<<(8*size-1) - 1
	lo := -hi - 1
	smin, smax := r.SMin, r.SMax
	if size == 4 && (smin < lo || smax > hi) {
		smin, smax = int64(r.S32Min), int64(r.S32Max)
	}
	b := r.Bits.Sext(size)
	*r = unknown
	r.Bits = b
	if smin >= lo && smax <= hi {
		r.SMin, r.SMax = smin, smax
	} else {
		r.SMin, r.SMax = lo, hi
	}
	r.Sync()
}

// zext32 makes the 64-bit views follow the 32-bit ones: the high half is 0.
func (r *Range) zext32() {
	r.Bits = r.Bits.Zext(4)
	r.UMin, r.UMax = uint64(r.U32Min), uint64(r.U32Max)
	r.SMin, r.SMax = int64(r.U32Min), int64(r.U32Max)
	r.Sync()
}

// forget32 drops what the 32-bit bounds say.
func (r *Range) forget32() {
	r.U32Min, r.U32Max = 0, math.MaxUint32
	r.S32Min, r.S32Max = math.MinInt32, math.MaxInt32
}

// forget64 drops what the 64-bit bounds say.
func (r *Range) forget64() {
	r.UMin, r.UMax = 0, math.MaxUint64
	r.SMin, r.SMax = math.MinInt64, math.MaxInt64
}

// String prints the range in the words of the kernel's log: bounds that follow
// from others are left out.
func (r Range) String() string {
	if r.IsConst() {
		return fmt.Sprintf("%d", int64(r.Bits.Value))
	}
	var b strings.Builder
	add := func(f string, a ...any) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, f, a...)
	}
	if r.SMin != math.MinInt64 {
		add("smin=%d", r.SMin)
	}
	if r.SMax != math.MaxInt64 {
		add("smax=%d", r.SMax)
	}
	if r.UMin != 0 && r.UMin != uint64(r.SMin) {
		add("umin=%d", r.UMin)
	}
	if r.UMax != math.MaxUint64 && r.UMax != uint64(r.SMax) {
		add("umax=%d", r.UMax)
	}
	if r.S32Min != math.MinInt32 && int64(r.S32Min) != r.SMin {
		add("smin32=%d", r.S32Min)
	}
	if r.S32Max != math.MaxInt32 && int64(r.S32Max) != r.SMax {
		add("smax32=%d", r.S32Max)
	}
	if r.U32Min != 0 && uint64(r.U32Min) != r.UMin {
		add("umin32=%d", r.U32Min)
	}
	if r.U32Max != math.MaxUint32 && uint64(r.U32Max) != r.UMax {
		add("umax32=%d", r.U32Max)
	}
	if !r.Bits.IsUnknown() {
		add("var_off=%v", r.Bits)
	}
	return b.String()
}
