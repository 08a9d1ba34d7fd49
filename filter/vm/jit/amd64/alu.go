package amd64

import (
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// group1 numbers of the operations that have one, by ALU block.
var group1 = map[code.Op]byte{code.Add: 0, code.Or: 1, code.And: 4, code.Sub: 5, code.Xor: 6}

// alu emits an operation of the ALU blocks. 32-bit operations clear the upper half by
// themselves, as on the machine.
func (c *compiler) alu(in *code.Insn) {
	w, dst := !in.Op.Is32(), regs[in.Dst]
	src := regs[in.Src]
	isReg := in.Op.IsReg()
	base := in.Op.Base()
	switch base {
	case code.Add, code.Or, code.And, code.Sub, code.Xor:
		if isReg {
			c.rr(w, group1[base]<<3|1, src, dst)
		} else {
			c.aluImm(w, group1[base], dst, int32(in.Imm))
		}
	case code.Mov:
		switch {
		case !isReg:
			c.constant(dst, uint64(in.Imm))
		case w:
			c.mov(dst, src)
		default:
			c.mov32(dst, src)
		}
	case code.Mul:
		if isReg {
			c.rr0f(w, 0xaf, dst, src)
		} else {
			c.rr(w, 0x69, dst, dst)
			c.imm32(int32(in.Imm))
		}
	case code.Lsh:
		c.shift(w, 4, 1, dst, src, in)
	case code.Rsh:
		c.shift(w, 5, 3, dst, src, in)
	case code.Arsh:
		c.shift(w, 7, 2, dst, src, in)
	default:
		c.divide(in)
	}
}

// constant loads a constant; flags may change.
func (c *compiler) constant(r reg, v uint64) {
	if v == 0 {
		c.zero(r)
	} else {
		c.movImm(r, v)
	}
}

// shift emits a shift: n is the number in group 2, pp the one of the BMI2 form.
func (c *compiler) shift(w bool, n, pp byte, dst, src reg, in *code.Insn) {
	if !in.Op.IsReg() {
		if in.Imm == 0 {
			if !w {
				c.mov32(dst, dst)
			}
			return
		}
		c.group(w, 0xc1, n, dst)
		c.byte(byte(in.Imm))
		return
	}
	if c.bmi2 {
		c.shiftx(w, pp, dst, dst, src)
		return
	}
	// The count goes through cl; rcx is R4.
	switch {
	case src == rcx && dst != rcx:
		c.group(w, 0xd3, n, dst)
	case dst == rcx:
		c.mov(r11, rcx)
		c.mov(rcx, src)
		c.group(w, 0xd3, n, r11)
		c.mov(rcx, r11)
	default:
		c.mov(r11, rcx)
		c.mov(rcx, src)
		c.group(w, 0xd3, n, dst)
		c.mov(rcx, r11)
	}
}

// divide emits division and modulo: by zero gives 0 and the dividend, and the one case
// that overflows, which the machine would trap on, is done as negation.
func (c *compiler) divide(in *code.Insn) {
	w, dst, base := !in.Op.Is32(), regs[in.Dst], in.Op.Base()
	signed := base == code.SDiv || base == code.SMod
	mod := base == code.Mod || base == code.SMod
	done, zero := c.label(), c.label()
	if in.Op.IsReg() {
		c.mov(r11, regs[in.Src])
	} else {
		c.movImm(r11, uint64(in.Imm))
	}
	c.rr(w, 0x85, r11, r11)
	c.jcc(ccE, zero)
	if signed {
		normal := c.label()
		c.aluImm(w, 7, r11, -1)
		c.jcc(ccNE, normal)
		if mod {
			c.zero(dst)
		} else {
			c.group(w, 0xf7, 3, dst)
		}
		c.jmp(done)
		c.bind(normal)
	}
	if dst != rax {
		c.push(rax)
		c.mov(rax, dst)
	}
	if dst != rdx {
		c.push(rdx)
	}
	if signed {
		c.rex(w, 0, 0, 0, false)
		c.byte(0x99) // cdq, cqo
		c.group(w, 0xf7, 7, r11)
	} else {
		c.zero(rdx)
		c.group(w, 0xf7, 6, r11)
	}
	result := rax
	if mod {
		result = rdx
	}
	c.rr(w, 0x89, result, r11)
	if dst != rdx {
		c.pop(rdx)
	}
	if dst != rax {
		c.pop(rax)
	}
	c.mov(dst, r11)
	c.jmp(done)
	c.bind(zero)
	switch {
	case !mod:
		c.zero(dst)
	case !w:
		c.mov32(dst, dst)
	}
	c.bind(done)
}

// unary emits negation, sign extension, byte order and constants.
func (c *compiler) unary(in *code.Insn) {
	dst, src := regs[in.Dst], regs[in.Src]
	switch in.Op {
	case code.Neg64:
		c.group(true, 0xf7, 3, dst)
	case code.Neg32:
		c.group(false, 0xf7, 3, dst)
	case code.MovSX8:
		c.rex(true, dst, 0, src, true)
		c.byte(0x0f, 0xbe, 0xc0|byte(dst&7)<<3|byte(src&7))
	case code.MovSX16:
		c.rr0f(true, 0xbf, dst, src)
	case code.MovSX32:
		c.rr(true, 0x63, dst, src)
	case code.MovSX8W:
		c.rr0f(false, 0xbe, dst, src)
	case code.MovSX16W:
		c.rr0f(false, 0xbf, dst, src)
	case code.Zext16:
		c.rr0f(false, 0xb7, dst, dst)
	case code.Zext32:
		c.mov32(dst, dst)
	case code.Swap16:
		c.byte(0x66)
		c.group(false, 0xc1, 0, dst) // rol r16, 8
		c.byte(8)
		c.rr0f(false, 0xb7, dst, dst)
	case code.Swap32, code.Swap64:
		c.rex(in.Op == code.Swap64, 0, 0, dst, false)
		c.byte(0x0f, 0xc8|byte(dst&7))
	case code.LoadImm:
		if to, ok := code.FuncIndex(uint64(in.Imm)); ok {
			c.leaLabel(dst, c.insn[to])
			return
		}
		c.constant(dst, uint64(in.Imm))
	}
}

var conditions = map[code.Op]byte{
	code.JEq: ccE, code.JNE: ccNE, code.JSet: ccNE, code.JGT: ccA, code.JGE: ccAE, code.JLT: ccB, code.JLE: ccBE,
	code.JSGT: ccG, code.JSGE: ccGE, code.JSLT: ccL, code.JSLE: ccLE,
}

// compare sets the flags for a conditional jump.
func (c *compiler) compare(in *code.Insn) {
	w, dst := !in.Op.Is32(), regs[in.Dst]
	test := in.Op.Base() == code.JSet
	switch {
	case in.Op.IsReg() && test:
		c.rr(w, 0x85, regs[in.Src], dst)
	case in.Op.IsReg():
		c.rr(w, 0x39, regs[in.Src], dst)
	case test:
		c.group(w, 0xf7, 0, dst)
		c.imm32(int32(in.Imm))
	case int32(in.Imm) == 0:
		c.rr(w, 0x85, dst, dst)
	default:
		c.aluImm(w, 7, dst, int32(in.Imm))
	}
}

// branch jumps on the condition of a conditional jump.
func (c *compiler) branch(pc int, in *code.Insn) {
	cc := conditions[in.Op.Base()]
	if int(in.Off) > pc {
		c.jcc(cc, c.insn[in.Off])
		return
	}
	skip := c.label()
	c.jcc(cc^1, skip)
	c.jump(pc, int(in.Off))
	c.bind(skip)
}

// jump goes to an instruction; backwards it costs the instructions in between.
func (c *compiler) jump(pc, to int) {
	if to > pc {
		c.jmp(c.insn[to])
		return
	}
	c.aluImm(true, 5, budget, int32(pc+1-to))
	c.jcc(ccNS, c.insn[to])
	c.jmp(c.broke)
}

// mayGoto jumps when the run has passed such places often enough.
func (c *compiler) mayGoto(pc int, in *code.Insn) {
	on := c.label()
	c.load(r11, state, jit.OffLoops)
	c.rr(true, 0x85, r11, r11)
	c.jcc(ccNE, on)
	c.jump(pc, int(in.Off))
	c.bind(on)
	c.aluImm(true, 5, r11, 1)
	c.store(state, jit.OffLoops, r11)
}
