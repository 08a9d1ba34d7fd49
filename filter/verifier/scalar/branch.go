package scalar

import (
	"taproom/filter/ebpf"
	"taproom/filter/verifier/tnum"
)

// Outcome is what is known of a condition.
type Outcome int8

// Outcomes.
const (
	Maybe Outcome = iota
	Always
	Never
)

func outcome(always, never bool) Outcome {
	switch {
	case always:
		return Always
	case never:
		return Never
	}
	return Maybe
}

// view is one number at the width of a comparison.
type view struct {
	bits       tnum.Tnum
	umin, umax uint64
	smin, smax int64
}

func (r *Range) view(wide bool) view {
	if wide {
		return view{r.Bits, r.UMin, r.UMax, r.SMin, r.SMax}
	}
	return view{r.Bits.Zext(4), uint64(r.U32Min), uint64(r.U32Max), int64(r.S32Min), int64(r.S32Max)}
}

// Decide tells whether "a op b" holds for all or for no numbers in a and b. op
// is one of the ebpf.Jmp conditions; wide compares 64 bits, else 32.
func Decide(op uint8, ra, rb *Range, wide bool) Outcome {
	a, b := ra.view(wide), rb.view(wide)
	switch op {
	case ebpf.JmpEq, ebpf.JmpNE:
		same := a.bits.IsConst() && b.bits.IsConst() && a.bits.Value == b.bits.Value
		apart := !tnum.Overlaps(a.bits, b.bits) ||
			a.umax < b.umin || b.umax < a.umin || a.smax < b.smin || b.smax < a.smin
		if wide && !apart {
			// Unequal low halves suffice.
			l, m := ra.view(false), rb.view(false)
			apart = l.umax < m.umin || m.umax < l.umin || l.smax < m.smin || m.smax < l.smin
		}
		if op == ebpf.JmpNE {
			same, apart = apart, same
		}
		return outcome(same, apart)
	case ebpf.JmpSet:
		return outcome(a.bits.Value&b.bits.Value != 0, a.bits.Max()&b.bits.Max() == 0)
	case ebpf.JmpGT:
		return outcome(a.umin > b.umax, a.umax <= b.umin)
	case ebpf.JmpGE:
		return outcome(a.umin >= b.umax, a.umax < b.umin)
	case ebpf.JmpLT:
		return outcome(a.umax < b.umin, a.umin >= b.umax)
	case ebpf.JmpLE:
		return outcome(a.umax <= b.umin, a.umin > b.umax)
	case ebpf.JmpSGT:
		return outcome(a.smin > b.smax, a.smax <= b.smin)
	case ebpf.JmpSGE:
		return outcome(a.smin >= b.smax, a.smax < b.smin)
	case ebpf.JmpSLT:
		return outcome(a.smax < b.smin, a.smin >= b.smax)
	case ebpf.JmpSLE:
		return outcome(a.smax <= b.smin, a.smin > b.smax)
	}
	return Maybe
}

// Refine narrows a and b to the numbers for which "a op b" is as holds says. If
// there are none, a or b may come out Empty.
func Refine(op uint8, a, b *Range, wide, holds bool) {
	if op == ebpf.JmpSet {
		refineSet(a, b, wide, holds)
		refineSet(b, a, wide, holds)
	} else {
		if !holds {
			op = neg(op)
		}
		if wide {
			refine64(op, a, b)
		} else {
			refine32(op, a, b)
		}
	}
	a.Sync()
	b.Sync()
}

// neg is the opposite of a condition other than JmpSet.
func neg(op uint8) uint8 {
	switch op {
	case ebpf.JmpEq:
		return ebpf.JmpNE
	case ebpf.JmpNE:
		return ebpf.JmpEq
	case ebpf.JmpGT:
		return ebpf.JmpLE
	case ebpf.JmpLE:
		return ebpf.JmpGT
	case ebpf.JmpGE:
		return ebpf.JmpLT
	case ebpf.JmpLT:
		return ebpf.JmpGE
	case ebpf.JmpSGT:
		return ebpf.JmpSLE
	case ebpf.JmpSLE:
		return ebpf.JmpSGT
	case ebpf.JmpSGE:
		return ebpf.JmpSLT
	}
	return ebpf.JmpSGE // of JmpSLT
}

// refineSet learns from "a & b != 0" where b is a constant: if it fails, those
// bits are 0; if it holds and the constant has one bit, that bit is 1.
func refineSet(a, b *Range, wide, holds bool) {
	v := b.Bits.Value
	if !wide {
		if !b.IsConst32() {
			return
		}
		v = uint64(uint32(v))
	} else if !b.IsConst() {
		return
	}
	if !holds {
		a.Bits = tnum.And(a.Bits, tnum.Const(^v))
		return
	}
	if v != 0 && v&(v-1) == 0 {
		a.Bits = tnum.Or(a.Bits, tnum.Const(v))
	}
}

func refine64(op uint8, a, b *Range) {
	switch op {
	case ebpf.JmpEq:
		a.UMin = max(a.UMin, b.UMin)
		a.UMax = min(a.UMax, b.UMax)
		a.SMin = max(a.SMin, b.SMin)
		a.SMax = min(a.SMax, b.SMax)
		a.U32Min = max(a.U32Min, b.U32Min)
		a.U32Max = min(a.U32Max, b.U32Max)
		a.S32Min = max(a.S32Min, b.S32Min)
		a.S32Max = min(a.S32Max, b.S32Max)
		if tnum.Overlaps(a.Bits, b.Bits) {
			a.Bits = tnum.Intersect(a.Bits, b.Bits)
		}
		*b = *a
	case ebpf.JmpNE:
		exclude64(a, b)
		exclude64(b, a)
	case ebpf.JmpLE:
		a.UMax, b.UMin = min(a.UMax, b.UMax), max(a.UMin, b.UMin)
	case ebpf.JmpLT:
		// b.UMax is not 0 and a.UMin not the maximum, or Decide had said Never;
		// saturate all the same.
		a.UMax, b.UMin = min(a.UMax, max(b.UMax, 1)-1), max(min(a.UMin, ^uint64(0)-1)+1, b.UMin)
	case ebpf.JmpSLE:
		a.SMax, b.SMin = min(a.SMax, b.SMax), max(a.SMin, b.SMin)
	case ebpf.JmpSLT:
		a.SMax, b.SMin = min(a.SMax, max(b.SMax, -1<<63+1)-1), max(min(a.SMin, 1<<63-2)+1, b.SMin)
	default:
		refine64(mirror(op), b, a)
	}
}

// mirror swaps the sides of an order: a > b is b < a.
func mirror(op uint8) uint8 {
	switch op {
	case ebpf.JmpGT:
		return ebpf.JmpLT
	case ebpf.JmpGE:
		return ebpf.JmpLE
	case ebpf.JmpSGT:
		return ebpf.JmpSLT
	}
	return ebpf.JmpSLE // of JmpSGE
}

// exclude64 takes the constant b off an end of a.
func exclude64(a, b *Range) {
	if !b.IsConst() {
		return
	}
	v := b.Bits.Value
	if a.UMin == v && v != ^uint64(0) {
		a.UMin++
	}
	if a.UMax == v && v != 0 {
		a.UMax--
	}
	if a.SMin == int64(v) && a.SMin != 1<<63-1 {
		a.SMin++
	}
	if a.SMax == int64(v) && a.SMax != -1<<63 {
		a.SMax--
	}
}

func refine32(op uint8, a, b *Range) {
	switch op {
	case ebpf.JmpEq:
		a.U32Min = max(a.U32Min, b.U32Min)
		a.U32Max = min(a.U32Max, b.U32Max)
		a.S32Min = max(a.S32Min, b.S32Min)
		a.S32Max = min(a.S32Max, b.S32Max)
		b.U32Min, b.U32Max, b.S32Min, b.S32Max = a.U32Min, a.U32Max, a.S32Min, a.S32Max
		if x, y := a.Bits.Zext(4), b.Bits.Zext(4); tnum.Overlaps(x, y) {
			low := tnum.Intersect(x, y)
			a.Bits, b.Bits = a.Bits.WithLow(low), b.Bits.WithLow(low)
		}
	case ebpf.JmpNE:
		exclude32(a, b)
		exclude32(b, a)
	case ebpf.JmpLE:
		a.U32Max, b.U32Min = min(a.U32Max, b.U32Max), max(a.U32Min, b.U32Min)
	case ebpf.JmpLT:
		a.U32Max, b.U32Min = min(a.U32Max, max(b.U32Max, 1)-1), max(min(a.U32Min, ^uint32(0)-1)+1, b.U32Min)
	case ebpf.JmpSLE:
		a.S32Max, b.S32Min = min(a.S32Max, b.S32Max), max(a.S32Min, b.S32Min)
	case ebpf.JmpSLT:
		a.S32Max, b.S32Min = min(a.S32Max, max(b.S32Max, -1<<31+1)-1), max(min(a.S32Min, 1<<31-2)+1, b.S32Min)
	default:
		refine32(mirror(op), b, a)
	}
}

// exclude32 takes the constant low half of b off an end of a's.
func exclude32(a, b *Range) {
	if !b.IsConst32() {
		return
	}
	v := uint32(b.Bits.Value)
	if a.U32Min == v && v != ^uint32(0) {
		a.U32Min++
	}
	if a.U32Max == v && v != 0 {
		a.U32Max--
	}
	if a.S32Min == int32(v) && a.S32Min != 1<<31-1 {
		a.S32Min++
	}
	if a.S32Max == int32(v) && a.S32Max != -1<<31 {
		a.S32Max--
	}
}
