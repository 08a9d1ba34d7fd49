package amd64

import (
	"encoding/binary"
	"slices"
)

// reg is a machine register by its number.
type reg uint8

const (
	rax reg = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

// Condition codes of jcc, the low nibble of the opcode.
const (
	ccB  = 0x2 // unsigned <
	ccAE = 0x3
	ccE  = 0x4
	ccNE = 0x5
	ccBE = 0x6
	ccA  = 0x7
	ccS  = 0x8 // negative
	ccNS = 0x9
	ccL  = 0xc // signed <
	ccGE = 0xd
	ccLE = 0xe
	ccG  = 0xf
)

// asm emits machine code. Jumps go to labels. The whole program is emitted again and
// again until nothing moves any more: all jumps begin short, and one that turns out too
// far is long from then on. Every pass must emit the same sequence.
type asm struct {
	b       []byte
	labels  []int // position of each label in this pass
	prev    []int // and in the one before; empty in the first
	next    label
	long    []bool // by jump
	jumps   int    // emitted in this pass
	changed bool   // a jump became long in this pass
}

// label is a place in the code.
type label int

// reset starts another pass.
func (a *asm) reset() {
	a.prev = append(a.prev[:0], a.labels...)
	for i := range a.labels {
		a.labels[i] = -1
	}
	a.b, a.next, a.jumps, a.changed = a.b[:0], 0, 0, false
}

// label makes a label; the same calls in every pass give the same labels.
func (a *asm) label() label {
	if int(a.next) == len(a.labels) {
		a.labels = append(a.labels, -1)
	}
	a.next++
	return a.next - 1
}

func (a *asm) bind(l label) { a.labels[l] = len(a.b) }

// settled reports whether the pass changed nothing.
func (a *asm) settled() bool { return !a.changed && slices.Equal(a.prev, a.labels) }

func (a *asm) byte(b ...byte) { a.b = append(a.b, b...) }
func (a *asm) imm32(v int32)  { a.b = binary.LittleEndian.AppendUint32(a.b, uint32(v)) }
func (a *asm) imm64(v uint64) { a.b = binary.LittleEndian.AppendUint64(a.b, v) }
func fits8(v int32) bool      { return v == int32(int8(v)) }
func fits32(v int64) bool     { return v == int64(int32(v)) }
func (a *asm) rex(w bool, r, x, b reg, force bool) {
	p := byte(0x40) | byte(r>>3)<<2 | byte(x>>3)<<1 | byte(b>>3)
	if w {
		p |= 8
	}
	if p != 0x40 || force {
		a.byte(p)
	}
}

// rr emits op with a register pair: r in ModRM.reg, m in ModRM.rm.
func (a *asm) rr(w bool, op byte, r, m reg) {
	a.rex(w, r, 0, m, false)
	a.byte(op, 0xc0|byte(r&7)<<3|byte(m&7))
}

// rr0f is rr with a two-byte opcode.
func (a *asm) rr0f(w bool, op byte, r, m reg) {
	a.rex(w, r, 0, m, op == 0xb6 || op == 0xbe) // byte registers need a prefix
	a.byte(0x0f, op, 0xc0|byte(r&7)<<3|byte(m&7))
}

// modrm emits ModRM, SIB and displacement for [base+disp].
func (a *asm) modrm(r, base reg, disp int32) {
	mod := byte(0x80)
	switch {
	case disp == 0 && base&7 != rbp:
		mod = 0
	case fits8(disp):
		mod = 0x40
	}
	a.byte(mod | byte(r&7)<<3 | byte(base&7))
	if base&7 == rsp {
		a.byte(0x24)
	}
	switch mod {
	case 0x40:
		a.byte(byte(disp))
	case 0x80:
		a.imm32(disp)
	}
}

// mem emits op with register r and memory [base+disp].
func (a *asm) mem(w bool, op byte, r, base reg, disp int32) {
	a.rex(w, r, 0, base, op == 0x88 && r >= 4) // spl..dil as bytes
	a.byte(op)
	a.modrm(r, base, disp)
}

func (a *asm) mem0f(w bool, op byte, r, base reg, disp int32) {
	a.rex(w, r, 0, base, false)
	a.byte(0x0f, op)
	a.modrm(r, base, disp)
}

// indexed emits op with register r and memory [base+index<<scale+disp].
func (a *asm) indexed(w bool, op byte, r, base, index reg, scale byte, disp int32) {
	a.rex(w, r, index, base, false)
	a.byte(op, 0x84|byte(r&7)<<3, scale<<6|byte(index&7)<<3|byte(base&7))
	a.imm32(disp)
}

// group emits an instruction of the opcode group /n on a register.
func (a *asm) group(w bool, op, n byte, m reg) { a.rr(w, op, reg(n), m) }

// movImm loads a constant in the shortest way. It leaves the flags alone.
func (a *asm) movImm(r reg, v uint64) {
	switch {
	case v == uint64(uint32(v)):
		a.rex(false, 0, 0, r, false)
		a.byte(0xb8 | byte(r&7))
		a.imm32(int32(uint32(v)))
	case fits32(int64(v)):
		a.group(true, 0xc7, 0, r)
		a.imm32(int32(v))
	default:
		a.rex(true, 0, 0, r, false)
		a.byte(0xb8 | byte(r&7))
		a.imm64(v)
	}
}

func (a *asm) mov(dst, src reg) {
	if dst != src {
		a.rr(true, 0x89, src, dst)
	}
}

func (a *asm) mov32(dst, src reg) { a.rr(false, 0x89, src, dst) }
func (a *asm) zero(r reg)         { a.rr(false, 0x31, r, r) }

// load and store move 64 bits.
func (a *asm) load(r, base reg, disp int32)      { a.mem(true, 0x8b, r, base, disp) }
func (a *asm) store(base reg, disp int32, r reg) { a.mem(true, 0x89, r, base, disp) }

// aluImm emits one of the operations of group 1 (/0 add, /1 or, /4 and, /5 sub,
// /6 xor, /7 cmp) with a constant.
func (a *asm) aluImm(w bool, n byte, r reg, v int32) {
	if fits8(v) {
		a.group(w, 0x83, n, r)
		a.byte(byte(v))
		return
	}
	if r == rax {
		a.rex(w, 0, 0, 0, false)
		a.byte(n<<3 | 5)
	} else {
		a.group(w, 0x81, n, r)
	}
	a.imm32(v)
}

func (a *asm) push(r reg) { a.rex(false, 0, 0, r, false); a.byte(0x50 | byte(r&7)) }
func (a *asm) pop(r reg)  { a.rex(false, 0, 0, r, false); a.byte(0x58 | byte(r&7)) }
func (a *asm) ret()       { a.byte(0xc3) }

// distance is how far l is from the end of an instruction of n bytes that is emitted
// now. For a label further on it goes by the pass before.
func (a *asm) distance(l label, n int) int32 {
	at := a.labels[l]
	if at < 0 {
		if int(l) >= len(a.prev) {
			return 0
		}
		at = a.prev[l]
	}
	return int32(at - len(a.b) - n)
}

// short decides whether the next jump, of two bytes if it is short, reaches l.
func (a *asm) short(l label) bool {
	i := a.jumps
	a.jumps++
	if i == len(a.long) {
		a.long = append(a.long, false)
	}
	if !a.long[i] && !fits8(a.distance(l, 2)) {
		a.long[i], a.changed = true, true
	}
	return !a.long[i]
}

// jcc jumps to l on a condition, jmp always.
func (a *asm) jcc(cc byte, l label) {
	if a.short(l) {
		a.byte(0x70|cc, byte(a.distance(l, 2)))
		return
	}
	d := a.distance(l, 6)
	a.byte(0x0f, 0x80|cc)
	a.imm32(d)
}

func (a *asm) jmp(l label) {
	if a.short(l) {
		a.byte(0xeb, byte(a.distance(l, 2)))
		return
	}
	d := a.distance(l, 5)
	a.byte(0xe9)
	a.imm32(d)
}

// nops are the recommended instructions that do nothing, by length.
var nops = [...][]byte{
	{},
	{0x90},
	{0x66, 0x90},
	{0x0f, 0x1f, 0x00},
	{0x0f, 0x1f, 0x40, 0x00},
	{0x0f, 0x1f, 0x44, 0x00, 0x00},
	{0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
	{0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
	{0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
}

// align fills up to a multiple of n.
func (a *asm) align(n int) {
	for fill := -len(a.b) & (n - 1); fill > 0; {
		k := min(fill, len(nops)-1)
		a.byte(nops[k]...)
		fill -= k
	}
}

func (a *asm) call(l label) {
	d := a.distance(l, 5)
	a.byte(0xe8)
	a.imm32(d)
}

// lea puts the address of l into r.
func (a *asm) leaLabel(r reg, l label) {
	d := a.distance(l, 7)
	a.rex(true, r, 0, 0, false)
	a.byte(0x8d, byte(r&7)<<3|5)
	a.imm32(d)
}

// shiftx is a shift by a register that leaves flags and rcx alone (BMI2); pp is 1 for
// left, 3 for right, 2 for arithmetic.
func (a *asm) shiftx(w bool, pp byte, dst, src, count reg) {
	p2 := byte(0xe2)
	if dst >= 8 {
		p2 &^= 0x80
	}
	if src >= 8 {
		p2 &^= 0x20
	}
	p3 := (^byte(count)&15)<<3 | pp
	if w {
		p3 |= 0x80
	}
	a.byte(0xc4, p2, p3, 0xf7, 0xc0|byte(dst&7)<<3|byte(src&7))
}
