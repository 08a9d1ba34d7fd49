package verifier

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"taproom/filter/ebpf"
)

// ErrRejected is what every *Error unwraps to besides its errno.
var ErrRejected = errors.New("verifier: program rejected")

// Error says why a program was refused.
type Error struct {
	Prog string // program name
	Insn int    // slot of the instruction, -1 if the program as a whole is at fault
	Text string // the instruction, disassembled
	Why  string // one line
	// State is the registers and stack of the innermost frame as they were
	// before the instruction, in the words of the kernel's log; "" if the
	// program was refused before it was walked.
	State string
	Line  *ebpf.Line // source line, nil without debug information
	Errno syscall.Errno
}

// Error returns one line: where and why.
func (e *Error) Error() string {
	if e.Insn < 0 {
		return "verifier: " + e.Why
	}
	return fmt.Sprintf("verifier: insn %d: %s", e.Insn, e.Why)
}

// Unwrap gives the errno that BPF_PROG_LOAD would return, and ErrRejected.
func (e *Error) Unwrap() []error { return []error{ErrRejected, e.Errno} }

// Format prints everything known under %+v.
func (e *Error) Format(f fmt.State, verb rune) {
	if verb != 'v' || !f.Flag('+') {
		fmt.Fprint(f, e.Error())
		return
	}
	var b strings.Builder
	if e.Prog != "" {
		fmt.Fprintf(&b, "program %s: ", e.Prog)
	}
	b.WriteString(e.Error())
	if e.Line != nil {
		fmt.Fprintf(&b, "\n  source: %s:%d: %s", e.Line.File, e.Line.Line, strings.TrimSpace(e.Line.Text))
	}
	if e.Text != "" {
		fmt.Fprintf(&b, "\n  instruction: %d: %s", e.Insn, e.Text)
	}
	if e.State != "" {
		fmt.Fprintf(&b, "\n  registers: %s", e.State)
	}
	fmt.Fprint(f, b.String())
}

// reject makes the error for slot pc.
func (v *verifier) reject(pc int, errno syscall.Errno, format string, a ...any) error {
	e := &Error{Prog: v.prog.Name, Insn: pc, Why: fmt.Sprintf(format, a...), Errno: errno}
	if pc >= 0 && pc < len(v.insns) {
		e.Text = v.disassemble(pc)
		e.Line = v.prog.LineAt(pc)
	}
	if v.cur != nil && pc == v.pc {
		e.State = v.describe(v.cur)
	}
	return e
}

// denied and invalid are the two errnos that nearly all rules give.
func (v *verifier) denied(format string, a ...any) error {
	return v.reject(v.pc, syscall.EACCES, format, a...)
}

func (v *verifier) invalid(format string, a ...any) error {
	return v.reject(v.pc, syscall.EINVAL, format, a...)
}
