package amd64

import (
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// callFunc emits a call of a subprogram, with the next 512 bytes of stack as its own.
func (c *compiler) callFunc(in *code.Insn) {
	for _, r := range c.saved {
		c.push(r)
	}
	c.aluImm(true, 5, rbp, jit.FrameSize)
	c.call(c.insn[in.Off])
	c.aluImm(true, 0, rbp, jit.FrameSize)
	for i := len(c.saved) - 1; i >= 0; i-- {
		c.pop(c.saved[i])
	}
}

// callHelper emits a helper: in place if that can be, or an exit.
func (c *compiler) callHelper(pc int, in *code.Insn) {
	switch helper.ID(in.Imm) {
	case helper.MapLookupElem:
		if i, m := c.mapIn(pc, 1); m != nil {
			switch l := m.Layout(); {
			case l.Kind == maps.LayoutArray && m.Type() != maps.ArrayOfMaps:
				if key, ok := c.Keys[pc]; ok {
					c.movImm(rax, uint64(l.Base)+uint64(l.Stride)*uint64(key))
					c.addCPU(l)
					return
				}
				c.arrayLookup(l)
				return
			case l.Kind == maps.LayoutHash && m.KeySize() <= maxInlineKey && !m.Type().OfMaps():
				c.call(c.routine(i))
				return
			}
		}
	case helper.TailCall:
		c.tailCall(pc)
		return
	case helper.Loop:
		c.bpfLoop()
		return
	case helper.SKBLoadBytes:
		if n, ok := c.Facts[pc][4].Const(); ok && n > 0 && n <= maxInlineCopy && c.Ctx == jit.SKB {
			c.loadBytes(n, jit.ExitHelper+int32(in.Imm))
			return
		}
	case helper.GetSmpProcessorID:
		c.load(rax, state, jit.OffCPU)
		return
	}
	c.exit(jit.ExitHelper + int32(in.Imm))
}

// routine returns the label of the lookup routine of map i.
func (c *compiler) routine(i int) label {
	l, ok := c.lookup[i]
	if !ok {
		l = c.label()
		c.lookup[i] = l
		c.order = append(c.order, i)
	}
	return l
}

// tailCall emits bpf_tail_call: a jump to the program if the array is known and this
// is the entry function, whose frame the other program takes over; an exit if not.
func (c *compiler) tailCall(pc int) {
	_, m := c.mapIn(pc, 2)
	if m == nil || !c.isEntry() || m.Layout().Kind != maps.LayoutProgs {
		c.exit(jit.ExitTailCall + c.depthBit())
		return
	}
	l := m.Layout()
	slow, fail := c.label(), c.label()
	c.mov32(r11, regs[3])
	c.aluImm(false, 7, r11, int32(l.Entries))
	c.jcc(ccAE, fail)
	c.load(r10, state, jit.OffTailCalls)
	c.aluImm(true, 7, r10, ebpf.MaxTailCalls)
	c.jcc(ccAE, fail)
	c.group(true, 0xc1, 4, r11) // slots are 16 bytes
	c.byte(4)
	c.movImm(rax, uint64(l.Base))
	c.rr(true, 0x01, rax, r11)
	c.load(rax, r11, 0)
	c.rr(true, 0x85, rax, rax)
	c.jcc(ccE, slow)
	c.aluImm(true, 0, r10, 1)
	c.store(state, jit.OffTailCalls, r10)
	c.group(false, 0xff, 4, rax) // jmp rax
	c.bind(slow)
	// No native entry: nothing there, or a program that is interpreted.
	c.mem(true, 0x83, 7, r11, 8)
	c.byte(0)
	c.jcc(ccE, fail)
	c.exit(jit.ExitTailCall)
	c.bind(fail)
}

// maxInlineCopy bounds bpf_skb_load_bytes in place.
const maxInlineCopy = 64

// loadBytes emits bpf_skb_load_bytes of n bytes: in place if they are in the linear
// part, by an exit if not.
func (c *compiler) loadBytes(n, exit int32) {
	slow, done := c.label(), c.label()
	c.mov32(r11, regs[2])
	c.load(r10, state, jit.OffDataEnd)
	c.mem(true, 0x2b, r10, state, jit.OffData)
	c.rr(true, 0x29, r11, r10)
	c.aluImm(true, 7, r10, n)
	c.jcc(ccL, slow)
	c.mem(true, 0x03, r11, state, jit.OffData)
	for off := int32(0); off < n; {
		switch left := n - off; {
		case left >= 8:
			c.load(rax, r11, off)
			c.store(regs[3], off, rax)
			off += 8
		case left >= 4:
			c.mem(false, 0x8b, rax, r11, off)
			c.mem(false, 0x89, rax, regs[3], off)
			off += 4
		case left >= 2:
			c.mem0f(false, 0xb7, rax, r11, off)
			c.byte(0x66)
			c.mem(false, 0x89, rax, regs[3], off)
			off += 2
		default:
			c.mem0f(false, 0xb6, rax, r11, off)
			c.mem(false, 0x88, rax, regs[3], off)
			off++
		}
	}
	c.zero(rax)
	c.jmp(done)
	c.bind(slow)
	c.exit(exit)
	c.bind(done)
}

// bpfLoop emits bpf_loop. Counter, context, callback and limit are on the native stack
// while the callback has the registers.
func (c *compiler) bpfLoop() {
	invalid, tooMany, loop, done, end := c.label(), c.label(), c.label(), c.label(), c.label()
	c.rr(true, 0x85, regs[4], regs[4])
	c.jcc(ccNE, invalid)
	c.aluImm(false, 7, regs[1], maxLoops)
	c.jcc(ccA, tooMany)
	c.mov32(regs[1], regs[1])
	for _, r := range c.saved {
		c.push(r)
	}
	c.zero(rax)
	for _, r := range []reg{regs[1], regs[2], regs[3], rax} {
		c.push(r)
	}
	c.bind(loop)
	c.load(regs[1], rsp, 0)
	c.load(regs[2], rsp, 8)
	c.mem(true, 0x3b, regs[1], rsp, 24)
	c.jcc(ccAE, done)
	c.aluImm(true, 5, budget, 1)
	c.jcc(ccS, c.broke)
	c.aluImm(true, 5, rbp, jit.FrameSize)
	c.mem(false, 0xff, 2, rsp, 16) // call
	c.aluImm(true, 0, rbp, jit.FrameSize)
	c.mem(true, 0x83, 0, rsp, 0)
	c.byte(1)
	c.rr(true, 0x85, rax, rax)
	c.jcc(ccE, loop)
	c.bind(done)
	c.load(rax, rsp, 0)
	c.aluImm(true, 0, rsp, 32)
	for i := len(c.saved) - 1; i >= 0; i-- {
		c.pop(c.saved[i])
	}
	c.jmp(end)
	c.bind(invalid)
	c.movImm(rax, negative(syscall.EINVAL))
	c.jmp(end)
	c.bind(tooMany)
	c.movImm(rax, negative(syscall.E2BIG))
	c.bind(end)
}

// maxLoops is how often bpf_loop and its like may go round (BPF_MAX_LOOPS).
const maxLoops = 8 << 20

// negative is an errno as helpers return it.
func negative(e syscall.Errno) uint64 { return uint64(-int64(e)) }
