package amd64

import (
	"math/bits"

	"taproom/filter/maps"
	"taproom/filter/vm/jit"
)

// maxInlineKey bounds the keys that are hashed and compared by native code, which is
// as long as the key.
const maxInlineKey = 128

// arrayLookup emits a lookup in an array: R0 = address of element *(u32 *)R2.
func (c *compiler) arrayLookup(l maps.Layout) {
	null, done := c.label(), c.label()
	c.mem(false, 0x8b, rax, rsi, 0)
	c.aluImm(false, 7, rax, int32(l.Entries))
	c.jcc(ccAE, null)
	if s := uint64(l.Stride); s&(s-1) == 0 {
		c.group(true, 0xc1, 4, rax)
		c.byte(byte(bits.TrailingZeros64(s)))
	} else {
		c.rr(true, 0x69, rax, rax)
		c.imm32(int32(s))
	}
	c.movImm(r11, uint64(l.Base))
	c.rr(true, 0x01, r11, rax)
	c.addCPU(l)
	c.jmp(done)
	c.bind(null)
	c.zero(rax)
	c.bind(done)
}

// addCPU moves R0 to this CPU's value.
func (c *compiler) addCPU(l maps.Layout) {
	if l.CPUStride == 0 {
		return
	}
	c.load(r11, state, jit.OffCPU)
	c.rr(true, 0x69, r11, r11)
	c.imm32(int32(l.CPUStride))
	c.rr(true, 0x01, r11, rax)
}

// lookupRoutine emits the lookup in one map as a function: key at rsi, result in rax.
// It may use all registers that a call may.
func (c *compiler) lookupRoutine(m *maps.Map) {
	l, n := m.Layout(), int32(m.KeySize())
	again, walk, next, end, null := c.label(), c.label(), c.label(), c.label(), c.label()
	c.hashKey(l, n) // rcx
	c.bind(again)
	c.mov32(r8, rcx)
	c.aluImm(false, 4, r8, int32(l.BucketMask)) // bucket number
	c.movImm(r11, uint64(l.Buckets))
	c.indexed(false, 0x8b, rax, r11, r8, 2, 0) // link
	c.movImm(r11, uint64(l.Base))
	c.bind(walk)
	c.rr(false, 0x85, rax, rax)
	c.jcc(ccS, end)
	c.rex(true, rdi, rax, r11, false) // lea rdi, [r11+rax*8]
	c.byte(0x8d, 0x04|7<<3, 3<<6|byte(rax)<<3|byte(r11&7))
	for off := int32(0); off < n; {
		at := int32(l.KeyOff) + off
		switch left := n - off; {
		case left >= 8:
			c.load(rdx, rsi, off)
			c.mem(true, 0x3b, rdx, rdi, at)
			off += 8
		case left >= 4:
			c.mem(false, 0x8b, rdx, rsi, off)
			c.mem(false, 0x3b, rdx, rdi, at)
			off += 4
		case left >= 2:
			c.mem0f(false, 0xb7, rdx, rsi, off)
			c.byte(0x66)
			c.mem(false, 0x3b, rdx, rdi, at)
			off += 2
		default:
			c.mem0f(false, 0xb6, rdx, rsi, off)
			c.mem(false, 0x3a, rdx, rdi, at)
			off++
		}
		c.jcc(ccNE, next)
	}
	if l.RefOff != 0 {
		used := c.label()
		c.mem(false, 0x80, 7, rdi, int32(l.RefOff)) // cmp byte, 0
		c.byte(0)
		c.jcc(ccNE, used)
		c.mem(false, 0xc6, 0, rdi, int32(l.RefOff))
		c.byte(1)
		c.bind(used)
	}
	c.mem(true, 0x8d, rax, rdi, int32(l.ValueOff))
	c.addCPU(l)
	c.ret()
	c.bind(next)
	c.mem(false, 0x8b, rax, rdi, 0)
	c.jmp(walk)
	c.bind(end)
	// The end of a chain names its bucket; another one's means that the element the
	// walk stood on was moved there.
	c.aluImm(false, 4, rax, 0x7fffffff)
	c.rr(false, 0x39, r8, rax)
	c.jcc(ccE, null)
	c.jmp(again)
	c.bind(null)
	c.zero(rax)
	c.ret()
}

// hashKey emits the hash of the n bytes at rsi: into rcx. See maps.Layout.
func (c *compiler) hashKey(l maps.Layout, n int32) {
	c.movImm(rcx, l.Seed[0])
	c.movImm(r11, l.Seed[1])
	for off := int32(0); off < n; off += 16 {
		c.keyWord(rax, off, n)
		c.rr(true, 0x31, r11, rax)
		if off+8 < n {
			if n-off-8 >= 8 {
				c.mem(true, 0x33, rcx, rsi, off+8)
			} else {
				c.keyWord(rdx, off+8, n)
				c.rr(true, 0x31, rdx, rcx)
			}
		}
		c.fold()
	}
	if n > 8 {
		c.movImm(r11, l.Seed[2])
		c.rr(true, 0x31, r11, rcx)
		c.movImm(rax, l.Seed[3])
		c.fold()
	}
}

// fold multiplies rax and rcx and combines the halves in rcx.
func (c *compiler) fold() {
	c.group(true, 0xf7, 4, rcx) // mul
	c.mov(rcx, rax)
	c.rr(true, 0x31, rdx, rcx)
}

// keyWord loads the 8 bytes of the key at off, as far as there are, into r.
func (c *compiler) keyWord(r reg, off, n int32) {
	left := n - off
	if left >= 8 {
		c.load(r, rsi, off)
		return
	}
	// From the top: shift what is there up and add the lower part.
	first := true
	piece := func(size, at int32) {
		d := r
		if !first {
			c.group(true, 0xc1, 4, r)
			c.byte(byte(8 * size))
			d = r8
		}
		switch size {
		case 4:
			c.mem(false, 0x8b, d, rsi, at)
		case 2:
			c.mem0f(false, 0xb7, d, rsi, at)
		default:
			c.mem0f(false, 0xb6, d, rsi, at)
		}
		if !first {
			c.rr(true, 0x09, d, r)
		}
		first = false
	}
	if left&1 != 0 {
		piece(1, off+left&^1)
	}
	if left&2 != 0 {
		piece(2, off+left&4)
	}
	if left&4 != 0 {
		piece(4, off)
	}
}
