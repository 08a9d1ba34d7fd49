package verifier

import (
	"taproom/filter/ebpf"
	"taproom/filter/helper"
)

const (
	argRegs     = 0b111110 // R1 to R5
	clobbered   = 0b111111 // R0 to R5
	resultReg   = 1
	calleeSaved = 0b1111000000
)

// liveRegs computes, for each instruction, which registers may be read at it or
// after it before they are written: the ordinary backward data flow, over all
// functions at once, since what a call reads is what the callee's start needs.
func (v *verifier) liveRegs() error {
	use := make([]uint16, len(v.insns))
	def := make([]uint16, len(v.insns))
	for pc := range v.insns {
		use[pc], def[pc] = v.usesAndDefs(pc)
	}
	var next []int
	for changed := true; changed; {
		changed = false
		for pc := len(v.insns) - 1; pc >= 0; pc-- {
			out := uint16(0)
			next = v.successors(pc, next[:0])
			for _, to := range next {
				if to < len(v.insns) {
					out |= v.info[to].live
				}
			}
			u := use[pc]
			if in := v.insns[pc]; in.IsLocalCall() {
				u = v.info[pc+1+int(in.Imm)].live & argRegs
				if s := v.subprogAt(pc + 1 + int(in.Imm)); v.subprogs[s].global {
					u = argRegs
				}
			}
			if live := out&^def[pc] | u; live != v.info[pc].live {
				v.info[pc].live = live
				changed = true
			}
		}
	}
	return nil
}

func (v *verifier) usesAndDefs(pc int) (use, def uint16) {
	in := v.insns[pc]
	dst, src := uint16(1)<<in.Dst(), uint16(1)<<in.Src()
	switch in.Class() {
	case ebpf.ClassALU, ebpf.ClassALU64:
		if in.ALUOp() != ebpf.ALUMov {
			use = dst
		}
		if in.SrcReg() && in.ALUOp() != ebpf.ALUEnd {
			use |= src
		}
		return use, dst
	case ebpf.ClassLD:
		if in.IsWide() {
			return 0, dst
		}
		if in.Mode() == ebpf.ModeInd {
			use = src
		}
		return use | 1<<6, clobbered
	case ebpf.ClassLDX:
		return src, dst
	case ebpf.ClassST:
		return dst, 0
	case ebpf.ClassSTX:
		if in.Mode() != ebpf.ModeAtomic {
			return dst | src, 0
		}
		switch {
		case in.Imm == ebpf.AtomicLoadAcq:
			return src, dst
		case in.Imm == ebpf.AtomicCmpXchg:
			return dst | src | resultReg, resultReg
		case in.Imm == ebpf.AtomicStRel || in.Imm&ebpf.AtomicFetch == 0:
			return dst | src, 0
		}
		return dst | src, src
	}
	switch {
	case in.Op == ebpf.OpExit:
		return resultReg, 0
	case in.Op == ebpf.OpCall:
		return v.callUses(in), clobbered
	case in.Op == ebpf.OpJa || in.Op == ebpf.OpJaLong || in.ALUOp() == ebpf.JmpCond:
		return 0, 0
	case in.SrcReg():
		return dst | src, 0
	}
	return dst, 0
}

func (v *verifier) callUses(in ebpf.Insn) uint16 {
	switch in.Src() {
	case ebpf.PseudoHelper:
		if p := helper.Lookup(helper.ID(in.Imm)); p != nil && p.Offered {
			use := uint16(0)
			for i, a := range p.Args {
				if a.Kind != helper.None {
					use |= 2 << i
				}
			}
			return use
		}
	case ebpf.PseudoKfunc:
		if p := helper.LookupKfunc(v.prog.Kfuncs[in.Imm].Name); p != nil {
			return uint16(1)<<(len(p.Args)+1) - 2
		}
	}
	return argRegs
}
