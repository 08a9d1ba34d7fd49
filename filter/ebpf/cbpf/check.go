package cbpf

import (
	"fmt"
	"syscall"
)

// Error says why a filter is refused. It unwraps to EINVAL, as Linux answers.
type Error struct {
	Insn int // index of the instruction, -1 for the filter as a whole
	Why  string
}

func (e *Error) Error() string {
	if e.Insn < 0 {
		return "cbpf: " + e.Why
	}
	return fmt.Sprintf("cbpf: instruction %d: %s", e.Insn, e.Why)
}

// Unwrap lets errors.Is(err, unix.EINVAL) work.
func (e *Error) Unwrap() error { return syscall.EINVAL }

// allowed has the opcodes that Linux knows.
var allowed = func() (ok [256]bool) {
	for _, op := range []uint16{OpAdd, OpSub, OpMul, OpDiv, OpMod, OpAnd, OpOr, OpXor, OpLsh, OpRsh} {
		ok[ClassALU|op|SrcK], ok[ClassALU|op|SrcX] = true, true
	}
	for _, op := range []uint16{JmpEq, JmpGE, JmpGT, JmpSet} {
		ok[ClassJMP|op|SrcK], ok[ClassJMP|op|SrcX] = true, true
	}
	for _, size := range []uint16{SizeW, SizeH, SizeB} {
		ok[ClassLD|size|ModeAbs], ok[ClassLD|size|ModeInd] = true, true
	}
	for _, code := range []uint16{
		ClassALU | OpNeg, ClassJMP | JmpA,
		ClassLD | SizeW | ModeLen, ClassLD | ModeImm, ClassLD | ModeMem,
		ClassLDX | SizeW | ModeLen, ClassLDX | SizeB | ModeMsh, ClassLDX | ModeImm, ClassLDX | ModeMem,
		ClassST, ClassSTX, ClassMISC | MiscTAX, ClassMISC | MiscTXA, ClassRET | SrcK, ClassRET | RetA,
	} {
		ok[code] = true
	}
	return ok
}()

// Check applies the rules by which Linux accepts a filter (bpf_check_classic).
func Check(insns []Insn) error {
	if len(insns) == 0 || len(insns) > MaxInsns {
		return &Error{-1, fmt.Sprintf("%d instructions; 1 to %d are allowed", len(insns), MaxInsns)}
	}
	for pc, i := range insns {
		if why := checkInsn(i, len(insns)-pc-1); why != "" {
			return &Error{pc, why}
		}
	}
	if last := insns[len(insns)-1].Code; last != ClassRET|SrcK && last != ClassRET|RetA {
		return &Error{len(insns) - 1, "the last instruction is not a return"}
	}
	return checkMem(insns)
}

// checkInsn looks at one instruction with so many behind it.
func checkInsn(i Insn, behind int) string {
	if i.Code > 0xff || !allowed[i.Code] {
		return fmt.Sprintf("unknown opcode %#x", i.Code)
	}
	switch i.Code {
	case ClassALU | OpDiv | SrcK, ClassALU | OpMod | SrcK:
		if i.K == 0 {
			return "division by zero"
		}
	case ClassALU | OpLsh | SrcK, ClassALU | OpRsh | SrcK:
		if i.K >= 32 {
			return fmt.Sprintf("shift by %d", i.K)
		}
	case ClassLD | ModeMem, ClassLDX | ModeMem, ClassST, ClassSTX:
		if i.K >= MemWords {
			return fmt.Sprintf("scratch word %d of %d", i.K, MemWords)
		}
	case ClassJMP | JmpA:
		if uint64(i.K) >= uint64(behind) {
			return "jump behind the end"
		}
	case ClassLD | SizeW | ModeAbs, ClassLD | SizeH | ModeAbs, ClassLD | SizeB | ModeAbs:
		if _, ok := ancillary(i.K); !ok && i.K >= ADOffset {
			return fmt.Sprintf("unknown ancillary data %d", i.K-ADOffset)
		}
	default:
		if i.Code&7 == ClassJMP && (int(i.JT) >= behind || int(i.JF) >= behind) {
			return "jump behind the end"
		}
	}
	return ""
}

// checkMem makes sure that no scratch word is read before it was written, on any
// path. Jumps only go forward, so that one pass suffices.
func checkMem(insns []Insn) error {
	const all = 1<<MemWords - 1
	valid := make([]uint16, len(insns)) // words written on every jump to here
	for n := range valid {
		valid[n] = all
	}
	now := uint16(0)
	for pc, i := range insns {
		now &= valid[pc]
		switch i.Code {
		case ClassST, ClassSTX:
			now |= 1 << i.K
		case ClassLD | ModeMem, ClassLDX | ModeMem:
			if now>>i.K&1 == 0 {
				return &Error{pc, fmt.Sprintf("scratch word %d may not have been written", i.K)}
			}
		case ClassJMP | JmpA:
			valid[pc+1+int(i.K)] &= now
			now = all
		default:
			if i.Code&7 == ClassJMP {
				valid[pc+1+int(i.JT)] &= now
				valid[pc+1+int(i.JF)] &= now
				now = all
			}
		}
	}
	return nil
}
