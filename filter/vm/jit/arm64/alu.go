package arm64

import (
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

var simple = map[code.Op]uint32{
	code.Add: opADD, code.Sub: opSUB, code.And: opAND, code.Or: opORR, code.Xor: opEOR,
	code.Lsh: opLSLV, code.Rsh: opLSRV, code.Arsh: opASRV, code.Div: opUDIV, code.SDiv: opSDIV,
}

// alu emits an operation of the ALU blocks. The machine divides by zero as BPF does.
func (c *compiler) alu(in *code.Insn) {
	w, dst, base := !in.Op.Is32(), regs[in.Dst], in.Op.Base()
	src := regs[in.Src]
	if !in.Op.IsReg() {
		switch base {
		case code.Mov:
			c.movImm(dst, uint64(in.Imm))
			return
		case code.Add:
			c.addImm(w, dst, dst, int32(in.Imm))
			return
		case code.Lsh:
			c.lsl(w, dst, dst, uint32(in.Imm))
			return
		case code.Rsh:
			c.lsr(w, dst, dst, uint32(in.Imm))
			return
		case code.Arsh:
			top := uint32(31)
			if w {
				top = 63
			}
			c.bits(w, opSBFM, dst, dst, uint32(in.Imm), top)
			return
		}
		src = scratch1
		c.movImm(src, uint64(in.Imm))
	}
	switch base {
	case code.Mov:
		if w {
			c.mov(dst, src)
		} else {
			c.mov32(dst, src)
		}
	case code.Mul:
		c.mul(w, dst, dst, src)
	case code.Mod, code.SMod:
		op := uint32(opUDIV)
		if base == code.SMod {
			op = opSDIV
		}
		c.rrr(w, op, scratch0, dst, src)
		c.rrr(w, opMSUB|uint32(dst)<<10, dst, scratch0, src) // dst - quotient*src
	default:
		c.rrr(w, simple[base], dst, dst, src)
	}
}

// unary emits negation, sign extension, byte order and constants.
func (c *compiler) unary(in *code.Insn) {
	dst, src := regs[in.Dst], regs[in.Src]
	switch in.Op {
	case code.Neg64:
		c.rrr(true, opSUB, dst, xzr, dst)
	case code.Neg32:
		c.rrr(false, opSUB, dst, xzr, dst)
	case code.MovSX8:
		c.bits(true, opSBFM, dst, src, 0, 7)
	case code.MovSX16:
		c.bits(true, opSBFM, dst, src, 0, 15)
	case code.MovSX32:
		c.bits(true, opSBFM, dst, src, 0, 31)
	case code.MovSX8W:
		c.bits(false, opSBFM, dst, src, 0, 7)
	case code.MovSX16W:
		c.bits(false, opSBFM, dst, src, 0, 15)
	case code.Zext16:
		c.bits(false, opUBFM, dst, dst, 0, 15)
	case code.Zext32:
		c.mov32(dst, dst)
	case code.Swap16:
		c.rrr(false, opREV16, dst, dst, 0)
		c.bits(false, opUBFM, dst, dst, 0, 15)
	case code.Swap32:
		c.rrr(false, opREV, dst, dst, 0)
	case code.Swap64:
		c.rrr(false, opREV64, dst, dst, 0)
	case code.LoadImm:
		if to, ok := code.FuncIndex(uint64(in.Imm)); ok {
			c.adr(dst, c.insn[to])
			return
		}
		c.movImm(dst, uint64(in.Imm))
	}
}

var conditions = map[code.Op]uint32{
	code.JEq: condEQ, code.JNE: condNE, code.JSet: condNE, code.JGT: condHI, code.JGE: condHS, code.JLT: condLO,
	code.JLE: condLS, code.JSGT: condGT, code.JSGE: condGE, code.JSLT: condLT, code.JSLE: condLE,
}

// compare sets the flags for a conditional jump.
func (c *compiler) compare(in *code.Insn) {
	w, dst := !in.Op.Is32(), regs[in.Dst]
	test := in.Op.Base() == code.JSet
	switch {
	case in.Op.IsReg() && test:
		c.rrr(w, opANDS, xzr, dst, regs[in.Src])
	case in.Op.IsReg():
		c.cmp(w, dst, regs[in.Src])
	case test:
		c.movImm(scratch0, uint64(int64(int32(in.Imm))))
		c.rrr(w, opANDS, xzr, dst, scratch0)
	default:
		c.cmpImm(w, dst, int32(in.Imm))
	}
}

func (c *compiler) branch(pc int, in *code.Insn) {
	cond := conditions[in.Op.Base()]
	if int(in.Off) > pc {
		c.jcc(cond, c.insn[in.Off])
		return
	}
	skip := c.label()
	c.jcc(cond^1, skip)
	c.jump(pc, int(in.Off))
	c.bind(skip)
}

// jump goes to an instruction; backwards it costs the instructions in between.
func (c *compiler) jump(pc, to int) {
	if to > pc {
		c.jmp(c.insn[to])
		return
	}
	c.charge(int32(pc + 1 - to))
	c.jcc(condPL, c.insn[to])
	c.jmp(c.broke)
}

// charge takes n off the budget and sets the flags.
func (c *compiler) charge(n int32) {
	if n < 4096 {
		c.word(opSUBSi | sf | uint32(n)<<10 | uint32(budget)<<5 | uint32(budget))
		return
	}
	c.movImm(scratch0, uint64(n))
	c.rrr(true, opSUBS, budget, budget, scratch0)
}

// mayGoto jumps when the run has passed such places often enough.
func (c *compiler) mayGoto(pc int, in *code.Insn) {
	on := c.label()
	c.load(scratch1, state, jit.OffLoops)
	c.cbnz(scratch1, on)
	c.jump(pc, int(in.Off))
	c.bind(on)
	c.addImm(true, scratch1, scratch1, -1)
	c.store(scratch1, state, jit.OffLoops)
}
