package scalar

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/verifier/tnum"
)

// pick returns a number with a liking for borders.
func pick(rng *rand.Rand) uint64 {
	edges := []uint64{0, 1, 2, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		1<<63 - 1, 1 << 63, ^uint64(0), ^uint64(0) - 1, 0xffffffff80000000, 0xffffffff7fffffff}
	switch rng.IntN(4) {
	case 0:
		return edges[rng.IntN(len(edges))]
	case 1:
		return edges[rng.IntN(len(edges))] + uint64(rng.IntN(9)) - 4
	case 2:
		return rng.Uint64() >> rng.IntN(64)
	}
	return rng.Uint64()
}

// around returns a random range that holds v, by the operations that verifiers
// meet ranges through: bounds of some width and sign, and known bits.
func around(rng *rand.Rand, v uint64) Range {
	r := Unknown()
	for range rng.IntN(4) {
		w := pick(rng)
		switch rng.IntN(5) {
		case 0:
			if w <= v {
				r.UMin = max(r.UMin, w)
			} else {
				r.UMax = min(r.UMax, w)
			}
		case 1:
			if int64(w) <= int64(v) {
				r.SMin = max(r.SMin, int64(w))
			} else {
				r.SMax = min(r.SMax, int64(w))
			}
		case 2:
			if uint32(w) <= uint32(v) {
				r.U32Min = max(r.U32Min, uint32(w))
			} else {
				r.U32Max = min(r.U32Max, uint32(w))
			}
		case 3:
			if int32(w) <= int32(v) {
				r.S32Min = max(r.S32Min, int32(w))
			} else {
				r.S32Max = min(r.S32Max, int32(w))
			}
		case 4:
			r.Bits = tnum.Intersect(r.Bits, tnum.Tnum{Value: v &^ w, Mask: w})
		}
		r.Sync()
	}
	if rng.IntN(8) == 0 {
		return Const(v)
	}
	return r
}

func concrete(op uint8, x, y uint64, wide bool) uint64 {
	w, n := x, y&63
	if !wide {
		x, y, n = uint64(uint32(x)), uint64(uint32(y)), y&31
	}
	switch op {
	case ebpf.ALUAdd:
		w = x + y
	case ebpf.ALUSub:
		w = x - y
	case ebpf.ALUMul:
		w = x * y
	case ebpf.ALUAnd:
		w = x & y
	case ebpf.ALUOr:
		w = x | y
	case ebpf.ALUXor:
		w = x ^ y
	case ebpf.ALUNeg:
		w = -x
	case ebpf.ALULsh:
		w = x << n
	case ebpf.ALURsh:
		w = x >> n
	case ebpf.ALUArsh:
		w = uint64(int64(x) >> n)
		if !wide {
			w = uint64(uint32(int32(uint32(x)) >> n))
		}
	}
	if !wide {
		w = uint64(uint32(w))
	}
	return w
}

var aluOps = []uint8{ebpf.ALUAdd, ebpf.ALUSub, ebpf.ALUMul, ebpf.ALUAnd, ebpf.ALUOr, ebpf.ALUXor,
	ebpf.ALUNeg, ebpf.ALULsh, ebpf.ALURsh, ebpf.ALUArsh}

func TestALUIsSound(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 400000 {
		x, y := pick(rng), pick(rng)
		op, wide := aluOps[rng.IntN(len(aluOps))], rng.IntN(2) == 0
		if op >= ebpf.ALULsh && op != ebpf.ALUNeg && rng.IntN(2) == 0 {
			y = uint64(rng.IntN(70))
		}
		a, b := around(rng, x), around(rng, y)
		if !a.Holds(x) || !b.Holds(y) {
			t.Fatalf("Sync lost the number: %#x in %v, %#x in %v", x, a, y, b)
		}
		r := a
		r.ALU(op, &b, wide)
		if want := concrete(op, x, y, wide); !r.Holds(want) {
			t.Fatalf("op %#x wide %v: [%v] op [%v] = [%v] lacks %#x of %#x, %#x", op, wide, a, b, r, want, x, y)
		}
	}
}

func TestCastsAreSound(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200000 {
		x := pick(rng)
		a := around(rng, x)
		size := 1 << rng.IntN(4)
		s := 64 - 8*size
		z, e := a, a
		z.Load(size)
		e.LoadSigned(size)
		b := a
		b.Swap(size)
		if !b.Holds(bits.ReverseBytes64(x) >> s) {
			t.Fatalf("size %d of %#x in [%v]: swapped [%v]", size, x, a, b)
		}
		if !z.Holds(x<<s>>s) || !e.Holds(uint64(int64(x<<s)>>s)) {
			t.Fatalf("size %d of %#x in [%v]: [%v] or [%v]", size, x, a, z, e)
		}
	}
}

func compare(op uint8, x, y uint64, wide bool) bool {
	a, b := int64(x), int64(y)
	if !wide {
		x, y = uint64(uint32(x)), uint64(uint32(y))
		a, b = int64(int32(x)), int64(int32(y))
	}
	switch op {
	case ebpf.JmpEq:
		return x == y
	case ebpf.JmpNE:
		return x != y
	case ebpf.JmpSet:
		return x&y != 0
	case ebpf.JmpGT:
		return x > y
	case ebpf.JmpGE:
		return x >= y
	case ebpf.JmpLT:
		return x < y
	case ebpf.JmpLE:
		return x <= y
	case ebpf.JmpSGT:
		return a > b
	case ebpf.JmpSGE:
		return a >= b
	case ebpf.JmpSLT:
		return a < b
	}
	return a <= b
}

func TestBranchesAreSound(t *testing.T) {
	ops := []uint8{ebpf.JmpEq, ebpf.JmpNE, ebpf.JmpSet, ebpf.JmpGT, ebpf.JmpGE, ebpf.JmpLT, ebpf.JmpLE,
		ebpf.JmpSGT, ebpf.JmpSGE, ebpf.JmpSLT, ebpf.JmpSLE}
	rng := rand.New(rand.NewPCG(7, 8))
	for range 400000 {
		x, y := pick(rng), pick(rng)
		if rng.IntN(3) == 0 {
			y = x
		}
		op, wide := ops[rng.IntN(len(ops))], rng.IntN(2) == 0
		a, b := around(rng, x), around(rng, y)
		holds := compare(op, x, y, wide)
		if o := Decide(op, &a, &b, wide); o == Always && !holds || o == Never && holds {
			t.Fatalf("op %#x wide %v: Decide([%v],[%v]) = %v, but %#x and %#x", op, wide, a, b, o, x, y)
		}
		c, d := a, b
		Refine(op, &c, &d, wide, holds)
		if !c.Holds(x) || !d.Holds(y) {
			t.Fatalf("op %#x wide %v holds %v: [%v],[%v] became [%v],[%v], lacking %#x or %#x", op, wide, holds, a, b, c, d, x, y)
		}
	}
}

func BenchmarkALUAdd(b *testing.B) {
	x, y := Between(1, 1000), Between(5, 7)
	for range b.N {
		r := x
		r.ALU(ebpf.ALUAdd, &y, true)
	}
}
