package amd64

import (
	"taproom/filter/maps"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"

	"golang.org/x/sys/cpu"
)

// maxInsns bounds the decoded length: at most some 100 bytes each.
const maxInsns = 1 << 20

// maxPasses bounds how often the code is emitted; programs settle after four or so.
const maxPasses = 256

// loopAlign is where loops begin: a small one then lies in few lines of the decoders.
const loopAlign = 64

// machine registers of R0 to R10.
var regs = [11]reg{rax, rdi, rsi, rdx, rcx, r8, rbx, r13, r14, r15, rbp}

const (
	state  = r12
	budget = r9
)

// compiler is the state of one compilation.
type compiler struct {
	asm
	jit.Source
	insn   []label // of each instruction
	fn     int     // function that is being emitted
	saved  []reg   // what it saves around calls
	leave  label   // exit to Go: resume address in r11
	broke  label   // exit because the budget is used up
	lookup map[int]label
	order  []int // maps in lookup, in the order of first use
	bmi2   bool
	starts []int
	heads  []bool // instructions that are jumped back to

	returned, unwind int // offsets, see jit.Output
}

// Compile compiles a program. It must have been verified.
func Compile(s jit.Source) (*jit.Output, error) {
	if len(s.Code.Insns) > maxInsns {
		return nil, jit.ErrTooLarge
	}
	c := &compiler{Source: s, bmi2: cpu.X86.HasBMI2}
	c.insn = make([]label, len(s.Code.Insns))
	c.starts = make([]int, len(s.Code.Insns))
	c.heads = make([]bool, len(s.Code.Insns))
	for i, in := range s.Code.Insns {
		if (in.Op.IsJump() || in.Op == code.Ja || in.Op == code.MayGoto) && int(in.Off) <= i {
			c.heads[in.Off] = true
		}
	}
	for pass := 0; ; pass++ {
		if pass == maxPasses {
			return nil, jit.ErrTooLarge
		}
		c.reset()
		c.emit()
		if c.settled() {
			break
		}
	}
	out := &jit.Output{Bytes: c.b, Insns: c.starts, Returned: c.returned, Unwind: c.unwind}
	for _, f := range s.Code.Funcs {
		out.Funcs = append(out.Funcs, c.starts[f.Start])
	}
	return out, nil
}

// emit does one pass.
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
			if c.heads[pc] {
				c.align(loopAlign)
			}
			c.bind(c.insn[pc])
			c.starts[pc] = len(c.b)
			if c.Facts[pc][10] == code.Unreached {
				continue // nothing gets here, or the verifier has not been here
			}
			c.one(pc, &c.Code.Insns[pc])
		}
	}
	for i := 0; i < len(c.order); i++ {
		c.bind(c.lookup[c.order[i]])
		c.lookupRoutine(c.Maps[c.order[i]])
	}
	c.exits()
}

// used returns which of the callee-saved registers a function mentions.
func (c *compiler) used(f code.Func) []reg {
	var seen [11]bool
	for _, in := range c.Code.Insns[f.Start:f.End] {
		seen[in.Dst], seen[in.Src] = true, true
	}
	var out []reg
	for r := 6; r <= 9; r++ {
		if seen[r] {
			out = append(out, regs[r])
		}
	}
	return out
}

// exits emits the ways back to Go.
func (c *compiler) exits() {
	c.bind(c.broke)
	c.setExit(jit.ExitBudget)
	c.bind(c.leave)
	c.store(state, jit.OffResume, r11)
	for i := int32(1); i <= 10; i++ {
		c.store(state, jit.OffRegs+8*i, regs[i])
	}
	c.back()
	c.returned = len(c.b)
	c.setExit(jit.ExitReturned)
	c.back()
	c.unwind = len(c.b)
	c.ret()
}

// back returns to Go. What a program has in R0 goes into the State.
func (c *compiler) back() {
	c.store(state, jit.OffRegs, rax)
	c.store(state, jit.OffBudget, budget)
	c.store(state, jit.OffSP, rsp)
	c.load(rsp, state, jit.OffGoSP)
	c.load(rbp, state, jit.OffGoBP)
	c.ret()
}

// setExit stores an exit code.
func (c *compiler) setExit(code int32) {
	c.mem(true, 0xc7, 0, state, jit.OffExit)
	c.imm32(code)
}

// exit leaves to Go with a code and goes on behind it.
func (c *compiler) exit(code int32) {
	resume := c.label()
	c.setExit(code)
	c.leaLabel(r11, resume)
	c.jmp(c.leave)
	c.bind(resume)
}

// isEntry reports whether the function that is being emitted is the program itself.
func (c *compiler) isEntry() bool { return c.fn == 0 }

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
		c.callFunc(in)
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
