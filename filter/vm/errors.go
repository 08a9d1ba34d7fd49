package vm

import (
	"errors"
	"fmt"

	"taproom/filter/vm/code"
)

// What stops a run. All errors of running programs unwrap to one of these.
var (
	// ErrAccess: the program touched memory that is not its own.
	ErrAccess = errors.New("vm: memory access out of bounds")
	// ErrBudget: the instruction budget is used up.
	ErrBudget = errors.New("vm: instruction budget used up")
	// ErrCall: a call that cannot be made: unknown helper, bad callback, too deep.
	ErrCall = errors.New("vm: bad call")
	// ErrInsn: an instruction that cannot run.
	ErrInsn = errors.New("vm: bad instruction")
)

// Fault says where a run stopped and why. Compiled programs only report what
// helpers find.
type Fault struct {
	Prog string // name of the program
	Insn int    // slot of the instruction
	Reg  int    // register that holds the bad value, -1 if there is none
	Val  uint64 // what it holds
	Err  error  // one of the errors above, perhaps wrapped
	Text string // source line, if known
}

func (f *Fault) Error() string {
	s := fmt.Sprintf("%v: program %q insn %d", f.Err, f.Prog, f.Insn)
	if f.Reg >= 0 {
		s += fmt.Sprintf(": R%d=%#x", f.Reg, f.Val)
	}
	if f.Text != "" {
		s += ": " + f.Text
	}
	return s
}

func (f *Fault) Unwrap() error { return f.Err }

// fault makes the error for instruction i of p.
func (p *Prog) fault(i, reg int, val uint64, err error) error {
	f := &Fault{Prog: p.src.Name, Insn: i, Reg: reg, Val: val, Err: err}
	if i < len(p.code.Slot) {
		f.Insn = int(p.code.Slot[i])
	}
	if l := p.src.LineAt(f.Insn); l != nil {
		f.Text = l.Text
	}
	return f
}

// accessErr says which access failed.
func accessErr(in *code.Insn, a uint64) error {
	what := "read"
	if !in.Op.IsLoad() {
		what = "write"
	}
	return fmt.Errorf("%w: %s of %d bytes at %#x", ErrAccess, what, in.Op.Width(), a)
}
