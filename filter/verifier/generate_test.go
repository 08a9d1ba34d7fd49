package verifier

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
)

// generator writes random programs that are nearly right: it has a rough idea of
// what each register holds and mostly keeps to it, so that a good part of the
// programs is accepted and the rest fails in interesting ways.
type generator struct {
	rng   *rand.Rand
	insns []ebpf.Insn
	kinds [11]genKind
	fixup map[int]int // jump -> number of actions to skip
	exits []int       // jumps to the epilogue
	depth int
	joins bool // branches meet again rather than leave
	typ   ebpf.ProgType
	subs  []int // calls to patch with the subprogram's start
}

type genKind uint8

const (
	gNone genKind = iota
	gNum
	gCtx
	gPkt
	gEnd
	gStack
	gVal
	gValNull
	gMap
	gRec
)

func (g *generator) emit(op uint8, dst, src uint8, off int16, imm int32) int {
	g.insns = append(g.insns, ebpf.Insn{Op: op, Regs: ebpf.Regs(dst, src), Off: off, Imm: imm})
	return len(g.insns) - 1
}

func (g *generator) n(n int) int { return g.rng.IntN(n) }

func (g *generator) imm() int32 {
	edge := []int32{0, 1, -1, 2, 3, 4, 7, 8, 14, 15, 16, 31, 32, 63, 64, 100, 255, 256, 512, 0x7fff, 0xffff, 1 << 16,
		1<<31 - 1, -1 << 31, -2, -8, -16}
	if g.n(3) == 0 {
		return int32(g.rng.Uint32() >> g.n(32))
	}
	return edge[g.n(len(edge))]
}

// pick returns a register of a kind, or any with small chance.
func (g *generator) pick(k genKind) uint8 {
	if g.n(40) == 0 {
		return uint8(g.n(11))
	}
	start := g.n(11)
	for i := range 11 {
		if r := (start + i) % 11; g.kinds[r] == k {
			return uint8(r)
		}
	}
	return 255
}

// free returns a register to write.
func (g *generator) free() uint8 {
	for {
		if r := uint8(g.n(10)); r != 6 || g.n(20) == 0 {
			return r
		}
	}
}

func (g *generator) size() (bits uint8, n int) {
	i := g.n(4)
	return []uint8{ebpf.SizeB, ebpf.SizeH, ebpf.SizeW, ebpf.SizeDW}[i], 1 << i
}

func (g *generator) clobber() {
	for i := range 6 {
		g.kinds[i] = gNone
	}
}

var (
	genALU  = []uint8{ebpf.ALUAdd, ebpf.ALUSub, ebpf.ALUMul, ebpf.ALUDiv, ebpf.ALUOr, ebpf.ALUAnd, ebpf.ALULsh, ebpf.ALURsh, ebpf.ALUMod, ebpf.ALUXor, ebpf.ALUArsh, ebpf.ALUNeg}
	genJump = []uint8{ebpf.JmpEq, ebpf.JmpGT, ebpf.JmpGE, ebpf.JmpSet, ebpf.JmpNE, ebpf.JmpSGT, ebpf.JmpSGE, ebpf.JmpLT, ebpf.JmpLE, ebpf.JmpSLT, ebpf.JmpSLE}
)

func (g *generator) class64() uint8 {
	if g.n(3) == 0 {
		return ebpf.ClassALU
	}
	return ebpf.ClassALU64
}

func (g *generator) jclass() uint8 {
	if g.n(4) == 0 {
		return ebpf.ClassJMP32
	}
	return ebpf.ClassJMP
}

func (g *generator) alu() {
	d := g.pick(gNum)
	if d == 255 {
		g.mov()
		return
	}
	op := genALU[g.n(len(genALU))]
	c := g.class64()
	if op == ebpf.ALUNeg {
		g.emit(c|op, d, 0, 0, 0)
		return
	}
	if s := g.pick(gNum); g.n(2) == 0 && s != 255 {
		g.emit(c|op|ebpf.SrcX, d, s, 0, 0)
		return
	}
	imm := g.imm()
	switch op {
	case ebpf.ALULsh, ebpf.ALURsh, ebpf.ALUArsh:
		imm = int32(g.n(32))
		if c == ebpf.ClassALU64 {
			imm = int32(g.n(64))
		}
	case ebpf.ALUDiv, ebpf.ALUMod:
		if imm == 0 {
			imm = 3
		}
	}
	g.emit(c|op, d, 0, 0, imm)
}

func (g *generator) mov() {
	d := g.free()
	switch g.n(6) {
	case 0:
		if s := g.pick(gNum); s != 255 {
			off := []int16{0, 8, 16, 32}[g.n(4)]
			c := uint8(ebpf.ClassALU64)
			if off != 32 && g.n(2) == 0 {
				c = ebpf.ClassALU
			}
			g.emit(c|ebpf.ALUMov|ebpf.SrcX, d, s, off, 0)
			g.kinds[d] = gNum
			return
		}
		fallthrough
	case 1:
		s := uint8(g.n(11))
		if g.kinds[s] == gNone {
			s = 10
		}
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, d, s, 0, 0)
		g.kinds[d] = g.kinds[s]
	case 2:
		if g.kinds[6] != gCtx {
			return
		}
		switch g.typ {
		case ebpf.XDP:
			g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, d, 6, int16(12+4*g.n(2)), 0)
		case ebpf.Netfilter:
			g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeDW, 5, 6, 8, 0)
			g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, 5, 5, []int16{112, 164, 140}[g.n(3)], 0)
			d = 5
		default:
			g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, d, 6, []int16{0, 8, 16, 40, 48, 32}[g.n(6)], 0)
		}
		g.kinds[d] = gNum
	default:
		g.emit(g.class64()|ebpf.ALUMov, d, 0, 0, g.imm())
		g.kinds[d] = gNum
	}
}

func (g *generator) ctx() {
	d := g.free()
	s := g.pick(gCtx)
	if s == 255 {
		return
	}
	sz, n := g.size()
	size := map[ebpf.ProgType]int{ebpf.XDP: 24, ebpf.Netfilter: 16}[g.typ]
	if size == 0 {
		size = 192
	}
	off := g.n(size/n) * n
	if g.n(10) == 0 {
		off = g.n(200)
	}
	if g.n(4) == 0 {
		if v := g.pick(gNum); v != 255 {
			g.emit(ebpf.ClassSTX|ebpf.ModeMem|sz, s, v, int16(off), 0)
		}
		return
	}
	mode := uint8(ebpf.ModeMem)
	if g.n(6) == 0 && sz != ebpf.SizeDW {
		mode = ebpf.ModeMemSX
	}
	g.emit(ebpf.ClassLDX|mode|sz, d, s, int16(off), 0)
	g.kinds[d] = gNum
	if off == 168 {
		g.kinds[d] = gNone
	}
}

// data is the offset of the context's data pointer; the end's follows.
func (g *generator) data() int16 {
	if g.typ == ebpf.XDP {
		return 0
	}
	return 76
}

func (g *generator) packet() {
	data, end := g.pick(gPkt), g.pick(gEnd)
	if data == 255 || end == 255 || g.n(6) == 0 {
		d := uint8(7 + g.n(3))
		off, k := g.data(), gPkt
		if g.n(2) == 0 {
			off, k = off+4, gEnd
		}
		if (g.typ == ebpf.Netfilter || g.typ == ebpf.SocketFilter) && g.n(20) != 0 {
			return
		}
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, d, 6, off, 0)
		g.kinds[d] = k
		return
	}
	switch g.n(5) {
	case 0: // check
		d := g.free()
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, d, data, 0, 0)
		g.emit(ebpf.ClassALU64|ebpf.ALUAdd, d, 0, 0, []int32{1, 2, 8, 14, 34, 54, 0}[g.n(7)])
		g.kinds[d] = gPkt
		a, b := d, end
		op := []uint8{ebpf.JmpGT, ebpf.JmpGE}[g.n(2)]
		if g.n(2) == 0 {
			a, b, op = end, d, []uint8{ebpf.JmpLT, ebpf.JmpLE}[g.n(2)]
		}
		if g.n(8) == 0 {
			op = genJump[g.n(len(genJump))]
		}
		g.jump(ebpf.ClassJMP|op|ebpf.SrcX, a, b, 0)
	case 1: // variable offset
		if s := g.pick(gNum); s != 255 {
			if g.n(2) == 0 {
				g.emit(ebpf.ClassALU64|ebpf.ALUAnd, s, 0, 0, []int32{7, 15, 0x3c, 0xff, 0xfff}[g.n(5)])
			}
			g.emit(ebpf.ClassALU64|[]uint8{ebpf.ALUAdd, ebpf.ALUAdd, ebpf.ALUSub}[g.n(3)]|ebpf.SrcX, data, s, 0, 0)
		}
	default:
		sz, n := g.size()
		off := int16(g.n(20))
		if g.n(4) != 0 {
			off = int16(g.n(14 / n * n))
		}
		if g.n(3) == 0 {
			if v := g.pick(gNum); v != 255 {
				g.emit(ebpf.ClassSTX|ebpf.ModeMem|sz, data, v, off, 0)
			}
			return
		}
		d := g.free()
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|sz, d, data, off, 0)
		g.kinds[d] = gNum
	}
}

func (g *generator) stack() {
	sz, n := g.size()
	off := -int16(n * (1 + g.n(32/n)))
	if g.n(12) == 0 {
		off = int16(g.n(40)) - 36
	}
	base := uint8(10)
	if b := g.pick(gStack); b != 255 && g.n(3) == 0 {
		base = b
		if g.n(2) == 0 {
			off = 0
		}
	}
	switch g.n(7) {
	case 0, 1:
		r := uint8(g.n(11))
		if g.kinds[r] == gNone {
			r = 10
		}
		if g.kinds[r] != gNum && g.n(8) != 0 {
			sz, off = ebpf.SizeDW, off&^7
			if off == 0 {
				off = -8
			}
		}
		g.emit(ebpf.ClassSTX|ebpf.ModeMem|sz, base, r, off, 0)
	case 2:
		g.emit(ebpf.ClassST|ebpf.ModeMem|sz, base, 0, off, g.imm())
	case 3: // a pointer into the stack
		d := g.free()
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, d, 10, 0, 0)
		g.emit(ebpf.ClassALU64|ebpf.ALUAdd, d, 0, 0, -int32(8*(1+g.n(6))))
		g.kinds[d] = gStack
		if s := g.pick(gNum); s != 255 && g.n(3) == 0 {
			g.emit(ebpf.ClassALU64|ebpf.ALUAnd, s, 0, 0, []int32{7, 8, 15, 24}[g.n(4)])
			g.emit(ebpf.ClassALU64|ebpf.ALUAdd|ebpf.SrcX, d, s, 0, 0)
		}
	default:
		d := g.free()
		mode := uint8(ebpf.ModeMem)
		if sz != ebpf.SizeDW && g.n(5) == 0 {
			mode = ebpf.ModeMemSX
		}
		g.emit(ebpf.ClassLDX|mode|sz, d, base, off, 0)
		g.kinds[d] = gNum
		if sz == ebpf.SizeDW && g.n(2) == 0 {
			g.kinds[d] = []genKind{gNum, gPkt, gStack, gVal}[g.n(4)]
		}
	}
}

func (g *generator) jump(op uint8, a, b uint8, imm int32) {
	at := g.emit(op, a, b, 0, imm)
	if join := g.n(3) == 0; join || g.joins && g.n(3) != 0 {
		g.fixup[at] = 1 + g.n(4)
	} else {
		g.exits = append(g.exits, at)
	}
}

func (g *generator) branch() {
	d := g.pick(gNum)
	if g.n(8) == 0 {
		d = uint8(g.n(11))
	}
	if d == 255 {
		return
	}
	op := g.jclass() | genJump[g.n(len(genJump))]
	if s := g.pick(gNum); s != 255 && g.n(3) == 0 {
		g.jump(op|ebpf.SrcX, d, s, 0)
	} else {
		g.jump(op, d, 0, g.imm())
	}
}

// loop is a counted loop around a few actions.
func (g *generator) loop() {
	c := uint8(7 + g.n(3))
	if g.depth > 0 {
		return
	}
	g.depth++
	g.emit(ebpf.ClassALU64|ebpf.ALUMov, c, 0, 0, 0)
	g.kinds[c] = gNum
	top := len(g.insns)
	for range 1 + g.n(4) {
		g.action()
	}
	g.emit(ebpf.ClassALU64|ebpf.ALUAdd, c, 0, 0, 1)
	at := g.emit(g.jclass()|[]uint8{ebpf.JmpLT, ebpf.JmpNE, ebpf.JmpSLT, ebpf.JmpLE}[g.n(4)], c, 0, 0, int32(1+g.n(12)))
	g.insns[at].Off = int16(top - at - 1)
	g.depth--
}

func (g *generator) loadMap(d uint8, m int32) {
	g.emit(ebpf.OpLoadImm64, d, ebpf.PseudoMap, 0, m)
	g.emit(0, 0, 0, 0, 0)
}

func (g *generator) value() {
	p := g.pick(gVal)
	if p == 255 {
		if p = g.pick(gValNull); p != 255 {
			g.jump(ebpf.ClassJMP|ebpf.JmpEq, p, 0, 0)
			g.kinds[p] = gVal
			return
		}
		// look one up
		k := int16(-4)
		if g.n(3) == 0 {
			k = -8
		}
		if s := g.pick(gNum); s != 255 && g.n(3) != 0 {
			g.emit(ebpf.ClassSTX|ebpf.ModeMem|ebpf.SizeW, 10, s, k, 0)
		} else {
			g.emit(ebpf.ClassST|ebpf.ModeMem|ebpf.SizeW, 10, 0, k, int32(g.n(6)))
		}
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, 2, 10, 0, 0)
		g.emit(ebpf.ClassALU64|ebpf.ALUAdd, 2, 0, 0, int32(k))
		g.loadMap(1, int32(g.n(2)))
		g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.MapLookupElem))
		g.clobber()
		g.kinds[0] = gValNull
		if g.n(2) == 0 {
			d := uint8(7 + g.n(3))
			g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, d, 0, 0, 0)
			g.kinds[d] = gValNull
		}
		return
	}
	sz, n := g.size()
	switch g.n(6) {
	case 0:
		if s := g.pick(gNum); s != 255 {
			if g.n(2) == 0 {
				g.emit(g.class64()|ebpf.ALUAnd, s, 0, 0, []int32{7, 15, 8}[g.n(3)])
			}
			g.emit(ebpf.ClassALU64|[]uint8{ebpf.ALUAdd, ebpf.ALUAdd, ebpf.ALUSub}[g.n(3)]|ebpf.SrcX, p, s, 0, 0)
			return
		}
	case 1:
		if s := g.pick(gNum); s != 255 {
			op := []int32{ebpf.AtomicAdd, ebpf.AtomicOr, ebpf.AtomicAdd | ebpf.AtomicFetch, ebpf.AtomicXchg, ebpf.AtomicCmpXchg,
				ebpf.AtomicLoadAcq, ebpf.AtomicStRel}[g.n(7)]
			g.emit(ebpf.ClassSTX|ebpf.ModeAtomic|sz, p, s, int16(g.n(16/n)*n), op)
			return
		}
	case 2:
		r := uint8(g.n(11))
		if g.kinds[r] != gNone {
			g.emit(ebpf.ClassSTX|ebpf.ModeMem|sz, p, r, int16(g.n(18)), 0)
		}
		return
	}
	d := g.free()
	g.emit(ebpf.ClassLDX|ebpf.ModeMem|sz, d, p, int16(g.n(17)-g.n(2)), 0)
	g.kinds[d] = gNum
}

func (g *generator) call() {
	mem := func(r uint8, off int32) {
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, r, 10, 0, 0)
		g.emit(ebpf.ClassALU64|ebpf.ALUAdd, r, 0, 0, off)
	}
	num := func(r uint8, imm int32) {
		if s := g.pick(gNum); s != 255 && g.n(3) == 0 {
			g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, r, s, 0, 0)
			if g.n(2) == 0 {
				g.emit(ebpf.ClassALU64|ebpf.ALUAnd, r, 0, 0, 15)
			}
			return
		}
		g.emit(ebpf.ClassALU64|ebpf.ALUMov, r, 0, 0, imm)
	}
	ctx := func() { g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, 1, 6, 0, 0) }
	var id helper.ID
	which := g.n(12)
	if g.typ != ebpf.SchedCLS && (which < 6 || which == 7 || which == 10) && g.n(6) != 0 {
		which = []int{0, 5, 6, 8, 11}[g.n(5)]
	}
	switch which {
	case 0:
		id = helper.GetPrandomU32
	case 1:
		id = helper.SKBLoadBytes
		num(2, 0)
		mem(3, -int32(8*(1+g.n(4))))
		num(4, int32(g.n(20)))
		ctx()
	case 2:
		id = helper.SKBStoreBytes
		num(2, 0)
		mem(3, -16)
		num(4, 8)
		num(5, 0)
		ctx()
	case 3:
		id = helper.SKBPullData
		num(2, 64)
		ctx()
	case 4:
		id = helper.CsumDiff
		num(5, 0)
		mem(3, -16)
		num(4, 8)
		num(2, 0)
		g.emit(ebpf.ClassALU64|ebpf.ALUMov, 1, 0, 0, 0)
		if g.n(2) == 0 {
			mem(1, -32)
		}
	case 5:
		id = helper.MapUpdateElem
		mem(2, -8)
		mem(3, -32)
		num(4, 0)
		g.loadMap(1, int32(g.n(2)))
	case 6:
		id = helper.TailCall
		ctx()
		num(3, 1)
		g.loadMap(2, 3)
	case 7:
		id = helper.Redirect
		num(1, 1)
		num(2, 0)
	case 8, 9:
		if p := g.pick(gRec); p != 255 {
			g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, 1, p, 0, 0)
			g.emit(ebpf.ClassALU64|ebpf.ALUMov, 2, 0, 0, 0)
			g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.RingbufSubmit))
			g.kinds[p] = gNone
			g.clobber()
			return
		}
		num(2, 16)
		g.emit(ebpf.ClassALU64|ebpf.ALUMov, 3, 0, 0, 0)
		g.loadMap(1, 2)
		g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.RingbufReserve))
		g.clobber()
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, 9, 0, 0, 0)
		at := g.emit(ebpf.ClassJMP|ebpf.JmpEq, 0, 0, 0, 0)
		g.exits = append(g.exits, at)
		g.kinds[9], g.kinds[0] = gRec, gRec
		return
	case 10:
		id = helper.SKBAdjustRoom
		num(2, 20)
		num(3, 0)
		num(4, 0)
		ctx()
	case 11:
		mem(1, -int32(8*(1+g.n(5))))
		num(2, int32(g.n(50)))
		at := g.emit(ebpf.OpCall, 0, ebpf.PseudoCall, 0, 0)
		g.subs = append(g.subs, at)
		g.clobber()
		g.kinds[0] = gNum
		return
	}
	if g.n(30) == 0 {
		id = helper.ID(g.n(212))
	}
	g.emit(ebpf.OpCall, 0, 0, 0, int32(id))
	g.clobber()
	g.kinds[0] = gNum
}

// rare emits what compilers seldom do.
func (g *generator) rare() {
	switch g.n(5) {
	case 0: // LD_ABS, LD_IND
		size := []uint8{ebpf.SizeB, ebpf.SizeH, ebpf.SizeW}[g.n(3)]
		if s := g.pick(gNum); s != 255 && g.n(2) == 0 {
			g.emit(ebpf.ClassLD|ebpf.ModeInd|size, 0, s, 0, int32(g.n(20)))
		} else {
			g.emit(ebpf.ClassLD|ebpf.ModeAbs|size, 0, 0, 0, int32(g.n(20)))
		}
		g.clobber()
		g.kinds[0] = gNum
	case 1: // byte swaps
		if d := g.pick(gNum); d != 255 {
			op := []uint8{ebpf.ClassALU | ebpf.ALUEnd, ebpf.ClassALU | ebpf.ALUEnd | ebpf.SrcX, ebpf.ClassALU64 | ebpf.ALUEnd}[g.n(3)]
			g.emit(op, d, 0, 0, []int32{16, 32, 64}[g.n(3)])
		}
	case 2: // a loop that may_goto bounds
		if g.depth > 0 {
			return
		}
		g.depth++
		top := len(g.insns)
		out := g.emit(ebpf.ClassJMP|ebpf.JmpCond, 0, 0, 0, 0)
		for range 1 + g.n(3) {
			g.action()
		}
		at := g.emit(ebpf.OpJa, 0, 0, 0, 0)
		g.insns[at].Off = int16(top - at - 1)
		g.insns[out].Off = int16(len(g.insns) - out - 1)
		g.depth--
	case 3: // long jump over an action
		at := g.emit(ebpf.OpJaLong, 0, 0, 0, 0)
		b := g.emit(ebpf.OpJa, 0, 0, 0, 0)
		if g.n(2) == 0 {
			g.insns = g.insns[:b]
		} else {
			g.insns[at].Imm = 0
		}
	case 4: // signed division
		if d := g.pick(gNum); d != 255 {
			g.emit(ebpf.ClassALU64|[]uint8{ebpf.ALUDiv, ebpf.ALUMod}[g.n(2)], d, 0, 1, 7)
		}
	}
}

// live makes sure that there are numbers to play with.
func (g *generator) live() {
	d := uint8(g.n(6))
	g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeDW, d, 10, -40, 0)
	g.kinds[d] = gNum
}

func (g *generator) action() {
	before := len(g.insns)
	if g.n(12) == 0 {
		g.live()
	}
	switch g.n(21) {
	case 20:
		g.rare()
	case 0, 1, 2:
		g.mov()
	case 3, 4, 5, 6:
		g.alu()
	case 7:
		g.ctx()
	case 8, 9, 10:
		g.packet()
	case 11, 12, 13:
		g.stack()
	case 14, 15:
		g.branch()
	case 16:
		g.loop()
	case 17, 18:
		g.value()
	case 19:
		g.call()
	}
	for at, left := range g.fixup {
		if at >= before {
			continue
		}
		if left--; left > 0 {
			g.fixup[at] = left
		} else {
			g.insns[at].Off = int16(len(g.insns) - at - 1)
			delete(g.fixup, at)
		}
	}
}

// testMaps are the maps of generated programs; see generate.
var testMaps = []maps.Spec{
	{Type: maps.Array, KeySize: 4, ValueSize: 16, MaxEntries: 4},
	{Type: maps.Hash, KeySize: 4, ValueSize: 16, MaxEntries: 16},
	{Type: maps.RingBuf, MaxEntries: 4096},
	{Type: maps.ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 2},
}

// generate makes a program for maps: 0 array (4, 16, 4), 1 hash (4, 16, 16),
// 2 ring buffer, 3 program array.
func generate(rng *rand.Rand, typ ebpf.ProgType) []ebpf.Insn {
	g := &generator{rng: rng, fixup: map[int]int{}, typ: typ}
	g.kinds[1], g.kinds[6], g.kinds[10] = gCtx, gCtx, gStack
	g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, 6, 1, 0, 0)
	switch typ {
	case ebpf.SchedCLS, ebpf.XDP:
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, 7, 6, g.data(), 0)
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, 8, 6, g.data()+4, 0)
		g.kinds[7], g.kinds[8] = gPkt, gEnd
	}
	g.joins = g.n(2) == 0
	for range 3 + g.n(20) + 20*b2i(g.joins && g.n(2) == 0) {
		g.action()
	}
	if p := g.pick(gRec); p != 255 && g.kinds[p] == gRec {
		g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, 1, p, 0, 0)
		g.emit(ebpf.ClassALU64|ebpf.ALUMov, 2, 0, 0, 0)
		g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.RingbufDiscard))
	}
	end := len(g.insns)
	g.emit(ebpf.ClassALU64|ebpf.ALUMov, 0, 0, 0, 0)
	g.emit(ebpf.OpExit, 0, 0, 0, 0)
	for at := range g.fixup {
		g.exits = append(g.exits, at)
	}
	for _, at := range g.exits {
		g.insns[at].Off = int16(end - at - 1)
	}
	if len(g.subs) > 0 {
		sub := len(g.insns)
		for _, at := range g.subs {
			g.insns[at].Imm = int32(sub - at - 1)
		}
		h := &generator{rng: rng, fixup: map[int]int{}, typ: typ, depth: 1, insns: g.insns}
		h.kinds[10], h.kinds[1], h.kinds[2] = gStack, gStack, gNum
		h.emit(ebpf.ClassALU64|ebpf.ALUMov, 0, 0, 0, 1)
		h.kinds[0] = gNum
		for range 1 + g.n(8) {
			switch h.n(7) {
			case 0:
				h.mov()
			case 1:
				h.alu()
			case 2, 3:
				h.stack()
			case 4, 5:
				h.branch()
			case 6:
				h.value()
			}
		}
		e := len(h.insns)
		if h.kinds[0] != gNum {
			h.emit(ebpf.ClassALU64|ebpf.ALUMov, 0, 0, 0, 1)
		}
		h.emit(ebpf.OpExit, 0, 0, 0, 0)
		for at := range h.fixup {
			h.exits = append(h.exits, at)
		}
		for _, at := range h.exits {
			h.insns[at].Off = int16(e - at - 1)
		}
		g.insns = h.insns
	}
	return g.insns
}

// mutate changes a field or two.
func mutate(rng *rand.Rand, insns []ebpf.Insn) {
	for range 1 + rng.IntN(2) {
		in := &insns[rng.IntN(len(insns))]
		switch rng.IntN(6) {
		case 0:
			in.Op ^= 1 << rng.IntN(8)
		case 1:
			in.Regs = ebpf.Regs(uint8(rng.IntN(11)), in.Src())
		case 2:
			in.Regs = ebpf.Regs(in.Dst(), uint8(rng.IntN(11)))
		case 3:
			in.Off += int16(rng.IntN(9) - 4)
		case 4:
			in.Imm += int32(rng.IntN(9) - 4)
		case 5:
			in.Imm = int32(rng.Uint32() >> rng.IntN(32))
		}
	}
}

// setting reads a number from the environment: long runs are asked for there.
func setting(name string, def uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return def
}

// liveMaps makes maps.
func liveMaps(t testing.TB, specs []maps.Spec) []*maps.Map {
	var all []*maps.Map
	for _, s := range specs {
		m, err := maps.New(s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		all = append(all, m)
	}
	return all
}
