package amd64

import (
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
