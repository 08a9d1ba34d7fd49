package code

// Fact is what is known of a register before an instruction.
type Fact int32

// Facts. A value from MapFact on says that the register holds the handle of map
// Fact-MapFact; a negative value that it holds a small constant, see Const.
const (
	Unreached Fact = iota
	Anything       // nothing is known
	NotCtx         // anything but the context
	IsCtx          // the context
	KernelPtr      // out of a kernel structure: may be NULL, and reads as 0 then
	MapFact
)

// maxConst bounds the constants that are facts.
const maxConst = 1 << 30

// Const returns the constant that a register is known to hold.
func (f Fact) Const() (int32, bool) { return int32(-f - 1), f < 0 }

// Facts are the facts before one instruction, by register.
type Facts [11]Fact

// join is what is known where two paths meet.
func join(a, b Fact) Fact {
	switch {
	case a == b || b == Unreached:
		return a
	case a == Unreached:
		return b
	case a == Anything || b == Anything || a == IsCtx || b == IsCtx:
		return Anything
	}
	return NotCtx
}

// Analyze finds what registers hold before each instruction, as far as a compiler
// wants to know: the context, or a particular map. Instructions that cannot be reached
// have no facts. It does not look into memory, so that a context pointer that comes
// back from the stack is Anything.
func (c *Code) Analyze() []Facts {
	a := &analysis{c: c, at: make([]Facts, len(c.Insns)), queued: make([]bool, len(c.Insns))}
	entry := Facts{}
	for i := range entry {
		entry[i] = NotCtx
	}
	entry[1] = IsCtx
	a.flow(0, entry)
	for i := range c.Insns {
		if in := &c.Insns[i]; in.Op == LoadImm {
			if to, ok := FuncIndex(uint64(in.Imm)); ok && to < len(c.Insns) {
				a.flow(to, callee(Facts{1: Anything, 2: Anything, 3: Anything, 4: Anything, 5: Anything}))
			}
		}
	}
	for len(a.work) > 0 {
		i := a.work[len(a.work)-1]
		a.work = a.work[:len(a.work)-1]
		a.queued[i] = false
		a.step(i)
	}
	return a.at
}

// callee is what a function knows of its registers, given what the caller does.
func callee(f Facts) Facts {
	for _, r := range [...]int{0, 6, 7, 8, 9, 10} {
		f[r] = NotCtx
	}
	return f
}

type analysis struct {
	c      *Code
	at     []Facts
	work   []int
	queued []bool
}

// flow merges f into what is known before instruction i.
func (a *analysis) flow(i int, f Facts) {
	if i >= len(a.at) {
		return
	}
	have, changed := &a.at[i], false
	for r := range f {
		if j := join(have[r], f[r]); j != have[r] {
			have[r], changed = j, true
		}
	}
	if changed && !a.queued[i] {
		a.queued[i] = true
		a.work = append(a.work, i)
	}
}

func (a *analysis) step(i int) {
	in, f := &a.c.Insns[i], a.at[i]
	switch op := in.Op; {
	case op == Exit || op == Trap:
		return
	case op == Ja:
		a.flow(int(in.Off), f)
		return
	case op.IsJump() || op == MayGoto:
		a.flow(int(in.Off), f)
	case op == CallFunc:
		a.flow(int(in.Off), callee(f))
		clobber(&f)
	case op == Call || op == CallKfunc:
		clobber(&f)
	case op == Mov+Reg64:
		f[in.Dst] = f[in.Src]
	case (op == Mov+Imm64 || op == Mov+Imm32) && in.Imm >= 0 && in.Imm < maxConst:
		f[in.Dst] = Fact(-in.Imm - 1)
	case op == Mov+Reg32 && f[in.Src] < 0:
		f[in.Dst] = f[in.Src]
	case op == LoadImm && in.Off > 0:
		f[in.Dst] = MapFact + Fact(in.Off-1)
	case op == Load64 || op == LoadAcq64:
		f[in.Dst] = Anything
	case op.WritesDst():
		f[in.Dst] = NotCtx
	case op == Atomic32 || op == Atomic64:
		f[in.Src], f[0] = Anything, Anything
	case op >= Abs8 && op <= Ind32:
		f[0] = NotCtx
	}
	a.flow(i+1, f)
}

// clobber is what is left after a call.
func clobber(f *Facts) {
	for r := 0; r <= 5; r++ {
		f[r] = NotCtx
	}
	f[0] = Anything // a map of maps gives a map, a subprogram whatever it likes
}
