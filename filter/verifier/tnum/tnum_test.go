package tnum

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// every yields all tnums of n bits.
func every(n int, f func(Tnum)) {
	for m := uint64(0); m < 1<<n; m++ {
		for v := uint64(0); v < 1<<n; v++ {
			if v&m == 0 {
				f(Tnum{v, m})
			}
		}
	}
}

func members(t Tnum) (all []uint64) {
	for sub := t.Mask; ; sub = (sub - 1) & t.Mask {
		all = append(all, t.Value|sub)
		if sub == 0 {
			return all
		}
	}
}

func TestBinaryOperationsAreSound(t *testing.T) {
	ops := []struct {
		name string
		abs  func(a, b Tnum) Tnum
		con  func(a, b uint64) uint64
	}{
		{"add", Add, func(a, b uint64) uint64 { return a + b }},
		{"sub", Sub, func(a, b uint64) uint64 { return a - b }},
		{"and", And, func(a, b uint64) uint64 { return a & b }},
		{"or", Or, func(a, b uint64) uint64 { return a | b }},
		{"xor", Xor, func(a, b uint64) uint64 { return a ^ b }},
		{"mul", Mul, func(a, b uint64) uint64 { return a * b }},
		{"union", union, func(a, b uint64) uint64 { return a }},
	}
	for _, op := range ops {
		every(4, func(a Tnum) {
			every(4, func(b Tnum) {
				r := op.abs(a, b)
				if r.Value&r.Mask != 0 {
					t.Fatalf("%s(%v,%v) = %v is malformed", op.name, a, b, r)
				}
				for _, x := range members(a) {
					for _, y := range members(b) {
						if !r.Holds(op.con(x, y)) {
							t.Fatalf("%s(%v,%v) = %v lacks %d op %d", op.name, a, b, r, x, y)
						}
					}
				}
			})
		})
	}
}

func TestShiftsAndCasts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		mask := rng.Uint64() & rng.Uint64()
		a := Tnum{rng.Uint64() &^ mask, mask}
		x := a.Value | rng.Uint64()&mask
		n := uint8(rng.IntN(64))
		size := 1 << rng.IntN(4)
		checks := []struct {
			name string
			r    Tnum
			v    uint64
		}{
			{"lsh", Lsh(a, n), x << n},
			{"rsh", Rsh(a, n), x >> n},
			{"arsh", Arsh(a, n, 64), uint64(int64(x) >> n)},
			{"arsh32", Arsh(a, n%32, 32), uint64(uint32(int32(x) >> (n % 32)))},
			{"zext", a.Zext(size), x & (^uint64(0) >> (64 - 8*size))},
			{"sext", a.Sext(size), uint64(int64(x<<(64-8*size)) >> (64 - 8*size))},
			{"swap", a.Swap(size), bits.ReverseBytes64(x) >> (64 - 8*size)},
			{"neg", Neg(a), -x},
			{"low", Unknown.WithLow(a), x},
		}
		for _, c := range checks {
			if !c.r.Holds(c.v) || c.r.Value&c.r.Mask != 0 {
				t.Fatalf("%s of %v (x %#x, n %d, size %d): %v lacks %#x", c.name, a, x, n, size, c.r, c.v)
			}
		}
	}
}

func TestRange(t *testing.T) {
	for lo := uint64(0); lo < 40; lo++ {
		for hi := lo; hi < 40; hi++ {
			r := Range(lo, hi)
			for v := lo; v <= hi; v++ {
				if !r.Holds(v) {
					t.Fatalf("Range(%d,%d) = %v lacks %d", lo, hi, r, v)
				}
			}
		}
	}
	if Range(0, ^uint64(0)) != Unknown || Range(5, 5) != Const(5) {
		t.Error("extremes")
	}
}

func TestSets(t *testing.T) {
	every(4, func(a Tnum) {
		every(4, func(b Tnum) {
			both, subset := false, true
			for _, x := range members(b) {
				if a.Holds(x) {
					both = true
					if !Intersect(a, b).Holds(x) {
						t.Fatalf("Intersect(%v,%v) lacks %d", a, b, x)
					}
				} else {
					subset = false
				}
			}
			if Overlaps(a, b) != both || a.Contains(b) != subset {
				t.Fatalf("%v %v: overlaps %v, contains %v", a, b, Overlaps(a, b), a.Contains(b))
			}
		})
	})
}
