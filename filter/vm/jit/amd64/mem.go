package amd64

import (
	"taproom/filter/ebpf"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// loadInsn emits a load. A 4-byte load of a packet pointer from the context gives the
// whole pointer; where the base might be the context it is compared first.
func (c *compiler) loadInsn(pc int, in *code.Insn) {
	dst, base := regs[in.Dst], regs[in.Src]
	field := int32(-1)
	if in.Op == code.Load32 {
		field = jit.PacketField(c.Ctx, in.Off)
	}
	fact := c.Facts[pc][in.Src]
	switch {
	case field >= 0 && fact == code.IsCtx:
		c.load(dst, state, field)
	case field >= 0 && fact == code.Anything:
		plain, done := c.label(), c.label()
		c.mem(true, 0x3b, base, state, jit.OffCtxAddr)
		c.jcc(ccNE, plain)
		c.load(dst, state, field)
		c.jmp(done)
		c.bind(plain)
		c.plainLoad(in.Op, dst, base, in.Off)
		c.bind(done)
	case fact == code.KernelPtr || c.Ctx == jit.Netfilter && fact == code.Anything:
		null, done := c.label(), c.label()
		c.aluImm(true, 7, base, 4096)
		c.jcc(ccB, null)
		c.plainLoad(in.Op, dst, base, in.Off)
		c.jmp(done)
		c.bind(null)
		c.zero(dst)
		c.bind(done)
	default:
		c.plainLoad(in.Op, dst, base, in.Off)
	}
}

func (c *compiler) plainLoad(op code.Op, dst, base reg, off int32) {
	switch op {
	case code.Load8, code.LoadAcq8:
		c.mem0f(false, 0xb6, dst, base, off)
	case code.Load16, code.LoadAcq16:
		c.mem0f(false, 0xb7, dst, base, off)
	case code.Load32, code.LoadAcq32:
		c.mem(false, 0x8b, dst, base, off)
	case code.Load64, code.LoadAcq64:
		c.load(dst, base, off)
	case code.LoadSX8:
		c.mem0f(true, 0xbe, dst, base, off)
	case code.LoadSX16:
		c.mem0f(true, 0xbf, dst, base, off)
	case code.LoadSX32:
		c.mem(true, 0x63, dst, base, off)
	}
}

// storeInsn emits a store. Three 4-byte fields of the context keep 16 bits.
func (c *compiler) storeInsn(pc int, in *code.Insn) {
	short, bounded := false, false
	if in.Op == code.Store32 || in.Op == code.StoreImm32 {
		short, bounded = jit.ShortField(c.Ctx, in.Off)
	}
	fact := c.Facts[pc][in.Dst]
	if !short || fact != code.IsCtx && fact != code.Anything {
		c.plainStore(in)
		return
	}
	done := c.label()
	if fact == code.Anything {
		plain := c.label()
		c.mem(true, 0x3b, regs[in.Dst], state, jit.OffCtxAddr)
		c.jcc(ccE, plain)
		c.plainStore(in)
		c.jmp(done)
		c.bind(plain)
	}
	if in.Op == code.Store32 {
		c.mov(r11, regs[in.Src])
	} else {
		c.movImm(r11, uint64(in.Imm))
	}
	if bounded {
		c.aluImm(true, 7, r11, 0xffff)
		c.jcc(ccAE, done)
	}
	c.rr0f(false, 0xb7, r11, r11)
	c.mem(false, 0x89, r11, regs[in.Dst], in.Off)
	c.bind(done)
}

func (c *compiler) plainStore(in *code.Insn) {
	base, src, off := regs[in.Dst], regs[in.Src], in.Off
	switch in.Op {
	case code.Store8, code.StoreRel8:
		c.mem(false, 0x88, src, base, off)
	case code.Store16, code.StoreRel16:
		c.byte(0x66)
		c.mem(false, 0x89, src, base, off)
	case code.Store32, code.StoreRel32:
		c.mem(false, 0x89, src, base, off)
	case code.Store64, code.StoreRel64:
		c.store(base, off, src)
	case code.StoreImm8:
		c.mem(false, 0xc6, 0, base, off)
		c.byte(byte(in.Imm))
	case code.StoreImm16:
		c.byte(0x66)
		c.mem(false, 0xc7, 0, base, off)
		c.byte(byte(in.Imm), byte(in.Imm>>8))
	case code.StoreImm32:
		c.mem(false, 0xc7, 0, base, off)
		c.imm32(int32(in.Imm))
	case code.StoreImm64:
		c.mem(true, 0xc7, 0, base, off)
		c.imm32(int32(in.Imm))
	}
}

// atomic emits a read-modify-write operation.
func (c *compiler) atomic(in *code.Insn, w bool) {
	const lock = 0xf0
	base, src, off := regs[in.Dst], regs[in.Src], in.Off
	switch in.Imm {
	case ebpf.AtomicAdd:
		c.byte(lock)
		c.mem(w, 0x01, src, base, off)
	case ebpf.AtomicOr:
		c.byte(lock)
		c.mem(w, 0x09, src, base, off)
	case ebpf.AtomicAnd:
		c.byte(lock)
		c.mem(w, 0x21, src, base, off)
	case ebpf.AtomicXor:
		c.byte(lock)
		c.mem(w, 0x31, src, base, off)
	case ebpf.AtomicAdd | ebpf.AtomicFetch:
		c.byte(lock)
		c.mem0f(w, 0xc1, src, base, off)
	case ebpf.AtomicXchg:
		c.mem(w, 0x87, src, base, off)
	case ebpf.AtomicCmpXchg:
		c.byte(lock)
		c.mem0f(w, 0xb1, src, base, off)
		if !w {
			c.mov32(rax, rax)
		}
	case ebpf.AtomicOr | ebpf.AtomicFetch:
		c.fetch(w, 0x09, base, src, off)
	case ebpf.AtomicAnd | ebpf.AtomicFetch:
		c.fetch(w, 0x21, base, src, off)
	case ebpf.AtomicXor | ebpf.AtomicFetch:
		c.fetch(w, 0x31, base, src, off)
	}
}

// fetch emits an operation that the machine cannot do and return the old value of, as
// a loop around compare-and-exchange.
func (c *compiler) fetch(w bool, op byte, base, src reg, off int32) {
	again := c.label()
	c.mov(r10, rax) // R0 makes room for the old value
	b, s := base, src
	if b == rax {
		b = r10
	}
	if s == rax {
		s = r10
	}
	c.mem(w, 0x8b, rax, b, off)
	c.bind(again)
	c.mov(r11, rax)
	c.rr(w, op, s, r11)
	c.byte(0xf0)
	c.mem0f(w, 0xb1, r11, b, off)
	c.jcc(ccNE, again)
	if src == rax {
		if !w {
			c.mov32(rax, rax)
		}
		return
	}
	c.rr(w, 0x89, rax, src)
	c.mov(rax, r10)
}

// packetLoad emits a legacy packet load: in place for the linear part, by an exit for
// the rest and for negative offsets. A load beyond the packet ends the function.
func (c *compiler) packetLoad(in *code.Insn) {
	n := int32(in.Op.Width())
	slow, done := c.label(), c.label()
	c.movImm(r11, uint64(uint32(in.Imm)))
	if in.Op >= code.Ind8 {
		c.rr(false, 0x01, regs[in.Src], r11)
	}
	c.load(r10, state, jit.OffDataEnd)
	c.mem(true, 0x2b, r10, state, jit.OffData)
	c.rr(true, 0x29, r11, r10) // bytes left from the offset on
	c.aluImm(true, 7, r10, n)
	c.jcc(ccL, slow)
	c.load(r10, state, jit.OffData)
	switch n {
	case 1:
		c.rr(true, 0x01, r10, r11)
		c.mem0f(false, 0xb6, rax, r11, 0)
	case 2:
		c.rr(true, 0x01, r10, r11)
		c.mem0f(false, 0xb7, rax, r11, 0)
		c.byte(0x66, 0xc1, 0xc0, 8) // rol ax, 8
	default:
		c.indexed(false, 0x8b, rax, r10, r11, 0, 0)
		c.byte(0x0f, 0xc8) // bswap eax
	}
	c.jmp(done)
	c.bind(slow)
	c.store(state, jit.OffSpare, r11)
	c.exit(jit.ExitAbs + n<<8 + c.depthBit())
	c.bind(done)
}

// depthBit tells Go whether the exit is in a subprogram, which returns to native code.
func (c *compiler) depthBit() int32 {
	if c.isEntry() {
		return 0
	}
	return jit.InSubprogram
}
