package vm

import (
	"errors"
	"fmt"

	"taproom/filter/verifier"

	"taproom/filter/helper"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// compile makes machine code of a program, on machines that have a compiler.
func (p *Prog) compile(proof *verifier.Result) error {
	if !jit.Supported {
		return nil
	}
	facts := p.code.Analyze()
	src := jit.Source{Code: p.code, Facts: facts, Ctx: jit.Ctx(p.kind), Maps: p.maps}
	if proof != nil {
		refine(&src, proof)
	}
	p.use = useOfCtx(p.code, facts, p.kind)
	out, err := compileNative(src)
	if errors.Is(err, jit.ErrTooLarge) {
		return nil // interpreted, then
	}
	if err != nil {
		return err
	}
	c, err := jit.Map(out.Bytes)
	if err != nil {
		return err
	}
	p.native = &native{
		code: c, entry: c.Addr(out.Entry),
		returned: uint64(c.Addr(out.Returned)), unwind: uint64(c.Addr(out.Unwind)),
	}
	return nil
}

// enter runs native code until it comes back with last: the end of a program, or the
// return of a function that was called from Go.
func (r *Run) enter(last uint64) (uint64, error) {
	if jit.Enter(r.st) == last {
		return r.st.Regs[0], nil
	}
	return r.serve(last)
}

// serve does what native code asks for in its exit, and goes on until it comes back
// with last.
func (r *Run) serve(last uint64) (uint64, error) {
	st := r.st
	for exit := st.Exit; exit != last; exit = jit.Enter(st) {
		if exit >= jit.ExitHelper {
			g := &st.Regs
			if exit < jit.ExitKfunc {
				g[0] = r.call(int64(exit-jit.ExitHelper), g[1], g[2], g[3], g[4], g[5])
			} else {
				g[0] = r.kfunc(int64(exit-jit.ExitKfunc), g[1], g[2], g[3], g[4], g[5])
			}
			if r.err != nil {
				return 0, r.nativeFault(r.err)
			}
			continue
		}
		switch exit & jit.ExitMask {
		case jit.ExitTailCall:
			if v, done, err := r.nativeTailCall(exit&jit.InSubprogram != 0); err != nil || done {
				return v, err
			}
		case jit.ExitAbs:
			v, ok := r.packetWord(int64(int32(st.Spare[0])), int(exit>>8))
			st.Regs[0] = v
			if !ok {
				st.Regs[0] = 0
				if exit&jit.InSubprogram == 0 {
					return 0, nil
				}
				st.Resume = r.cur.native.unwind
			}
		case jit.ExitBudget:
			return 0, r.nativeFault(ErrBudget)
		default:
			return 0, r.nativeFault(fmt.Errorf("%w: exit %#x", ErrInsn, exit))
		}
	}
	return st.Regs[0], nil
}

// nativeTailCall does a tail call that native code cannot do by itself. done says that
// the program that was called has ended and v is the result of this one.
func (r *Run) nativeTailCall(sub bool) (v uint64, done bool, err error) {
	st := r.st
	next := r.tailTarget(st.Regs[2], st.Regs[3])
	switch {
	case r.err != nil:
		return 0, false, r.nativeFault(r.err)
	case next == nil:
		return 0, false, nil
	case next.native != nil && !sub:
		st.Resume = uint64(next.native.entry)
		return 0, false, nil
	}
	// The other program takes the place of a subprogram, or is interpreted: run it to
	// its end, and return its result from here.
	if st.Regs[10]-8*jit.FrameSize < st.StackTop()-uint64(len(st.Stack)) {
		return 0, false, r.nativeFault(fmt.Errorf("%w: too many frames", ErrCall))
	}
	saved, sp := st.Regs, st.SP
	if next.native != nil {
		st.Resume = uint64(next.native.entry)
		v, err = r.enter(jit.Done)
	} else {
		cur := r.cur
		r.native, r.cur = false, next
		v, err = r.interpret(next, 0)
		r.native, r.cur = true, cur
	}
	if err != nil || !sub {
		return v, true, err
	}
	st.Regs, st.SP = saved, sp
	st.Regs[0], st.Resume = v, r.cur.native.unwind
	return 0, false, nil
}

// invokeNative calls the subprogram at address fn of compiled code; its arguments and
// frame pointer are in the State.
func (r *Run) invokeNative(fn uint64) (uint64, error) {
	st := r.st
	sp, resume := st.SP, st.Resume
	st.SetReturn(r.cur.native.returned)
	st.Resume = fn
	v, err := r.enter(jit.ExitReturned)
	st.SP, st.Resume = sp, resume
	return v, err
}

// nativeFault makes the error for a run that had to stop in compiled code.
func (r *Run) nativeFault(err error) error {
	if _, ok := err.(*Fault); ok {
		return err
	}
	return &Fault{Prog: r.cur.src.Name, Insn: 0, Reg: -1, Err: err}
}

// refine adds what the verifier knows to what can be seen without it.
func refine(s *jit.Source, proof *verifier.Result) {
	s.Keys = map[int]uint32{}
	for i := range s.Code.Insns {
		in, slot := &s.Code.Insns[i], int(s.Code.Slot[i])
		if slot >= len(proof.Insns) {
			return
		}
		f := &proof.Insns[slot]
		known := &s.Facts[i]
		if !f.Visited {
			*known = code.Facts{}
			continue
		}
		base := in.Src
		if !in.Op.IsLoad() {
			base = in.Dst
		}
		switch {
		case in.Op == code.Call && f.MapIndex >= 0 && int(f.MapIndex) < len(s.Maps):
			arg := 1
			if in.Imm == tailCall {
				arg = 2
			}
			known[arg] = code.MapFact + code.Fact(f.MapIndex)
			if f.ConstKey && in.Imm == int64(helper.MapLookupElem) {
				s.Keys[i] = f.Key
			}
		case in.Op.Width() == 0, in.Op >= code.Abs8, f.Region == verifier.RegionNone, f.Region == verifier.RegionMixed:
		case f.Region == verifier.RegionCtx:
			known[base] = code.IsCtx
		case f.Region == verifier.RegionKernel:
			known[base] = code.KernelPtr
		default:
			known[base] = code.NotCtx
		}
	}
}
