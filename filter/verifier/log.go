package verifier

import (
	"fmt"
	"strings"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
)

var (
	sizeNames = map[int]string{1: "u8", 2: "u16", 4: "u32", 8: "u64"}
	jumpNames = map[uint8]string{
		ebpf.JmpEq: "==", ebpf.JmpGT: ">", ebpf.JmpGE: ">=", ebpf.JmpSet: "&", ebpf.JmpNE: "!=",
		ebpf.JmpSGT: "s>", ebpf.JmpSGE: "s>=", ebpf.JmpLT: "<", ebpf.JmpLE: "<=", ebpf.JmpSLT: "s<", ebpf.JmpSLE: "s<=",
	}
	atomicNames = map[uint8]string{ebpf.AtomicAdd: "+=", ebpf.AtomicOr: "|=", ebpf.AtomicAnd: "&=", ebpf.AtomicXor: "^="}
)

// disassemble prints one instruction in the style of the kernel's log.
func (v *verifier) disassemble(pc int) string {
	in := v.insns[pc]
	return fmt.Sprintf("(%02x) %s", in.Op, v.text(pc, in))
}

func (v *verifier) text(pc int, in ebpf.Insn) string {
	r := "r"
	if c := in.Class(); c == ebpf.ClassALU || c == ebpf.ClassJMP32 {
		r = "w"
	}
	dst := fmt.Sprintf("%s%d", r, in.Dst())
	src := fmt.Sprintf("%d", in.Imm)
	if in.SrcReg() {
		src = fmt.Sprintf("%s%d", r, in.Src())
	}
	mem := func(reg uint8) string {
		return fmt.Sprintf("*(%s *)(r%d %+d)", sizeNames[in.Width()], reg, in.Off)
	}
	switch in.Class() {
	case ebpf.ClassALU, ebpf.ClassALU64:
		switch in.ALUOp() {
		case ebpf.ALUNeg:
			return dst + " = -" + dst
		case ebpf.ALUEnd:
			name := "le"
			if in.Class() == ebpf.ClassALU64 {
				name = "bswap"
			} else if in.SrcReg() {
				name = "be"
			}
			return fmt.Sprintf("r%d = %s%d r%d", in.Dst(), name, in.Imm, in.Dst())
		case ebpf.ALUMov:
			if in.SrcReg() && in.Off != 0 {
				return fmt.Sprintf("%s = (s%d)%s", dst, in.Off, src)
			}
		}
		op := aluNames[in.ALUOp()]
		if in.Off == 1 && (in.ALUOp() == ebpf.ALUDiv || in.ALUOp() == ebpf.ALUMod) {
			op = "s" + op
		}
		return dst + " " + op + " " + src
	case ebpf.ClassLD:
		return v.loadText(pc, in)
	case ebpf.ClassLDX:
		return fmt.Sprintf("r%d = %s", in.Dst(), mem(in.Src()))
	case ebpf.ClassST:
		return fmt.Sprintf("%s = %d", mem(in.Dst()), in.Imm)
	case ebpf.ClassSTX:
		if in.Mode() == ebpf.ModeAtomic {
			if op, ok := atomicNames[uint8(in.Imm)]; ok && in.Imm < 0x100 {
				return fmt.Sprintf("lock %s %s r%d", mem(in.Dst()), op, in.Src())
			}
			return fmt.Sprintf("atomic %#x %s, r%d", in.Imm, mem(in.Dst()), in.Src())
		}
		return fmt.Sprintf("%s = r%d", mem(in.Dst()), in.Src())
	}
	to, _ := jumpTarget(pc, in)
	switch {
	case in.Op == ebpf.OpExit:
		return "exit"
	case in.Op == ebpf.OpCall:
		return v.callText(pc, in)
	case in.Op == ebpf.OpJa || in.Op == ebpf.OpJaLong:
		return fmt.Sprintf("goto pc%+d", to-pc-1)
	case in.ALUOp() == ebpf.JmpCond:
		return fmt.Sprintf("may_goto pc%+d", to-pc-1)
	}
	return fmt.Sprintf("if %s %s %s goto pc%+d", dst, jumpNames[in.ALUOp()], src, to-pc-1)
}

func (v *verifier) loadText(pc int, in ebpf.Insn) string {
	if !in.IsWide() {
		if in.Mode() == ebpf.ModeInd {
			return fmt.Sprintf("r0 = *(%s *)skb[r%d + %d]", sizeNames[in.Width()], in.Src(), in.Imm)
		}
		return fmt.Sprintf("r0 = *(%s *)skb[%d]", sizeNames[in.Width()], in.Imm)
	}
	switch in.Src() {
	case ebpf.PseudoMap, ebpf.PseudoMapValue:
		name := "?"
		if in.Imm >= 0 && int(in.Imm) < len(v.maps) {
			name = v.maps[in.Imm].spec.Name
		}
		if in.Src() == ebpf.PseudoMapValue && pc+1 < len(v.insns) {
			return fmt.Sprintf("r%d = map %d (%s) value +%d", in.Dst(), in.Imm, name, v.insns[pc+1].Imm)
		}
		return fmt.Sprintf("r%d = map %d (%s)", in.Dst(), in.Imm, name)
	case ebpf.PseudoFunc:
		return fmt.Sprintf("r%d = func pc%+d", in.Dst(), in.Imm)
	}
	if pc+1 < len(v.insns) {
		return fmt.Sprintf("r%d = %#x ll", in.Dst(), ebpf.Imm64(in, v.insns[pc+1]))
	}
	return fmt.Sprintf("r%d = %#x", in.Dst(), in.Imm)
}

func (v *verifier) callText(pc int, in ebpf.Insn) string {
	switch in.Src() {
	case ebpf.PseudoCall:
		if f := v.prog.FuncAt(pc + 1 + int(in.Imm)); f != nil && f.Start == pc+1+int(in.Imm) && f.Name != "" {
			return fmt.Sprintf("call %s", f.Name)
		}
		return fmt.Sprintf("call pc%+d", in.Imm)
	case ebpf.PseudoKfunc:
		if in.Imm >= 0 && int(in.Imm) < len(v.prog.Kfuncs) {
			return "call " + v.prog.Kfuncs[in.Imm].Name
		}
	}
	return fmt.Sprintf("call %v#%d", helper.ID(in.Imm), in.Imm)
}

// logInsn writes the instruction about to be executed, at level 2 after the
// state that it meets.
func (v *verifier) logInsn() {
	if v.opt.LogLevel >= 2 {
		v.printf("%d: %s\n", v.pc, v.describe(v.cur))
	}
	if l := v.prog.LineAt(v.pc); l != nil && l.Insn == v.pc {
		v.printf("; %s @ %s:%d\n", strings.TrimSpace(l.Text), l.File, l.Line)
	}
	v.printf("%d: %s\n", v.pc, v.disassemble(v.pc))
}

// describe prints the innermost frame of a state.
func (v *verifier) describe(s *state) string {
	if s.top < 0 {
		return ""
	}
	var b strings.Builder
	f := s.frame()
	if s.top > 0 {
		fmt.Fprintf(&b, "frame%d:", s.top)
	}
	for n := range f.regs {
		if f.regs[n].kind != notInit {
			fmt.Fprintf(&b, " R%d=%s", n, v.describeReg(&f.regs[n]))
		}
	}
	for n := range f.stack {
		sl := &f.stack[n]
		if sl.spilled() {
			fmt.Fprintf(&b, " fp-%d=%s", 8*(n+1), v.describeReg(&sl.reg))
		} else if !sl.vague() || sl.bytes != [8]slotKind{} {
			fmt.Fprintf(&b, " fp-%d=", 8*(n+1))
			for i := 7; i >= 0; i-- {
				b.WriteByte("?rm0di"[sl.bytes[i]])
			}
		}
	}
	for _, r := range s.refs {
		fmt.Fprintf(&b, " refs=%d", r.id)
	}
	return strings.TrimSpace(b.String())
}

func (v *verifier) describeReg(r *reg) string {
	if r.kind == number {
		s := ""
		if v.track.needed(r.node) {
			s = "P"
		}
		if r.num.IsConst() {
			return s + r.num.String()
		}
		d := r.num.String()
		if r.id != 0 {
			id := fmt.Sprintf("id=%d", r.id)
			if r.delta != 0 {
				id += fmt.Sprintf("%+d", r.delta)
			}
			d = strings.TrimSuffix(id+","+d, ",")
		}
		return s + "scalar(" + d + ")"
	}
	if r.kind == ptrStack && r.num.IsConst() {
		return fmt.Sprintf("fp%d", r.constOff())
	}
	var a []string
	add := func(ok bool, f string, x ...any) {
		if ok {
			a = append(a, fmt.Sprintf(f, x...))
		}
	}
	if r.m != nil {
		add(true, "map=%s,ks=%d,vs=%d", r.m.spec.Name, r.m.spec.KeySize, r.m.spec.ValueSize)
	}
	add(r.id != 0, "id=%d", r.id)
	add(r.ref != 0, "ref_obj_id=%d", r.ref)
	add(r.off != 0, "off=%d", r.off)
	add(r.isPacket(), "r=%d", r.rng)
	add(r.kind == ptrMem, "sz=%d", r.size)
	add(!r.num.Is(0), "%v", r.num)
	return r.typeName() + "(" + strings.Join(a, ",") + ")"
}
