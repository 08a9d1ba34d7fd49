// Package tnum does arithmetic on partly known 64-bit numbers.
//
// A Tnum ("tristate number") knows some bits of a number and not others. Every
// operation here is sound: if x is in a and y is in b, then x op y is in
// Op(a, b). The paper is Vishwanathan et al., "Sound, Precise, and Fast
// Abstract Interpretation with Tristate Numbers" (CGO 2022). Values are plain
// and have no hidden state.
//
//	a := tnum.And(tnum.Unknown, tnum.Const(0x0f)) // ....xxxx
//	tnum.Lsh(a, 2).Max()                          // 0x3c
package tnum

import (
	"fmt"
	"math/bits"
)

// Tnum is a set of 64-bit numbers: those that agree with Value in every bit
// that is clear in Mask. Value never has a bit of Mask set.
type Tnum struct {
	Value uint64
	Mask  uint64
}

// Unknown is the set of all numbers.
var Unknown = Tnum{0, ^uint64(0)}

// Const returns the set of v alone.
func Const(v uint64) Tnum { return Tnum{v, 0} }

// Range returns the smallest tnum that holds every number from lo to hi.
func Range(lo, hi uint64) Tnum {
	n := bits.Len64(lo ^ hi)
	if n > 63 {
		return Unknown
	}
	mask := uint64(1)<<n - 1
	return Tnum{lo &^ mask, mask}
}

// IsConst reports whether t holds one number only.
func (t Tnum) IsConst() bool { return t.Mask == 0 }

// IsUnknown reports whether nothing is known of t.
func (t Tnum) IsUnknown() bool { return t.Mask == ^uint64(0) }

// Is reports whether t is the single number v.
func (t Tnum) Is(v uint64) bool { return t.Mask == 0 && t.Value == v }

// Min returns the least unsigned member.
func (t Tnum) Min() uint64 { return t.Value }

// Max returns the greatest unsigned member.
func (t Tnum) Max() uint64 { return t.Value | t.Mask }

// Aligned reports whether all members are multiples of size, a power of two.
func (t Tnum) Aligned(size uint64) bool { return (t.Value|t.Mask)&(size-1) == 0 }

// Holds reports whether v is a member.
func (t Tnum) Holds(v uint64) bool { return v&^t.Mask == t.Value }

// Contains reports whether every member of b is one of t.
func (t Tnum) Contains(b Tnum) bool {
	return b.Mask&^t.Mask == 0 && b.Value&^t.Mask == t.Value
}

// Intersect returns a set that holds every number in both a and b. If there is
// none the result is arbitrary.
func Intersect(a, b Tnum) Tnum {
	mask := a.Mask & b.Mask
	return Tnum{(a.Value | b.Value) &^ mask, mask}
}

// Overlaps reports whether a and b may have a member in common.
func Overlaps(a, b Tnum) bool {
	known := ^(a.Mask | b.Mask)
	return (a.Value^b.Value)&known == 0
}

// Add returns a + b.
func Add(a, b Tnum) Tnum {
	// The carries differ where the sums of all-zero and all-one unknowns do.
	low := a.Value + b.Value
	high := a.Max() + b.Max()
	mask := (low ^ high) | a.Mask | b.Mask
	return Tnum{low &^ mask, mask}
}

// Sub returns a - b.
func Sub(a, b Tnum) Tnum {
	low := a.Value - b.Max()
	high := a.Max() - b.Value
	mask := (low ^ high) | a.Mask | b.Mask
	return Tnum{(a.Value - b.Value) &^ mask, mask}
}

// Neg returns -a.
func Neg(a Tnum) Tnum { return Sub(Const(0), a) }

// And returns a & b.
func And(a, b Tnum) Tnum {
	ones := a.Value & b.Value
	return Tnum{ones, a.Max() & b.Max() &^ ones}
}

// Or returns a | b.
func Or(a, b Tnum) Tnum {
	ones := a.Value | b.Value
	return Tnum{ones, (a.Mask | b.Mask) &^ ones}
}

// Xor returns a ^ b.
func Xor(a, b Tnum) Tnum {
	mask := a.Mask | b.Mask
	return Tnum{(a.Value ^ b.Value) &^ mask, mask}
}

// Mul returns a * b, by long multiplication over the bits of a.
func Mul(a, b Tnum) Tnum {
	sum := Const(0)
	for a.Value != 0 || a.Mask != 0 {
		switch {
		case a.Value&1 != 0:
			sum = Add(sum, b)
		case a.Mask&1 != 0:
			// Either nothing or b is added: the union of both outcomes.
			sum = union(sum, Add(sum, b))
		}
		a = Rsh(a, 1)
		b = Lsh(b, 1)
	}
	return sum
}

func union(a, b Tnum) Tnum {
	mask := a.Mask | b.Mask | (a.Value ^ b.Value)
	return Tnum{a.Value &^ mask, mask}
}

// Lsh returns a << n.
func Lsh(a Tnum, n uint8) Tnum { return Tnum{a.Value << n, a.Mask << n} }

// Rsh returns a >> n without sign.
func Rsh(a Tnum, n uint8) Tnum { return Tnum{a.Value >> n, a.Mask >> n} }

// Arsh returns a >> n with sign, on numbers of 32 or 64 bits.
func Arsh(a Tnum, n uint8, width int) Tnum {
	if width == 32 {
		return Tnum{
			uint64(uint32(int32(a.Value) >> n)),
			uint64(uint32(int32(a.Mask) >> n)),
		}
	}
	return Tnum{uint64(int64(a.Value) >> n), uint64(int64(a.Mask) >> n)}
}

// Zext keeps the low size bytes and clears the rest.
func (t Tnum) Zext(size int) Tnum {
	if size >= 8 {
		return t
	}
	keep := uint64(1)<<(8*size) - 1
	return Tnum{t.Value & keep, t.Mask & keep}
}

// Sext extends the sign of the low size bytes over the rest.
func (t Tnum) Sext(size int) Tnum {
	s := uint8(64 - 8*size)
	return Arsh(Lsh(t, s), s, 64)
}

// High returns t with its low 32 bits cleared.
func (t Tnum) High() Tnum { return Tnum{t.Value &^ 0xffffffff, t.Mask &^ 0xffffffff} }

// WithLow returns t with its low 32 bits replaced by those of low.
func (t Tnum) WithLow(low Tnum) Tnum {
	h, l := t.High(), low.Zext(4)
	return Tnum{h.Value | l.Value, h.Mask | l.Mask}
}

// Swap reverses the low size bytes and clears the rest.
func (t Tnum) Swap(size int) Tnum {
	s := 64 - 8*size
	return Tnum{bits.ReverseBytes64(t.Value) >> s, bits.ReverseBytes64(t.Mask) >> s}
}

// String prints the value and mask as the kernel's verifier log does.
func (t Tnum) String() string { return fmt.Sprintf("(0x%x; 0x%x)", t.Value, t.Mask) }
