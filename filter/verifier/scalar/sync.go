package scalar

import (
	"math"

	"taproom/filter/verifier/tnum"
)

// Sync lets the views of r tighten each other. A contradiction is left standing
// for Empty to find.
func (r *Range) Sync() {
	r.fromBits()
	// Each pass can feed the next one: bits to 64, 64 to 32, 32 back to 64.
	for range 3 {
		before := *r
		r.halves()
		r.signs()
		if *r == before {
			break
		}
	}
	r.toBits()
	r.fromBits()
}

// fromBits tightens all bounds by the known bits.
func (r *Range) fromBits() {
	const sign, sign32 = 1 << 63, 1 << 31
	b := r.Bits
	r.UMin, r.UMax = max(r.UMin, b.Value), min(r.UMax, b.Max())
	r.SMin = max(r.SMin, int64(b.Value|b.Mask&sign))
	r.SMax = min(r.SMax, int64(b.Value|b.Mask&(sign-1)))
	v, m := uint32(b.Value), uint32(b.Mask)
	r.U32Min, r.U32Max = max(r.U32Min, v), min(r.U32Max, v|m)
	r.S32Min = max(r.S32Min, int32(v|m&sign32))
	r.S32Max = min(r.S32Max, int32(v|m&(sign32-1)))
}

// toBits learns bits from the bounds: a common prefix of both ends is known.
func (r *Range) toBits() {
	if r.Empty() {
		return
	}
	b := tnum.Intersect(r.Bits, tnum.Range(r.UMin, r.UMax))
	low := tnum.Intersect(b.Zext(4), tnum.Range(uint64(r.U32Min), uint64(r.U32Max)))
	r.Bits = b.WithLow(low)
}

// signs lets signed and unsigned bounds of the same width tighten each other.
func (r *Range) signs() {
	signs64(r)
	signs32(r)
}

func signs64(r *Range) {
	// An unsigned interval that does not cross the sign bit is a signed one.
	if int64(r.UMin) <= int64(r.UMax) {
		r.SMin, r.SMax = max(r.SMin, int64(r.UMin)), min(r.SMax, int64(r.UMax))
	}
	switch {
	case uint64(r.SMin) <= uint64(r.SMax):
		r.UMin, r.UMax = max(r.UMin, uint64(r.SMin)), min(r.UMax, uint64(r.SMax))
	case r.UMax < uint64(r.SMin):
		// The signed interval crosses 0, so as unsigned it is two pieces; the
		// unsigned one meets only the piece at the bottom.
		r.SMin, r.UMax = max(r.SMin, int64(r.UMin)), min(r.UMax, uint64(r.SMax))
	case uint64(r.SMax) < r.UMin:
		r.SMax, r.UMin = min(r.SMax, int64(r.UMax)), max(r.UMin, uint64(r.SMin))
	}
}

func signs32(r *Range) {
	if int32(r.U32Min) <= int32(r.U32Max) {
		r.S32Min, r.S32Max = max(r.S32Min, int32(r.U32Min)), min(r.S32Max, int32(r.U32Max))
	}
	switch {
	case uint32(r.S32Min) <= uint32(r.S32Max):
		r.U32Min, r.U32Max = max(r.U32Min, uint32(r.S32Min)), min(r.U32Max, uint32(r.S32Max))
	case r.U32Max < uint32(r.S32Min):
		r.S32Min, r.U32Max = max(r.S32Min, int32(r.U32Min)), min(r.U32Max, uint32(r.S32Max))
	case uint32(r.S32Max) < r.U32Min:
		r.S32Max, r.U32Min = min(r.S32Max, int32(r.U32Max)), max(r.U32Min, uint32(r.S32Min))
	}
}

// halves lets the 64-bit bounds and those of the low half tighten each other.
func (r *Range) halves() {
	r.low(r.UMin, r.UMax)
	r.low(uint64(r.SMin), uint64(r.SMax))

	// The high half of the least number is at least that of the bound, and when
	// it is equal the low half decides; the same at the other end.
	const high = ^uint64(0xffffffff)
	r.UMin = max(r.UMin, r.UMin&high|uint64(r.U32Min))
	r.UMax = min(r.UMax, r.UMax&high|uint64(r.U32Max))
	r.SMin = max(r.SMin, int64(uint64(r.SMin)&high|uint64(r.U32Min)))
	r.SMax = min(r.SMax, int64(uint64(r.SMax)&high|uint64(r.U32Max)))

	// A number that fits an int32 is its own sign-extended low half.
	if r.SMin >= math.MinInt32 && r.SMax <= math.MaxInt32 {
		r.SMin, r.SMax = max(r.SMin, int64(r.S32Min)), min(r.SMax, int64(r.S32Max))
	}
}

// low tightens the 32-bit bounds by a 64-bit interval, given by its ends in the
// order of their own signedness.
func (r *Range) low(lo, hi uint64) {
	l, h := uint32(lo), uint32(hi)
	switch {
	case lo>>32 == hi>>32:
		if l > h {
			return // the interval is empty
		}
		r.U32Min, r.U32Max = max(r.U32Min, l), min(r.U32Max, h)
		if int32(l) <= int32(h) {
			r.S32Min, r.S32Max = max(r.S32Min, int32(l)), min(r.S32Max, int32(h))
		}
	case uint32(lo>>32)+1 == uint32(hi>>32) && int32(l) < 0 && int32(h) >= 0:
		// From the upper half of one block into the lower half of the next: as
		// int32 that is one interval around 0.
		r.S32Min, r.S32Max = max(r.S32Min, int32(l)), min(r.S32Max, int32(h))
	}
}
