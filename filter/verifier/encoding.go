package verifier

import (
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
)

// known holds the opcodes of RFC 9669 that Linux takes. The call through a
// register (0x8d) is not one of them.
var known = func() (t [256]bool) {
	for _, op := range []uint8{ebpf.ALUAdd, ebpf.ALUSub, ebpf.ALUMul, ebpf.ALUDiv, ebpf.ALUOr, ebpf.ALUAnd,
		ebpf.ALULsh, ebpf.ALURsh, ebpf.ALUMod, ebpf.ALUXor, ebpf.ALUMov, ebpf.ALUArsh} {
		for _, class := range []uint8{ebpf.ClassALU, ebpf.ClassALU64} {
			t[class|op|ebpf.SrcK], t[class|op|ebpf.SrcX] = true, true
		}
	}
	t[ebpf.ClassALU|ebpf.ALUNeg], t[ebpf.ClassALU64|ebpf.ALUNeg] = true, true
	t[ebpf.ClassALU|ebpf.ALUEnd|ebpf.SrcK], t[ebpf.ClassALU|ebpf.ALUEnd|ebpf.SrcX] = true, true
	t[ebpf.ClassALU64|ebpf.ALUEnd] = true
	for _, op := range []uint8{ebpf.JmpEq, ebpf.JmpGT, ebpf.JmpGE, ebpf.JmpSet, ebpf.JmpNE, ebpf.JmpSGT,
		ebpf.JmpSGE, ebpf.JmpLT, ebpf.JmpLE, ebpf.JmpSLT, ebpf.JmpSLE} {
		for _, class := range []uint8{ebpf.ClassJMP, ebpf.ClassJMP32} {
			t[class|op|ebpf.SrcK], t[class|op|ebpf.SrcX] = true, true
		}
	}
	t[ebpf.OpJa], t[ebpf.OpJaLong], t[ebpf.OpCall], t[ebpf.OpExit] = true, true, true, true
	t[ebpf.ClassJMP|ebpf.JmpCond] = true
	for _, size := range []uint8{ebpf.SizeB, ebpf.SizeH, ebpf.SizeW, ebpf.SizeDW} {
		t[ebpf.ClassLDX|ebpf.ModeMem|size] = true
		t[ebpf.ClassST|ebpf.ModeMem|size] = true
		t[ebpf.ClassSTX|ebpf.ModeMem|size] = true
		t[ebpf.ClassSTX|ebpf.ModeAtomic|size] = true
		if size != ebpf.SizeDW {
			t[ebpf.ClassLDX|ebpf.ModeMemSX|size] = true
			t[ebpf.ClassLD|ebpf.ModeAbs|size] = true
			t[ebpf.ClassLD|ebpf.ModeInd|size] = true
		}
	}
	t[ebpf.OpLoadImm64] = true
	return t
}()

// checkEncoding tests what must hold of every slot, reachable or not: opcodes,
// the two halves of wide instructions, and references to maps and kfuncs.
func (v *verifier) checkEncoding() error {
	if len(v.insns) == 0 || len(v.insns) > ebpf.MaxInsns {
		return v.reject(-1, syscall.E2BIG, "program has %d instructions, 1 to %d are allowed", len(v.insns), ebpf.MaxInsns)
	}
	if v.progs == 0 {
		return v.reject(-1, syscall.EINVAL, "program type %v cannot be verified", v.prog.Type)
	}
	for pc := 0; pc < len(v.insns); pc++ {
		in := v.insns[pc]
		if in.IsWide() {
			if err := v.checkWide(pc); err != nil {
				return err
			}
			pc++
			continue
		}
		if !known[in.Op] {
			return v.reject(pc, syscall.EINVAL, "unknown opcode %02x", in.Op)
		}
		if in.Class() == ebpf.ClassLDX && in.Imm != 0 {
			return v.reject(pc, syscall.EINVAL, "BPF_LDX uses reserved fields")
		}
		if in.IsKfuncCall() {
			if in.Imm < 0 || int(in.Imm) >= len(v.prog.Kfuncs) || in.Off != 0 {
				return v.reject(pc, syscall.EINVAL, "kernel function %d is not one of the program's", in.Imm)
			}
			k := &v.prog.Kfuncs[in.Imm]
			if p := helper.LookupKfunc(k.Name); p == nil || !p.Progs.Has(v.progs) {
				return v.reject(pc, syscall.EACCES, "calling kernel function %s is not allowed", k.Name)
			}
		}
	}
	return nil
}

func (v *verifier) checkWide(pc int) error {
	if pc+1 == len(v.insns) {
		return v.reject(pc, syscall.EINVAL, "invalid bpf_ld_imm64 insn")
	}
	in, hi := v.insns[pc], v.insns[pc+1]
	if hi.Op != 0 || hi.Regs != 0 || hi.Off != 0 {
		return v.reject(pc, syscall.EINVAL, "invalid bpf_ld_imm64 insn")
	}
	switch in.Src() {
	case ebpf.PseudoImm, ebpf.PseudoFunc:
		return nil
	case ebpf.PseudoMap:
		if hi.Imm != 0 {
			return v.reject(pc, syscall.EINVAL, "unrecognized bpf_ld_imm64 insn")
		}
	case ebpf.PseudoMapValue:
	default:
		return v.reject(pc, syscall.EINVAL, "unrecognized bpf_ld_imm64 insn")
	}
	if in.Imm < 0 || int(in.Imm) >= len(v.maps) {
		return v.reject(pc, syscall.EBADF, "map %d is not one of the program's", in.Imm)
	}
	m := v.maps[in.Imm]
	if err := v.mapFitsProgram(pc, m); err != nil {
		return err
	}
	if in.Src() == ebpf.PseudoMap {
		return nil
	}
	if m.spec.Type != maps.Array || m.spec.MaxEntries != 1 {
		return v.reject(pc, syscall.EINVAL, "no direct value access support for this map type")
	}
	if uint32(hi.Imm) >= m.spec.ValueSize || uint32(hi.Imm) >= maxVarOff {
		return v.reject(pc, syscall.EINVAL, "invalid access to map value pointer, value_size=%d off=%d",
			m.spec.ValueSize, uint32(hi.Imm))
	}
	return nil
}

// mapFitsProgram refuses maps whose contents this kind of program may not have.
func (v *verifier) mapFitsProgram(pc int, m *mapInfo) error {
	if m.spec.SpinLock != 0 && v.progs.Has(helper.SocketFilter) {
		return v.reject(pc, syscall.EINVAL, "socket filter progs cannot use bpf_spin_lock yet")
	}
	return nil
}

// checkFields tests the fields that an instruction does not use, which must be
// 0, and its register numbers. It runs once for each instruction reached.
func (v *verifier) checkFields(pc int) error {
	in := v.insns[pc]
	bad := func(what string) error {
		return v.reject(pc, syscall.EINVAL, "%s uses reserved fields", what)
	}
	if in.Dst() > 10 {
		return v.reject(pc, syscall.EINVAL, "R%d is invalid", in.Dst())
	}
	if in.Src() > 10 {
		return v.reject(pc, syscall.EINVAL, "R%d is invalid", in.Src())
	}
	switch in.Class() {
	case ebpf.ClassALU, ebpf.ClassALU64:
		return v.checkALUFields(pc, in, bad)
	case ebpf.ClassLD:
		switch {
		case in.IsWide():
			if in.Off != 0 {
				return bad("BPF_LD_IMM64")
			}
		case in.Mode() != ebpf.ModeAbs && in.Mode() != ebpf.ModeInd:
			return v.reject(pc, syscall.EINVAL, "invalid BPF_LD_IMM insn")
		case in.Dst() != 0 || in.Off != 0 || in.Mode() == ebpf.ModeAbs && in.Src() != 0:
			return bad("BPF_LD_[ABS|IND]")
		}
	case ebpf.ClassST:
		if in.Src() != 0 {
			return bad("BPF_ST")
		}
	case ebpf.ClassSTX:
		if in.Mode() == ebpf.ModeMem && in.Imm != 0 {
			return bad("BPF_STX")
		}
	case ebpf.ClassJMP, ebpf.ClassJMP32:
		return v.checkJumpFields(in, bad)
	}
	return nil
}

func (v *verifier) checkALUFields(pc int, in ebpf.Insn, bad func(string) error) error {
	wide := in.Class() == ebpf.ClassALU64
	switch op := in.ALUOp(); op {
	case ebpf.ALUNeg:
		if in.SrcReg() || in.Src() != 0 || in.Off != 0 || in.Imm != 0 {
			return bad("BPF_NEG")
		}
	case ebpf.ALUEnd:
		if in.Src() != 0 || in.Off != 0 || in.Imm != 16 && in.Imm != 32 && in.Imm != 64 {
			return bad("BPF_END")
		}
	case ebpf.ALUMov:
		if !in.SrcReg() {
			if in.Src() != 0 || in.Off != 0 {
				return bad("BPF_MOV")
			}
			return nil
		}
		signed := in.Off == 8 || in.Off == 16 || in.Off == 32 && wide
		if in.Imm != 0 || in.Off != 0 && !signed {
			return bad("BPF_MOV")
		}
	default:
		if in.SrcReg() && in.Imm != 0 || !in.SrcReg() && in.Src() != 0 {
			return bad("BPF_ALU")
		}
		div := op == ebpf.ALUDiv || op == ebpf.ALUMod
		if in.Off != 0 && !(div && in.Off == 1) {
			return bad("BPF_ALU")
		}
		if div && !in.SrcReg() && in.Imm == 0 {
			return v.reject(pc, syscall.EINVAL, "div by zero")
		}
		if shift := op == ebpf.ALULsh || op == ebpf.ALURsh || op == ebpf.ALUArsh; shift && !in.SrcReg() {
			if width := int32(32) << b2i(wide); in.Imm < 0 || in.Imm >= width {
				return v.reject(pc, syscall.EINVAL, "invalid shift %d", in.Imm)
			}
		}
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (v *verifier) checkJumpFields(in ebpf.Insn, bad func(string) error) error {
	switch {
	case in.Op == ebpf.OpCall:
		src := in.Src()
		if in.Dst() != 0 || src > ebpf.PseudoKfunc || src != ebpf.PseudoKfunc && in.Off != 0 {
			return bad("BPF_CALL")
		}
	case in.Op == ebpf.OpExit:
		if in.Imm != 0 || in.Src() != 0 || in.Dst() != 0 {
			return bad("BPF_EXIT")
		}
	case in.Op == ebpf.OpJa:
		if in.Imm != 0 || in.Src() != 0 || in.Dst() != 0 {
			return bad("BPF_JA")
		}
	case in.Op == ebpf.OpJaLong:
		if in.Off != 0 || in.Src() != 0 || in.Dst() != 0 {
			return bad("BPF_JA")
		}
	case in.ALUOp() == ebpf.JmpCond:
		if in.Class() != ebpf.ClassJMP || in.Imm != 0 || in.Src() != ebpf.PseudoMayGoto || in.Dst() != 0 {
			return bad("may_goto")
		}
	case in.SrcReg():
		if in.Imm != 0 {
			return bad("BPF_JMP/JMP32")
		}
	case in.Src() != 0:
		return bad("BPF_JMP/JMP32")
	}
	return nil
}
