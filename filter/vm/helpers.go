package vm

import (
	"fmt"
	"syscall"

	"taproom/filter/helper"
	"taproom/filter/vm/code"
)

// helperFunc is a helper: arguments R1 to R5, result R0. It may stop the run with
// r.fail.
type helperFunc func(r *Run, a, b, c, d, e uint64) uint64

const tailCall = int64(helper.TailCall)

// helpers is the table of all helpers by number; files that hold helpers fill it.
var helpers [256]helperFunc

// kfuncs is the same for kernel functions, by helper.KfuncID.
var kfuncs [64]helperFunc

// errno is what a helper returns for an error.
func errno(e syscall.Errno) uint64 { return uint64(-int64(e)) }

var (
	eInval  = errno(syscall.EINVAL)
	eFault  = errno(syscall.EFAULT)
	eNotSup = errno(syscall.EOPNOTSUPP)
	eNoMem  = errno(syscall.ENOMEM)
	eRange  = errno(syscall.ERANGE)
)

// call runs a helper by number.
func (r *Run) call(n int64, a, b, c, d, e uint64) uint64 {
	if uint64(n) < uint64(len(helpers)) {
		if f := helpers[n]; f != nil {
			return f(r, a, b, c, d, e)
		}
	}
	r.fail(fmt.Errorf("%w: no helper %d", ErrCall, n))
	return 0
}

// kfunc runs a kernel function by number.
func (r *Run) kfunc(n int64, a, b, c, d, e uint64) uint64 {
	if uint64(n) < uint64(len(kfuncs)) {
		if f := kfuncs[n]; f != nil {
			return f(r, a, b, c, d, e)
		}
	}
	r.fail(fmt.Errorf("%w: no such kernel function", ErrCall))
	return 0
}

// invoke calls a function of the program from a helper: a callback. It reports false
// if the run has to stop.
func (r *Run) invoke(fn, a, b, c, d, e uint64) (uint64, bool) {
	pc, ok := code.FuncIndex(fn)
	if ok {
		_, ok = r.cur.code.FuncAt(pc)
	}
	if !ok && !r.native { // to compiled code a function is its address
		r.fail(fmt.Errorf("%w: %#x is not a function", ErrCall, fn))
		return 0, false
	}
	st := r.st
	if st.Regs[10]-2*512 < st.StackTop()-uint64(len(st.Stack)) || r.depth == maxDepth {
		r.fail(fmt.Errorf("%w: too many frames", ErrCall))
		return 0, false
	}
	if st.Budget--; st.Budget < 0 {
		r.fail(ErrBudget)
		return 0, false
	}
	saved := st.Regs
	prog := r.cur
	st.Regs[1], st.Regs[2], st.Regs[3], st.Regs[4], st.Regs[5] = a, b, c, d, e
	st.Regs[10] -= 512
	var v uint64
	var err error
	if r.native {
		v, err = r.invokeNative(fn)
	} else {
		r.depth++
		v, err = r.interpret(prog, pc)
		r.depth--
	}
	st.Regs = saved
	r.cur = prog
	if err != nil {
		r.fail(err)
		return 0, false
	}
	return v, true
}

// tailTarget answers bpf_tail_call: the program to go on with, or nil.
func (r *Run) tailTarget(array, index uint64) *Prog {
	m := r.mapOf(array)
	if m == nil || r.st.TailCalls >= 33 {
		return nil
	}
	if uint64(uint32(index)) >= uint64(m.MaxEntries()) {
		return nil
	}
	p, ok := m.Prog(uint32(index)).(*Prog)
	if !ok {
		return nil
	}
	r.st.TailCalls++
	return p
}

// restrict makes calls of helpers that a program of this type cannot make, or that do
// not exist, fail when they are reached: helpers rely on the context they were written
// for. A verified program has none.
func (p *Prog) restrict() {
	kind := map[ctxKind]helper.Progs{
		ctxSKB: helper.Classifier, ctxXDP: helper.XDP, ctxNetfilter: helper.Netfilter,
	}[p.kind]
	for i := range p.code.Insns {
		in := &p.code.Insns[i]
		if in.Op != code.Call {
			continue
		}
		h := helper.Lookup(helper.ID(in.Imm))
		switch {
		case h == nil, in.Imm != int64(helper.ID(in.Imm)), kind != 0 && !h.Progs.Has(kind), kind == 0 && usesCtx(h):
			in.Imm = noHelper
		}
	}
}

// noHelper is a number that no helper has.
const noHelper = -1

func usesCtx(h *helper.Proto) bool {
	for _, a := range h.Args {
		if a.Kind == helper.Ctx {
			return true
		}
	}
	return false
}
