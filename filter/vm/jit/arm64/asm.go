package arm64

import "encoding/binary"

// reg is a machine register; 31 is the zero register.
type reg uint32

const (
	scratch0 reg = 9
	scratch1 reg = 10
	scratch2 reg = 11 // offsets of loads and stores that do not fit
	scratch3 reg = 12
	scratch4 reg = 13 // return address around lookup routines
	nstack   reg = 24
	budget   reg = 25
	state    reg = 26
	lr       reg = 30
	xzr      reg = 31
)

// Conditions of b.cond.
const (
	condEQ = 0
	condNE = 1
	condHS = 2
	condLO = 3
	condPL = 5
	condHI = 8
	condLS = 9
	condGE = 10
	condLT = 11
	condGT = 12
	condLE = 13
)

// Instructions, 32-bit forms; sf makes them 64-bit.
const (
	sf      = 1 << 31
	opADD   = 0x0b000000
	opSUB   = 0x4b000000
	opSUBS  = 0x6b000000
	opAND   = 0x0a000000
	opORR   = 0x2a000000
	opEOR   = 0x4a000000
	opANDS  = 0x6a000000
	opMADD  = 0x1b000000
	opMSUB  = 0x1b008000
	opUMULH = 0x9bc07c00
	opUDIV  = 0x1ac00800
	opSDIV  = 0x1ac00c00
	opLSLV  = 0x1ac02000
	opLSRV  = 0x1ac02400
	opASRV  = 0x1ac02800
	opADDi  = 0x11000000
	opADDSi = 0x31000000
	opSUBi  = 0x51000000
	opSUBSi = 0x71000000
	opMOVZ  = 0x52800000
	opMOVN  = 0x12800000
	opMOVK  = 0x72800000
	opUBFM  = 0x53000000
	opSBFM  = 0x13000000
	opREV16 = 0x5ac00400
	opREV   = 0x5ac00800
	opREV64 = 0xdac00c00
	opLDUR  = 0x38400000
	opSTUR  = 0x38000000
	opLDURS = 0x38800000
	opLDRr  = 0x38606800 // register offset
	opSTRr  = 0x38206800
	opLDRSr = 0x38a06800
	opLDRu  = 0x39400000 // scaled unsigned offset
	opSTRu  = 0x39000000
	opLDRSu = 0x39800000
	opLDAR  = 0x08dffc00
	opSTLR  = 0x089ffc00
	opLDAXR = 0x085ffc00
	opSTLXR = 0x0800fc00
	opB     = 0x14000000
	opBL    = 0x94000000
	opBcond = 0x54000000
	opCBZ   = 0x34000000
	opCBNZ  = 0x35000000
	opBR    = 0xd61f0000
	opBLR   = 0xd63f0000
	opRET   = 0xd65f03c0
	opADR   = 0x10000000
)

// asm emits machine code in two passes: the first finds where labels are. Both must emit
// the same sequence.
type asm struct {
	b      []byte
	labels []int
	next   label
	far    bool // a jump does not reach
}

type label int

func (a *asm) reset() { a.b, a.next, a.far = a.b[:0], 0, false }

func (a *asm) label() label {
	if int(a.next) == len(a.labels) {
		a.labels = append(a.labels, 0)
	}
	a.next++
	return a.next - 1
}

func (a *asm) bind(l label)  { a.labels[l] = len(a.b) }
func (a *asm) word(w uint32) { a.b = binary.LittleEndian.AppendUint32(a.b, w) }

func wide(w bool) uint32 {
	if w {
		return sf
	}
	return 0
}

// rrr emits rd = rn op rm.
func (a *asm) rrr(w bool, op uint32, rd, rn, rm reg) {
	a.word(op | wide(w) | uint32(rm)<<16 | uint32(rn)<<5 | uint32(rd))
}

func (a *asm) mov(rd, rn reg) {
	if rd != rn {
		a.rrr(true, opORR, rd, xzr, rn)
	}
}

func (a *asm) mov32(rd, rn reg) { a.rrr(false, opORR, rd, xzr, rn) }

// mul emits rd = rn * rm.
func (a *asm) mul(w bool, rd, rn, rm reg) { a.rrr(w, opMADD|uint32(xzr)<<10, rd, rn, rm) }

// movImm loads a constant with as few instructions as it takes.
func (a *asm) movImm(rd reg, v uint64) {
	ones, zeros := 0, 0
	for i := 0; i < 64; i += 16 {
		switch uint16(v >> i) {
		case 0xffff:
			ones++
		case 0:
			zeros++
		}
	}
	first, op, skip, flip := true, uint32(opMOVZ), uint16(0), uint16(0)
	if ones > zeros {
		op, skip, flip = opMOVN, 0xffff, 0xffff
	}
	for i := uint32(0); i < 4; i++ {
		h := uint16(v >> (16 * i))
		if h == skip {
			continue
		}
		if first {
			a.word(op | sf | i<<21 | uint32(h^flip)<<5 | uint32(rd))
			first = false
		} else {
			a.word(opMOVK | sf | i<<21 | uint32(h)<<5 | uint32(rd))
		}
	}
	if first {
		a.word(op | sf | uint32(rd))
	}
}

// addImm emits rd = rn + v.
func (a *asm) addImm(w bool, rd, rn reg, v int32) {
	switch {
	case v >= 0 && v < 4096:
		a.word(opADDi | wide(w) | uint32(v)<<10 | uint32(rn)<<5 | uint32(rd))
	case v < 0 && v > -4096:
		a.word(opSUBi | wide(w) | uint32(-v)<<10 | uint32(rn)<<5 | uint32(rd))
	default:
		a.movImm(scratch0, uint64(int64(v)))
		a.rrr(w, opADD, rd, rn, scratch0)
	}
}

// cmpImm compares rn with v.
func (a *asm) cmpImm(w bool, rn reg, v int32) {
	switch {
	case v >= 0 && v < 4096:
		a.word(opSUBSi | wide(w) | uint32(v)<<10 | uint32(rn)<<5 | uint32(xzr))
	case v < 0 && v > -4096:
		a.word(opADDSi | wide(w) | uint32(-v)<<10 | uint32(rn)<<5 | uint32(xzr))
	default:
		a.movImm(scratch0, uint64(int64(v)))
		a.cmp(w, rn, scratch0)
	}
}

func (a *asm) cmp(w bool, rn, rm reg) { a.rrr(w, opSUBS, xzr, rn, rm) }

// bits emits a bit field move.
func (a *asm) bits(w bool, op uint32, rd, rn reg, immr, imms uint32) {
	if w {
		op |= 1 << 22
	}
	a.word(op | wide(w) | immr<<16 | imms<<10 | uint32(rn)<<5 | uint32(rd))
}

func (a *asm) lsl(w bool, rd, rn reg, n uint32) {
	top := uint32(31)
	if w {
		top = 63
	}
	a.bits(w, opUBFM, rd, rn, -n&top, top-n)
}

func (a *asm) lsr(w bool, rd, rn reg, n uint32) {
	top := uint32(31)
	if w {
		top = 63
	}
	a.bits(w, opUBFM, rd, rn, n, top)
}

// mem emits a load or store of 1<<size bytes at [base+off]; the three opcodes are those
// of its unscaled, scaled and register-offset forms.
func (a *asm) mem(unscaled, scaled, register uint32, size uint32, rt, base reg, off int32) {
	switch {
	case off >= -256 && off < 256:
		a.word(unscaled | size<<30 | uint32(off)&0x1ff<<12 | uint32(base)<<5 | uint32(rt))
	case off >= 0 && off>>size < 4096 && off&(1<<size-1) == 0:
		a.word(scaled | size<<30 | uint32(off>>size)<<10 | uint32(base)<<5 | uint32(rt))
	default:
		a.movImm(scratch2, uint64(int64(off)))
		a.word(register | size<<30 | uint32(scratch2)<<16 | uint32(base)<<5 | uint32(rt))
	}
}

func (a *asm) ldr(size uint32, rt, base reg, off int32) {
	a.mem(opLDUR, opLDRu, opLDRr, size, rt, base, off)
}
func (a *asm) str(size uint32, rt, base reg, off int32) {
	a.mem(opSTUR, opSTRu, opSTRr, size, rt, base, off)
}
func (a *asm) load(rt, base reg, off int32)  { a.ldr(3, rt, base, off) }
func (a *asm) store(rt, base reg, off int32) { a.str(3, rt, base, off) }

// distance is how far l is from here, in instructions.
func (a *asm) distance(l label, bits uint) uint32 {
	d := (a.labels[l] - len(a.b)) / 4
	if d >= 1<<(bits-1) || d < -1<<(bits-1) {
		a.far = true
	}
	return uint32(d) & (1<<bits - 1)
}

func (a *asm) jmp(l label)              { a.word(opB | a.distance(l, 26)) }
func (a *asm) call(l label)             { a.word(opBL | a.distance(l, 26)) }
func (a *asm) jcc(cond uint32, l label) { a.word(opBcond | a.distance(l, 19)<<5 | cond) }
func (a *asm) cbz(r reg, l label)       { a.word(opCBZ | sf | a.distance(l, 19)<<5 | uint32(r)) }
func (a *asm) cbnz(r reg, l label)      { a.word(opCBNZ | sf | a.distance(l, 19)<<5 | uint32(r)) }
func (a *asm) ret()                     { a.word(opRET) }

// adr puts the address of l into r.
func (a *asm) adr(r reg, l label) {
	d := a.labels[l] - len(a.b)
	if d >= 1<<20 || d < -1<<20 {
		a.far = true
	}
	a.word(opADR | uint32(d)&3<<29 | uint32(d)>>2&0x7ffff<<5 | uint32(r))
}
