package arm64

import (
	"taproom/filter/ebpf"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// loadInsn emits a load; see package amd64 about the context and kernel pointers.
func (c *compiler) loadInsn(pc int, in *code.Insn) {
	dst, base := regs[in.Dst], regs[in.Src]
	field := int32(-1)
	if in.Op == code.Load32 {
		field = jit.PacketField(c.Ctx, in.Off)
	}
	other, done := c.label(), c.label()
	switch fact := c.Facts[pc][in.Src]; {
	case field >= 0 && fact == code.IsCtx:
		c.load(dst, state, field)
	case field >= 0 && fact == code.Anything:
		c.load(scratch0, state, jit.OffCtxAddr)
		c.cmp(true, base, scratch0)
		c.jcc(condNE, other)
		c.load(dst, state, field)
		c.jmp(done)
		c.bind(other)
		c.plainLoad(in.Op, dst, base, in.Off)
	case fact == code.KernelPtr || c.Ctx == jit.Netfilter && fact == code.Anything:
		c.lsr(true, scratch0, base, 12)
		c.cbz(scratch0, other)
		c.plainLoad(in.Op, dst, base, in.Off)
		c.jmp(done)
		c.bind(other)
		c.movImm(dst, 0)
	default:
		c.plainLoad(in.Op, dst, base, in.Off)
	}
	c.bind(done)
}

// size is the log of a width in bytes.
func size(op code.Op) uint32 {
	switch op.Width() {
	case 1:
		return 0
	case 2:
		return 1
	case 4:
		return 2
	}
	return 3
}

func (c *compiler) plainLoad(op code.Op, dst, base reg, off int32) {
	switch {
	case op >= code.LoadSX8 && op <= code.LoadSX32:
		c.mem(opLDURS, opLDRSu, opLDRSr, size(op), dst, base, off)
	case op >= code.LoadAcq8 && op <= code.LoadAcq64:
		c.addImm(true, scratch1, base, off)
		c.word(opLDAR | size(op)<<30 | uint32(scratch1)<<5 | uint32(dst))
	default:
		c.ldr(size(op), dst, base, off)
	}
}

// storeInsn emits a store. Three 4-byte fields of the context keep 16 bits.
func (c *compiler) storeInsn(pc int, in *code.Insn) {
	src := regs[in.Src]
	if in.Op >= code.StoreImm8 && in.Op <= code.StoreImm64 {
		src = xzr
		if in.Imm != 0 {
			src = scratch1
			c.movImm(src, uint64(in.Imm))
		}
	}
	short, bounded := false, false
	if in.Op == code.Store32 || in.Op == code.StoreImm32 {
		short, bounded = jit.ShortField(c.Ctx, in.Off)
	}
	fact := c.Facts[pc][in.Dst]
	if !short || fact != code.IsCtx && fact != code.Anything {
		c.plainStore(in, src)
		return
	}
	done := c.label()
	if fact == code.Anything {
		field := c.label()
		c.load(scratch0, state, jit.OffCtxAddr)
		c.cmp(true, regs[in.Dst], scratch0)
		c.jcc(condEQ, field)
		c.plainStore(in, src)
		c.jmp(done)
		c.bind(field)
	}
	if bounded {
		c.cmpImm(true, src, 0xffff)
		c.jcc(condHS, done)
	}
	c.bits(false, opUBFM, scratch1, src, 0, 15)
	c.str(2, scratch1, regs[in.Dst], in.Off)
	c.bind(done)
}

func (c *compiler) plainStore(in *code.Insn, src reg) {
	base := regs[in.Dst]
	if in.Op >= code.StoreRel8 && in.Op <= code.StoreRel64 {
		c.addImm(true, scratch1, base, in.Off)
		c.word(opSTLR | size(in.Op)<<30 | uint32(scratch1)<<5 | uint32(src))
		return
	}
	c.str(size(in.Op), src, base, in.Off)
}

// atomic emits a read-modify-write operation as a loop of exclusive accesses: scratch1
// the address, scratch0 the old value, scratch2 the new one, scratch3 the outcome.
func (c *compiler) atomic(in *code.Insn, w bool) {
	src, sz := regs[in.Src], size(in.Op)
	again, done := c.label(), c.label()
	c.addImm(true, scratch1, regs[in.Dst], in.Off)
	c.bind(again)
	c.word(opLDAXR | sz<<30 | uint32(scratch1)<<5 | uint32(scratch0))
	value := scratch2
	switch in.Imm &^ ebpf.AtomicFetch {
	case ebpf.AtomicAdd:
		c.rrr(w, opADD, scratch2, scratch0, src)
	case ebpf.AtomicOr:
		c.rrr(w, opORR, scratch2, scratch0, src)
	case ebpf.AtomicAnd:
		c.rrr(w, opAND, scratch2, scratch0, src)
	case ebpf.AtomicXor:
		c.rrr(w, opEOR, scratch2, scratch0, src)
	case ebpf.AtomicCmpXchg &^ ebpf.AtomicFetch:
		c.cmp(w, scratch0, r0)
		c.jcc(condNE, done)
		value = src
	default:
		value = src
	}
	c.word(opSTLXR | sz<<30 | uint32(scratch3)<<16 | uint32(scratch1)<<5 | uint32(value))
	c.cbnz32(scratch3, again)
	c.bind(done)
	switch {
	case in.Imm == ebpf.AtomicCmpXchg:
		c.mov(r0, scratch0)
	case in.Imm&ebpf.AtomicFetch != 0:
		c.mov(src, scratch0)
	}
}

func (c *compiler) cbnz32(r reg, l label) { c.word(opCBNZ | c.distance(l, 19)<<5 | uint32(r)) }

// packetLoad emits a legacy packet load.
func (c *compiler) packetLoad(in *code.Insn) {
	n := int32(in.Op.Width())
	slow, done := c.label(), c.label()
	c.movImm(scratch1, uint64(uint32(in.Imm)))
	if in.Op >= code.Ind8 {
		c.rrr(false, opADD, scratch1, scratch1, regs[in.Src])
	}
	c.linear(n, slow)
	c.rrr(true, opADD, scratch0, scratch3, scratch1)
	c.ldr(size(in.Op), r0, scratch0, 0)
	switch n {
	case 2:
		c.rrr(false, opREV16, r0, r0, 0)
		c.bits(false, opUBFM, r0, r0, 0, 15)
	case 4:
		c.rrr(false, opREV, r0, r0, 0)
	}
	c.jmp(done)
	c.bind(slow)
	c.store(scratch1, state, jit.OffSpare)
	c.exit(jit.ExitAbs + n<<8 + c.depthBit())
	c.bind(done)
}

// linear jumps to slow unless n bytes at packet offset scratch1 are in the linear part,
// and leaves the start of the packet in scratch3.
func (c *compiler) linear(n int32, slow label) {
	c.load(scratch0, state, jit.OffDataEnd)
	c.load(scratch3, state, jit.OffData)
	c.rrr(true, opSUB, scratch0, scratch0, scratch3)
	c.rrr(true, opSUB, scratch0, scratch0, scratch1)
	c.cmpImm(true, scratch0, n)
	c.jcc(condLT, slow)
}
