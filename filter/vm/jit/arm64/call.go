package arm64

import (
	"math/bits"
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

const (
	maxInlineCopy = 64
	maxInlineKey  = 128
	maxLoops      = 8 << 20 // BPF_MAX_LOOPS
)

// callHelper emits a helper: in place if that can be, or an exit.
func (c *compiler) callHelper(pc int, in *code.Insn) {
	switch helper.ID(in.Imm) {
	case helper.MapLookupElem:
		if i, m := c.mapIn(pc, 1); m != nil {
			switch l := m.Layout(); {
			case l.Kind == maps.LayoutArray && m.Type() != maps.ArrayOfMaps:
				if key, ok := c.Keys[pc]; ok {
					c.movImm(r0, uint64(l.Base)+uint64(l.Stride)*uint64(key))
					c.addCPU(l)
					return
				}
				c.arrayLookup(l)
				return
			case l.Kind == maps.LayoutHash && m.KeySize() <= maxInlineKey && !m.Type().OfMaps():
				c.mov(scratch4, lr)
				c.call(c.routine(i))
				c.mov(lr, scratch4)
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
		c.load(r0, state, jit.OffCPU)
		return
	}
	c.exit(jit.ExitHelper + int32(in.Imm))
}

func (c *compiler) routine(i int) label {
	l, ok := c.lookup[i]
	if !ok {
		l = c.label()
		c.lookup[i] = l
		c.order = append(c.order, i)
	}
	return l
}

// arrayLookup emits a lookup in an array: R0 = address of element *(u32 *)R2.
func (c *compiler) arrayLookup(l maps.Layout) {
	null, done := c.label(), c.label()
	c.ldr(2, r0, r2, 0)
	c.movImm(scratch1, uint64(l.Entries))
	c.cmp(true, r0, scratch1)
	c.jcc(condHS, null)
	c.movImm(scratch1, uint64(l.Base))
	if s := uint64(l.Stride); s&(s-1) == 0 {
		c.lsl(true, r0, r0, uint32(bits.TrailingZeros64(s)))
	} else {
		c.movImm(scratch0, s)
		c.mul(true, r0, r0, scratch0)
	}
	c.rrr(true, opADD, r0, r0, scratch1)
	c.addCPU(l)
	c.jmp(done)
	c.bind(null)
	c.movImm(r0, 0)
	c.bind(done)
}

// addCPU moves R0 to this CPU's value.
func (c *compiler) addCPU(l maps.Layout) {
	if l.CPUStride == 0 {
		return
	}
	c.load(scratch0, state, jit.OffCPU)
	c.movImm(scratch1, uint64(l.CPUStride))
	c.rrr(true, opMADD|uint32(r0)<<10, r0, scratch0, scratch1)
}

// lookupRoutine emits the lookup in one map as a function: key at R2, result in R0. It
// may use what a call may, and not scratch4. Links carry an address dependency.
func (c *compiler) lookupRoutine(m *maps.Map) {
	l, n := m.Layout(), int32(m.KeySize())
	again, walk, next, end, null := c.label(), c.label(), c.label(), c.label(), c.label()
	c.hashKey(l, n) // r1
	c.bind(again)
	c.movImm(scratch0, uint64(l.BucketMask))
	c.rrr(false, opAND, r5, r1, scratch0) // bucket
	c.movImm(scratch0, uint64(l.Buckets))
	c.rrr(true, opADD|2<<10, scratch0, scratch0, r5) // + bucket<<2
	c.ldr(2, r0, scratch0, 0)
	c.movImm(r3, uint64(l.Base))
	c.bind(walk)
	c.lsr(false, scratch0, r0, 31)
	c.cbnz(scratch0, end)
	c.rrr(true, opADD|3<<10, r4, r3, r0) // element = base + link<<3
	for off := int32(0); off < n; {
		step := int32(8)
		for step > n-off {
			step /= 2
		}
		sz := uint32(bits.TrailingZeros32(uint32(step)))
		c.ldr(sz, scratch0, r2, off)
		c.ldr(sz, scratch1, r4, int32(l.KeyOff)+off)
		c.cmp(true, scratch0, scratch1)
		c.jcc(condNE, next)
		off += step
	}
	if l.RefOff != 0 {
		used := c.label()
		c.ldr(0, scratch0, r4, int32(l.RefOff))
		c.cbnz(scratch0, used)
		c.movImm(scratch0, 1)
		c.str(0, scratch0, r4, int32(l.RefOff))
		c.bind(used)
	}
	c.addImm(true, r0, r4, int32(l.ValueOff))
	c.addCPU(l)
	c.ret()
	c.bind(next)
	c.ldr(2, r0, r4, 0)
	c.jmp(walk)
	c.bind(end)
	c.bits(false, opUBFM, r0, r0, 0, 30)
	c.cmp(false, r0, r5)
	c.jcc(condEQ, null)
	c.jmp(again)
	c.bind(null)
	c.movImm(r0, 0)
	c.ret()
}

// hashKey emits the hash of the n bytes at R2: into r1. See maps.Layout.
func (c *compiler) hashKey(l maps.Layout, n int32) {
	c.movImm(r1, l.Seed[0])
	c.movImm(r3, l.Seed[1])
	for off := int32(0); off < n; off += 16 {
		c.keyWord(scratch0, off, n)
		c.rrr(true, opEOR, scratch0, scratch0, r3)
		if off+8 < n {
			c.keyWord(scratch1, off+8, n)
			c.rrr(true, opEOR, r1, r1, scratch1)
		}
		c.fold()
	}
	if n > 8 {
		c.movImm(scratch1, l.Seed[2])
		c.rrr(true, opEOR, r1, r1, scratch1)
		c.movImm(scratch0, l.Seed[3])
		c.fold()
	}
}

// fold multiplies scratch0 and r1 and combines the halves in r1.
func (c *compiler) fold() {
	c.rrr(true, opUMULH&^sf, scratch1, scratch0, r1)
	c.mul(true, scratch0, scratch0, r1)
	c.rrr(true, opEOR, r1, scratch0, scratch1)
}

// keyWord loads the 8 bytes of the key at off, as far as there are, into r.
func (c *compiler) keyWord(r reg, off, n int32) {
	left := min(n-off, 8)
	if left == 8 {
		c.load(r, r2, off)
		return
	}
	at := int32(0)
	for _, step := range []int32{4, 2, 1} {
		if left&step == 0 {
			continue
		}
		sz := uint32(bits.TrailingZeros32(uint32(step)))
		if at == 0 {
			c.ldr(sz, r, r2, off)
		} else {
			c.ldr(sz, scratch3, r2, off+at)
			c.rrr(true, opORR|uint32(8*at)<<10, r, r, scratch3)
		}
		at += step
	}
}

// tailCall emits bpf_tail_call; see package amd64.
func (c *compiler) tailCall(pc int) {
	_, m := c.mapIn(pc, 2)
	if m == nil || !c.isEntry() || m.Layout().Kind != maps.LayoutProgs {
		c.exit(jit.ExitTailCall + c.depthBit())
		return
	}
	l := m.Layout()
	slow, fail := c.label(), c.label()
	c.mov32(scratch1, r3)
	c.movImm(scratch0, uint64(l.Entries))
	c.cmp(true, scratch1, scratch0)
	c.jcc(condHS, fail)
	c.load(scratch3, state, jit.OffTailCalls)
	c.cmpImm(true, scratch3, ebpf.MaxTailCalls)
	c.jcc(condHS, fail)
	c.movImm(scratch0, uint64(l.Base))
	c.rrr(true, opADD|4<<10, scratch1, scratch0, scratch1) // slots are 16 bytes
	c.load(scratch0, scratch1, 0)
	c.cbz(scratch0, slow)
	c.addImm(true, scratch3, scratch3, 1)
	c.store(scratch3, state, jit.OffTailCalls)
	c.word(opBR | uint32(scratch0)<<5)
	c.bind(slow)
	c.load(scratch0, scratch1, 8)
	c.cbz(scratch0, fail)
	c.exit(jit.ExitTailCall)
	c.bind(fail)
}

// loadBytes emits bpf_skb_load_bytes of n bytes.
func (c *compiler) loadBytes(n, exit int32) {
	slow, done := c.label(), c.label()
	c.mov32(scratch1, r2)
	c.linear(n, slow)
	c.rrr(true, opADD, scratch1, scratch1, scratch3)
	for off := int32(0); off < n; {
		step := int32(8)
		for step > n-off {
			step /= 2
		}
		sz := uint32(bits.TrailingZeros32(uint32(step)))
		c.ldr(sz, scratch0, scratch1, off)
		c.str(sz, scratch0, r3, off)
		off += step
	}
	c.movImm(r0, 0)
	c.jmp(done)
	c.bind(slow)
	c.exit(exit)
	c.bind(done)
}

// bpfLoop emits bpf_loop: limit, callback, context and counter are on the native stack.
func (c *compiler) bpfLoop() {
	invalid, tooMany, loop, done, end := c.label(), c.label(), c.label(), c.label(), c.label()
	c.cbnz(r4, invalid)
	c.mov32(r1, r1)
	c.movImm(scratch0, maxLoops)
	c.cmp(true, r1, scratch0)
	c.jcc(condHI, tooMany)
	c.save()
	c.addImm(true, nstack, nstack, -32)
	c.store(xzr, nstack, 0)
	c.store(r3, nstack, 8)
	c.store(r2, nstack, 16)
	c.store(r1, nstack, 24)
	c.bind(loop)
	c.load(r1, nstack, 0)
	c.load(r2, nstack, 8)
	c.load(scratch0, nstack, 24)
	c.cmp(true, r1, scratch0)
	c.jcc(condHS, done)
	c.charge(1)
	ok := c.label()
	c.jcc(condPL, ok)
	c.jmp(c.broke)
	c.bind(ok)
	c.load(scratch0, nstack, 16)
	c.addImm(true, fp, fp, -jit.FrameSize)
	c.word(opBLR | uint32(scratch0)<<5)
	c.addImm(true, fp, fp, jit.FrameSize)
	c.load(scratch0, nstack, 0)
	c.addImm(true, scratch0, scratch0, 1)
	c.store(scratch0, nstack, 0)
	c.cbz(r0, loop)
	c.bind(done)
	c.load(r0, nstack, 0)
	c.addImm(true, nstack, nstack, 32)
	c.restore()
	c.jmp(end)
	c.bind(invalid)
	c.movImm(r0, negative(syscall.EINVAL))
	c.jmp(end)
	c.bind(tooMany)
	c.movImm(r0, negative(syscall.E2BIG))
	c.bind(end)
}

// negative is an errno as helpers return it.
func negative(e syscall.Errno) uint64 { return uint64(-int64(e)) }
