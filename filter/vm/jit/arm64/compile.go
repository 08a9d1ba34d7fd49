package arm64

import (
	"taproom/filter/maps"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// maxInsns bounds the decoded length, so that conditional jumps reach everywhere.
const maxInsns = 1 << 16

// machine registers of R0 to R10.
var regs = [11]reg{7, 0, 1, 2, 3, 4, 19, 20, 21, 22, 23}

// r0 to r5 by their BPF names.
const (
	r0 reg = 7
	r1 reg = 0
	r2 reg = 1
	r3 reg = 2
	r4 reg = 3
	r5 reg = 4
	fp reg = 23
)

// compiler is the state of one compilation.
type compiler struct {
	asm
	jit.Source
	insn   []label
	fn     int
	saved  []reg // what the function saves around calls, its return address included
	leave  label // exit to Go: resume address in scratch1
	broke  label
	lookup map[int]label
	order  []int
	starts []int

	returned, unwind int
}

// Compile compiles a program. It must have been verified.
func Compile(s jit.Source) (*jit.Output, error) {
	if len(s.Code.Insns) > maxInsns {
		return nil, jit.ErrTooLarge
	}
	c := &compiler{Source: s}
	c.insn = make([]label, len(s.Code.Insns))
	c.starts = make([]int, len(s.Code.Insns))
	for range 2 {
		c.reset()
		c.emit()
	}
	if c.far {
		return nil, jit.ErrTooLarge
	}
	out := &jit.Output{Bytes: c.b, Insns: c.starts, Returned: c.returned, Unwind: c.unwind}
	for _, f := range s.Code.Funcs {
		out.Funcs = append(out.Funcs, c.starts[f.Start])
	}
	return out, nil
}

func (c *compiler) emit() {
	c.leave, c.broke = c.label(), c.label()
	c.lookup, c.order = map[int]label{}, c.order[:0]
	for i := range c.insn {
		c.insn[i] = c.label()
	}
	for i, f := range c.Code.Funcs {
		c.fn = i
		c.saved = c.used(f)
		for pc := f.Start; pc < f.End; pc++ {
			c.bind(c.insn[pc])
			c.starts[pc] = len(c.b)
			if c.Facts[pc][10] != code.Unreached {
				c.one(pc, &c.Code.Insns[pc])
			}
		}
	}
	for i := 0; i < len(c.order); i++ {
		c.bind(c.lookup[c.order[i]])
		c.lookupRoutine(c.Maps[c.order[i]])
	}
	c.exits()
}

// used returns what of R6 to R9 a function mentions, and the link register.
func (c *compiler) used(f code.Func) []reg {
	var seen [11]bool
	for _, in := range c.Code.Insns[f.Start:f.End] {
		seen[in.Dst], seen[in.Src] = true, true
	}
	out := []reg{lr}
	for r := 6; r <= 9; r++ {
		if seen[r] {
			out = append(out, regs[r])
		}
	}
	return out
}

// save and restore keep what the function uses on the native stack, which stays aligned
// to 16 bytes.
func (c *compiler) save() {
	c.addImm(true, nstack, nstack, -c.frame())
	for i, r := range c.saved {
		c.store(r, nstack, int32(8*i))
	}
}

func (c *compiler) restore() {
	for i, r := range c.saved {
		c.load(r, nstack, int32(8*i))
	}
	c.addImm(true, nstack, nstack, c.frame())
}

func (c *compiler) frame() int32 { return int32(len(c.saved)+1) &^ 1 * 8 }

// exits emits the ways back to Go.
func (c *compiler) exits() {
	c.bind(c.broke)
	c.setExit(jit.ExitBudget)
	c.bind(c.leave)
	c.store(scratch1, state, jit.OffResume)
	for i := int32(1); i <= 10; i++ {
		c.store(regs[i], state, jit.OffRegs+8*i)
	}
	c.store(lr, state, jit.OffLink)
	c.back()
	c.returned = len(c.b)
	c.setExit(jit.ExitReturned)
	c.back()
	c.unwind = len(c.b)
	c.ret()
}

// back returns to Go. What a program has in R0 goes into the State.
func (c *compiler) back() {
	c.store(r0, state, jit.OffRegs)
	c.store(budget, state, jit.OffBudget)
	c.store(nstack, state, jit.OffSP)
	c.load(lr, state, jit.OffGoSP) // where enter keeps its return address
	c.ret()
}

func (c *compiler) setExit(code int32) {
	c.movImm(scratch0, uint64(code))
	c.store(scratch0, state, jit.OffExit)
}

// exit leaves to Go with a code and goes on behind it.
func (c *compiler) exit(code int32) {
	resume := c.label()
	c.setExit(code)
	c.adr(scratch1, resume)
	c.jmp(c.leave)
	c.bind(resume)
}

func (c *compiler) isEntry() bool { return c.fn == 0 }

func (c *compiler) depthBit() int32 {
	if c.isEntry() {
		return 0
	}
	return jit.InSubprogram
}

// mapIn returns the map that a register holds before instruction pc, nil if that is
// not known.
func (c *compiler) mapIn(pc, r int) (int, *maps.Map) {
	if f := c.Facts[pc][r]; f >= code.MapFact {
		i := int(f - code.MapFact)
		return i, c.Maps[i]
	}
	return 0, nil
}

// one emits one instruction.
func (c *compiler) one(pc int, in *code.Insn) {
	switch op := in.Op; {
	case op.IsALU():
		c.alu(in)
	case op.IsJump():
		c.compare(in)
		c.branch(pc, in)
	case op >= code.Neg64 && op <= code.LoadImm:
		c.unary(in)
	case op == code.Ja:
		c.jump(pc, int(in.Off))
	case op == code.MayGoto:
		c.mayGoto(pc, in)
	case op.IsLoad():
		c.loadInsn(pc, in)
	case op.IsStore():
		c.storeInsn(pc, in)
	case op == code.Atomic32 || op == code.Atomic64:
		c.atomic(in, op == code.Atomic64)
	case op >= code.Abs8 && op <= code.Ind32:
		c.packetLoad(in)
	case op == code.CallFunc:
		c.save()
		c.addImm(true, fp, fp, -jit.FrameSize)
		c.call(c.insn[in.Off])
		c.addImm(true, fp, fp, jit.FrameSize)
		c.restore()
	case op == code.Call:
		c.callHelper(pc, in)
	case op == code.CallKfunc:
		c.exit(jit.ExitKfunc + int32(in.Imm))
	case op == code.Exit:
		if c.isEntry() {
			c.back()
		} else {
			c.ret()
		}
	}
}
