package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"taproom/filter/ebpf"
)

// generator makes random programs that any engine runs to an end: arithmetic, stack and
// packet memory, atomics, jumps forwards, counted loops, subprograms and helpers. R0 is
// a digest of all registers and of the stack.
type generator struct {
	r   *rand.Rand
	out []ebpf.Insn
	sub bool
	// calls are the places of calls whose target is appended at the end.
	calls []int
	depth int
	// veiled hides from a verifier what the program itself computes with; see veil.
	veiled bool
}

const (
	genStack  = 64 // bytes of stack in use
	genPacket = 60 // bytes of packet that are there
)

func (g *generator) emit(op, dst, src uint8, off int16, imm int32) {
	g.out = append(g.out, ebpf.Insn{Op: op, Regs: ebpf.Regs(dst, src), Off: off, Imm: imm})
}

func (g *generator) wide(dst uint8, v uint64) {
	g.emit(0x18, dst, 0, 0, int32(uint32(v)))
	g.out = append(g.out, ebpf.Insn{Imm: int32(uint32(v >> 32))})
}

// value is a random number that likes edges.
func (g *generator) value() uint64 {
	edges := [...]uint64{0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, ^uint64(0)}
	if g.r.IntN(3) == 0 {
		return g.r.Uint64()
	}
	v := edges[g.r.IntN(len(edges))]
	if g.r.IntN(2) == 0 {
		v += uint64(g.r.IntN(5)) - 2
	}
	return v
}

// Registers of generated code: R8 holds the packet or, in subprograms, a number; R9 is
// the counter of loops and not touched otherwise.
func (g *generator) reg() uint8 { return uint8(g.r.IntN(8)) }

func (g *generator) alu() {
	ops := [...]uint8{0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0}
	op := ops[g.r.IntN(len(ops))]
	class := uint8(0x07)
	bits := int32(64)
	if g.r.IntN(2) == 0 {
		class, bits = 0x04, 32
	}
	off := int16(0)
	if (op == 0x30 || op == 0x90) && g.r.IntN(2) == 0 {
		off = 1
	}
	imm := int32(g.value())
	switch op {
	case 0x60, 0x70, 0xc0:
		imm = int32(g.r.IntN(int(bits)))
	case 0x30, 0x90:
		if imm == 0 {
			imm = 3 // the kernel refuses division by a constant 0
		}
	}
	if g.r.IntN(2) == 0 {
		g.emit(op|class, g.reg(), 0, off, imm)
		return
	}
	if op == 0xb0 && g.r.IntN(2) == 0 {
		off = [...]int16{8, 16, 32}[g.r.IntN(2+int(bits)/64)]
	}
	g.emit(op|class|8, g.reg(), g.reg(), off, 0)
}

func (g *generator) unary() {
	switch g.r.IntN(5) {
	case 0:
		g.emit(0x87, g.reg(), 0, 0, 0)
	case 1:
		g.emit(0x84, g.reg(), 0, 0, 0)
	case 2:
		g.wide(g.reg(), g.value())
	case 3:
		g.emit([...]uint8{0xd4, 0xdc}[g.r.IntN(2)], g.reg(), 0, 0, [...]int32{16, 32, 64}[g.r.IntN(3)])
	default:
		g.emit(0xd7, g.reg(), 0, 0, [...]int32{16, 32, 64}[g.r.IntN(3)])
	}
}

// at is a stack offset for an access of n bytes.
func (g *generator) at(n int) int16 { return int16(-genStack + g.r.IntN(genStack/n)*n) }

func (g *generator) memory() {
	size := g.r.IntN(4)
	n := 1 << size
	bits := [...]uint8{0x10, 0x08, 0x00, 0x18}[size]
	switch g.r.IntN(6) {
	case 0:
		g.emit(0x61|bits&0x18, g.reg(), 10, g.at(n), 0)
	case 1:
		switch {
		case size == 3:
		case g.sub || g.r.IntN(2) == 0:
			dst := g.reg()
			g.emit(0x81|bits, dst, 10, g.at(n), 0)
			g.veil(dst)
		default:
			g.emit(0x81|bits, g.reg(), 8, int16(g.r.IntN(genPacket-n)), 0)
		}
	case 2:
		g.emit(0x63|bits, 10, g.reg(), g.at(n), 0)
	case 3:
		g.emit(0x62|bits, 10, 0, g.at(n), int32(g.value()))
	case 4:
		if !g.sub {
			g.emit(0x61|bits, g.reg(), 8, int16(g.r.IntN(genPacket-n)), 0)
		}
	default:
		if !g.sub {
			g.emit(0x63|bits, 8, g.reg(), int16(g.r.IntN(genPacket-n)), 0)
		}
	}
}

func (g *generator) atomic() {
	ops := [...]int32{0, 0x40, 0x50, 0xa0, 1, 0x41, 0x51, 0xa1, 0xe1, 0xf1}
	word := g.r.IntN(2) == 0
	src, op := g.reg(), ops[g.r.IntN(len(ops))]
	if word {
		g.emit(0xc3, 10, src, g.at(4), op)
	} else {
		g.emit(0xdb, 10, src, g.at(8), op)
	}
	fetched := src
	if op == 0xf1 {
		fetched = 0
	}
	if word && op == 0xf1 && g.veiled {
		g.emit(0xbc, 0, 0, 0, 0)
	}
	if op&1 != 0 {
		g.veil(fetched)
	}
}

// Slots of the stack that only veil uses.
const (
	genZero = -72 // a 0 of which a verifier knows nothing
	genKeep = -80
)

// veil changes nothing, but afterwards a verifier does not know the number in reg. Only
// the programs that settle a difference with the kernel have it. It is for defects of
// Linux 6.18, whose verifier removes branches of correct programs that are taken, or an
// extension that is needed, RFC 9669 being clear about what they do:
//
//   - Section 5.3: a fetching atomic operation on a spilled number gives that number, but
//     the verifier does not follow it when it asks which registers made it take a branch.
//     It then holds different numbers for equal (seed 5054932).
//   - Section 5.2: a sign-extending load of part of a spilled register gives that part,
//     but the verifier takes it for all of the register.
//   - Section 5.3: a 32-bit compare-and-exchange zero-extends R0 whether it exchanges or
//     not. On x86-64 that is an instruction of its own, which is left out when the
//     verifier has not seen that someone reads the upper half.
func (g *generator) veil(reg uint8) {
	if !g.veiled {
		return
	}
	by := uint8(9)
	g.emit(0x7b, 10, by, genKeep, 0)
	g.emit(0x79, by, 10, genZero, 0)
	g.emit(0xaf, reg, by, 0, 0)
	g.emit(0x79, by, 10, genKeep, 0)
}

// zero fills the slot of veil.
func (g *generator) zero() {
	if !g.veiled {
		return
	}
	for r := uint8(1); r <= 5; r++ {
		g.emit(0x7b, 10, r, genKeep-8*int16(r), 0)
	}
	g.emit(0x85, 0, 0, 0, 7) // bpf_get_prandom_u32
	g.emit(0x77, 0, 0, 0, 32)
	g.emit(0x7b, 10, 0, genZero, 0)
	g.emit(0xb7, 9, 0, 0, 0)
	for r := uint8(1); r <= 5; r++ {
		g.emit(0x79, r, 10, genKeep-8*int16(r), 0)
	}
}

// jump skips a few statements on a condition.
func (g *generator) jump() {
	ops := [...]uint8{0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0}
	op := ops[g.r.IntN(len(ops))] | [...]uint8{0x05, 0x06}[g.r.IntN(2)]
	at := len(g.out)
	if g.r.IntN(2) == 0 {
		g.emit(op, g.reg(), 0, 0, int32(g.value()))
	} else {
		g.emit(op|8, g.reg(), g.reg(), 0, 0)
	}
	for range g.r.IntN(4) + 1 {
		g.statement()
	}
	g.out[at].Off = int16(len(g.out) - at - 1)
}

// loop goes round a few statements, with R9 as its counter.
func (g *generator) loop() {
	if g.depth > 0 {
		return
	}
	g.depth++
	g.emit(0xb7, 9, 0, 0, int32(g.r.IntN(6)+1))
	at := len(g.out)
	for range g.r.IntN(4) + 1 {
		g.statement()
	}
	g.emit(0x07, 9, 0, 0, -1)
	g.emit(0x55, 9, 0, int16(at-len(g.out)-1), 0)
	g.depth--
}

// call calls a subprogram, and sets what a call leaves undefined.
func (g *generator) call() {
	if g.sub || g.depth > 0 {
		return
	}
	g.calls = append(g.calls, len(g.out))
	g.emit(0x85, 0, 1, 0, 0)
	for r := uint8(1); r <= 5; r++ {
		g.wide(r, g.value())
	}
}

func (g *generator) statement() {
	switch n := g.r.IntN(24); {
	case n < 11:
		g.alu()
	case n < 13:
		g.unary()
	case n < 18:
		g.memory()
	case n < 20:
		g.atomic()
	case n < 22:
		g.jump()
	case n < 23:
		g.loop()
	default:
		g.call()
	}
}

// digest folds all there is into R0.
func (g *generator) digest() {
	for r := uint8(1); r < 8; r++ {
		g.emit(0x27, 0, 0, 0, 31)
		g.emit(0xaf, 0, r, 0, 0)
	}
	for at := int16(-genStack); at < 0; at += 8 {
		g.emit(0x79, 1, 10, at, 0)
		g.emit(0x27, 0, 0, 0, 31)
		g.emit(0x0f, 0, 1, 0, 0)
	}
	g.emit(0xbf, 1, 0, 0, 0)
	g.emit(0x77, 1, 0, 0, 32)
	g.emit(0xaf, 0, 1, 0, 0)
	g.emit(0x95, 0, 0, 0, 0)
}

func (g *generator) setup(from uint8) {
	for r := from; r < 8; r++ {
		g.wide(r, g.value())
	}
	for at := int16(-genStack); at < 0; at += 8 {
		g.emit(0x7b, 10, uint8(g.r.IntN(8)), at, 0)
	}
}

// generate makes program number seed. Veiled or not it does the same.
func generate(seed uint64, veiled bool) []ebpf.Insn {
	g := &generator{r: rand.New(rand.NewPCG(seed, 7)), veiled: veiled}
	// if data + 60 > data_end: return 0
	g.emit(0x61, 8, 1, 76, 0)
	g.emit(0x61, 2, 1, 80, 0)
	g.emit(0xbf, 3, 8, 0, 0)
	g.emit(0x07, 3, 0, 0, genPacket)
	g.emit(0xbd, 3, 2, 2, 0)
	g.emit(0xb7, 0, 0, 0, 0)
	g.emit(0x95, 0, 0, 0, 0)
	if veiled {
		for r := uint8(1); r <= 5; r++ {
			g.emit(0xb7, r, 0, 0, 0)
		}
	}
	g.zero()
	g.setup(0)
	for range g.r.IntN(40) + 5 {
		g.statement()
	}
	g.digest()
	if len(g.calls) > 0 {
		at := len(g.out)
		for _, c := range g.calls {
			g.out[c].Imm = int32(at - c - 1)
		}
		g.sub = true
		g.zero()
		g.wide(0, g.value())
		g.setup(6)
		g.depth = 0
		for range g.r.IntN(10) + 3 {
			g.statement()
		}
		g.digest()
	}
	return g.out
}

// setting is a number from the environment, to run a test for longer.
func setting(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

// TestRandomPrograms compares interpreter, compiled code and, where possible, the
// running kernel on generated programs. TAPROOM_RANDOM_SECONDS makes it run for longer
// and TAPROOM_RANDOM_SEED choose where to begin. If only the kernel differs, and agrees
// on the veiled program, the difference is one of its verifier's.
func TestRandomPrograms(t *testing.T) {
	seed := uint64(setting("TAPROOM_RANDOM_SEED", 1))
	limit := time.Duration(setting("TAPROOM_RANDOM_SECONDS", 2)) * time.Second
	kernelSide := os.Getuid() == 0
	runs, kernels, refused := 0, 0, 0
	var misread []uint64
	for begin := time.Now(); time.Since(begin) < limit; seed++ {
		insns, in := generate(seed, false), randomFrame(seed)
		first := runBoth(t, seed, insns, in)
		runs++
		if !kernelSide {
			continue
		}
		ret, out, err := runKernel(t, insns, in)
		if errors.Is(err, errNoKernel) {
			kernelSide = false
			continue
		}
		if err != nil {
			refused++
			continue
		}
		kernels++
		if ret == first.Return && bytes.Equal(out, first.Data) {
			continue
		}
		insns = generate(seed, true)
		veiled := runBoth(t, seed, insns, in)
		if veiled.Return != first.Return || !bytes.Equal(veiled.Data, first.Data) {
			t.Errorf("seed %d: %#x, veiled %#x\n%x\n%x", seed, first.Return, veiled.Return, first.Data, veiled.Data)
		}
		again, data, err := runKernel(t, insns, in)
		if err != nil || again != first.Return || !bytes.Equal(data, first.Data) {
			t.Errorf("seed %d: interpreter %#x, kernel %#x, veiled %#x %v\n%x\n%x", seed, first.Return, ret, again, err, first.Data, out)
		}
		misread = append(misread, seed)
	}
	t.Logf("%d programs, %d of them also in the kernel, which refused %d and misread %d: %d", runs, kernels, refused, len(misread), misread)
}

func randomFrame(seed uint64) []byte {
	in := make([]byte, 64)
	for i := range in {
		in[i] = byte(seed>>(i%8)) + byte(i)
	}
	binary.BigEndian.PutUint16(in[12:], 0x88b5) // no protocol that the kernel would check
	return in
}

// runBoth runs a program interpreted and compiled, and returns what it did.
func runBoth(t *testing.T, seed uint64, insns []ebpf.Insn, in []byte) (first TestResult) {
	t.Helper()
	src := &ebpf.Program{Name: "random", License: "GPL", Type: ebpf.SchedCLS, Insns: insns, Funcs: []ebpf.Func{{}}}
	for i, o := range []Options{{NoJIT: true}, {}} {
		p, err := load(src, o)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		res, err := p.TestRun(TestOptions{Data: in})
		if err != nil {
			t.Fatalf("seed %d, engine %d: %v", seed, i, err)
		}
		if i == 0 {
			first = res
		} else if res.Return != first.Return || !bytes.Equal(res.Data, first.Data) {
			t.Errorf("seed %d: interpreter %#x, compiled %#x\n%x\n%x", seed, first.Return, res.Return, first.Data, res.Data)
		}
		p.Release()
	}
	return first
}

func runKernel(t *testing.T, insns []ebpf.Insn, in []byte) (uint32, []byte, error) {
	k, err := loadKernel(ebpf.SchedCLS, insns)
	if err != nil {
		return 0, nil, err
	}
	defer k.close()
	ret, out := k.run(t, in)
	return ret, out, nil
}
