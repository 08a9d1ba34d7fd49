package code

import "taproom/filter/ebpf"

var aluBase = [16]Op{
	ebpf.ALUAdd >> 4: Add, ebpf.ALUSub >> 4: Sub, ebpf.ALUMul >> 4: Mul, ebpf.ALUDiv >> 4: Div,
	ebpf.ALUOr >> 4: Or, ebpf.ALUAnd >> 4: And, ebpf.ALULsh >> 4: Lsh, ebpf.ALURsh >> 4: Rsh,
	ebpf.ALUMod >> 4: Mod, ebpf.ALUXor >> 4: Xor, ebpf.ALUMov >> 4: Mov, ebpf.ALUArsh >> 4: Arsh,
}

var jumpBase = [16]Op{
	ebpf.JmpEq >> 4: JEq, ebpf.JmpGT >> 4: JGT, ebpf.JmpGE >> 4: JGE, ebpf.JmpSet >> 4: JSet,
	ebpf.JmpNE >> 4: JNE, ebpf.JmpSGT >> 4: JSGT, ebpf.JmpSGE >> 4: JSGE, ebpf.JmpLT >> 4: JLT,
	ebpf.JmpLE >> 4: JLE, ebpf.JmpSLT >> 4: JSLT, ebpf.JmpSLE >> 4: JSLE,
}

// form adds width and operand kind to the base of a block. The wide class is
// ALU64 or JMP.
func form(base Op, wide, reg bool) Op {
	if !wide {
		base += Imm32
	}
	if reg {
		base++
	}
	return base
}

// alu decodes the arithmetic classes, RFC 9669 section 4.1 and 4.2.
func (d *decoder) alu(i int, w ebpf.Insn, in Insn) (Insn, error) {
	wide, reg := w.Class() == ebpf.ClassALU64, w.SrcReg()
	bad := func() (Insn, error) { return in, d.fail(i, "unknown opcode %#02x (offset %d)", w.Op, w.Off) }
	switch w.ALUOp() {
	case ebpf.ALUNeg:
		if reg || w.Off != 0 {
			return bad()
		}
		in.Op = Neg32
		if wide {
			in.Op = Neg64
		}
		return in, nil
	case ebpf.ALUEnd:
		return d.end(i, w, in)
	}
	base := aluBase[w.ALUOp()>>4]
	if base == Invalid {
		return bad()
	}
	if !reg {
		in.Src = 0
		if w.Src() != 0 {
			return bad()
		}
	}
	switch {
	case w.Off == 0:
	case w.Off == 1 && base == Div:
		base = SDiv
	case w.Off == 1 && base == Mod:
		base = SMod
	case base == Mov && reg:
		return d.movsx(i, w, in)
	default:
		return bad()
	}
	in.Off, in.Op = 0, form(base, wide, reg)
	if !reg {
		switch {
		case base == Lsh || base == Rsh || base == Arsh:
			// RFC 9669 section 4.1 masks shift amounts, immediate ones too.
			in.Imm &= 63
			if !wide {
				in.Imm &= 31
			}
		case !wide && base != SDiv && base != SMod:
			in.Imm = int64(uint32(w.Imm))
		}
	}
	return in, nil
}

// movsx decodes the sign-extending moves.
func (d *decoder) movsx(i int, w ebpf.Insn, in Insn) (Insn, error) {
	wide := w.Class() == ebpf.ClassALU64
	switch {
	case w.Off == 8 && wide:
		in.Op = MovSX8
	case w.Off == 16 && wide:
		in.Op = MovSX16
	case w.Off == 32 && wide:
		in.Op = MovSX32
	case w.Off == 8:
		in.Op = MovSX8W
	case w.Off == 16:
		in.Op = MovSX16W
	default:
		return in, d.fail(i, "cannot sign-extend from %d bits", w.Off)
	}
	in.Off = 0
	return in, nil
}

// end decodes byte swaps, RFC 9669 section 4.2. In the class ALU, the source bit
// chooses big-endian; in ALU64 the swap is unconditional.
func (d *decoder) end(i int, w ebpf.Insn, in Insn) (Insn, error) {
	swap := w.Class() == ebpf.ClassALU64 || w.SrcReg()
	if w.Class() == ebpf.ClassALU64 && w.SrcReg() || w.Off != 0 {
		return in, d.fail(i, "unknown opcode %#02x", w.Op)
	}
	in.Src = 0
	switch w.Imm {
	case 16:
		in.Op = Zext16
		if swap {
			in.Op = Swap16
		}
	case 32:
		in.Op = Zext32
		if swap {
			in.Op = Swap32
		}
	case 64:
		in.Op = Nop
		if swap {
			in.Op = Swap64
		}
	default:
		return in, d.fail(i, "cannot swap %d bits", w.Imm)
	}
	return in, nil
}

// jump decodes jumps, calls and exit, RFC 9669 section 4.3.
func (d *decoder) jump(i int, w ebpf.Insn, in Insn) (Insn, error) {
	wide := w.Class() == ebpf.ClassJMP
	var err error
	switch op := w.ALUOp(); {
	case w.Op == ebpf.OpJa:
		in.Op = Ja
		in.Off, err = d.target(i, int32(w.Off))
	case w.Op == ebpf.OpJaLong:
		in.Op = Ja
		in.Off, err = d.target(i, w.Imm)
	case w.Op == ebpf.OpExit:
		in.Op = Exit
	case w.Op == ebpf.OpCall:
		return d.call(i, w, in)
	case w.Op == ebpf.ClassJMP|ebpf.JmpCond && w.Src() == ebpf.PseudoMayGoto:
		in.Op = MayGoto
		in.Off, err = d.target(i, int32(w.Off))
	case jumpBase[op>>4] != Invalid:
		in.Op = form(jumpBase[op>>4], wide, w.SrcReg())
		if !w.SrcReg() {
			in.Src = 0
			if !wide {
				in.Imm = int64(uint32(w.Imm))
			}
		}
		in.Off, err = d.target(i, int32(w.Off))
	default:
		err = d.fail(i, "unknown opcode %#02x", w.Op)
	}
	return in, err
}

func (d *decoder) call(i int, w ebpf.Insn, in Insn) (Insn, error) {
	in.Dst, in.Src = 0, 0
	switch w.Src() {
	case ebpf.PseudoHelper:
		in.Op, in.Off = Call, 0
	case ebpf.PseudoCall:
		to, err := d.target(i, w.Imm)
		if err != nil {
			return in, err
		}
		in.Op, in.Off = CallFunc, to
		d.entry[int(to)] = true
	case ebpf.PseudoKfunc:
		if d.Kfunc == nil {
			return in, d.fail(i, "call of a kernel function")
		}
		id, ok := d.Kfunc(int(w.Imm))
		if !ok {
			return in, d.fail(i, "call of unknown kernel function %d", w.Imm)
		}
		in.Op, in.Imm = CallKfunc, id
	default:
		return in, d.fail(i, "unknown kind of call %d", w.Src())
	}
	return in, nil
}

// ld decodes the class LD: wide immediates and packet access.
func (d *decoder) ld(i int, w ebpf.Insn, in Insn) (Insn, error) {
	if !w.IsWide() {
		switch w.Op {
		case ebpf.ModeAbs | ebpf.SizeB:
			in.Op = Abs8
		case ebpf.ModeAbs | ebpf.SizeH:
			in.Op = Abs16
		case ebpf.ModeAbs | ebpf.SizeW:
			in.Op = Abs32
		case ebpf.ModeInd | ebpf.SizeB:
			in.Op = Ind8
		case ebpf.ModeInd | ebpf.SizeH:
			in.Op = Ind16
		case ebpf.ModeInd | ebpf.SizeW:
			in.Op = Ind32
		default:
			return in, d.fail(i, "unknown opcode %#02x", w.Op)
		}
		return in, nil
	}
	lo, hi := w, d.Insns[i+1]
	in.Op, in.Src, in.Off = LoadImm, 0, 0
	switch w.Src() {
	case ebpf.PseudoImm:
		in.Imm = int64(ebpf.Imm64(lo, hi))
	case ebpf.PseudoMap:
		if d.Map == nil {
			return in, d.fail(i, "no map %d", lo.Imm)
		}
		h, ok := d.Map(int(lo.Imm))
		if !ok {
			return in, d.fail(i, "no map %d", lo.Imm)
		}
		in.Imm, in.Off = int64(h), lo.Imm+1
	case ebpf.PseudoMapValue:
		if d.Value == nil {
			return in, d.fail(i, "no map %d", lo.Imm)
		}
		addr, size, ok := d.Value(int(lo.Imm))
		if !ok || uint32(hi.Imm) >= size {
			return in, d.fail(i, "no value at offset %d of map %d", uint32(hi.Imm), lo.Imm)
		}
		in.Imm = int64(addr + uint64(uint32(hi.Imm)))
	case ebpf.PseudoFunc:
		to, err := d.target(i, lo.Imm)
		if err != nil {
			return in, err
		}
		d.entry[int(to)] = true
		in.Imm = FuncHandle + int64(to)
	default:
		return in, d.fail(i, "unknown kind of wide immediate %d", w.Src())
	}
	return in, nil
}

// mem decodes loads and stores, RFC 9669 section 5.
func (d *decoder) mem(i int, w ebpf.Insn, in Insn) (Insn, error) {
	size := map[uint8]Op{ebpf.SizeB: 0, ebpf.SizeH: 1, ebpf.SizeW: 2, ebpf.SizeDW: 3}[w.Op&0x18]
	class, mode := w.Class(), w.Mode()
	switch {
	case class == ebpf.ClassLDX && mode == ebpf.ModeMem:
		in.Op = Load8 + size
	case class == ebpf.ClassLDX && mode == ebpf.ModeMemSX && size < 3:
		in.Op = LoadSX8 + size
	case class == ebpf.ClassST && mode == ebpf.ModeMem:
		in.Op, in.Src = StoreImm8+size, 0
	case class == ebpf.ClassSTX && mode == ebpf.ModeMem:
		in.Op = Store8 + size
	case class == ebpf.ClassSTX && mode == ebpf.ModeAtomic:
		return d.atomic(i, w, in, size)
	default:
		return in, d.fail(i, "unknown opcode %#02x", w.Op)
	}
	return in, nil
}

// atomic decodes read-modify-write operations and the ordered loads and stores.
func (d *decoder) atomic(i int, w ebpf.Insn, in Insn, size Op) (Insn, error) {
	switch w.Imm {
	case ebpf.AtomicLoadAcq:
		in.Op = LoadAcq8 + size
		return in, nil
	case ebpf.AtomicStRel:
		in.Op = StoreRel8 + size
		return in, nil
	case ebpf.AtomicAdd, ebpf.AtomicOr, ebpf.AtomicAnd, ebpf.AtomicXor,
		ebpf.AtomicAdd | ebpf.AtomicFetch, ebpf.AtomicOr | ebpf.AtomicFetch,
		ebpf.AtomicAnd | ebpf.AtomicFetch, ebpf.AtomicXor | ebpf.AtomicFetch,
		ebpf.AtomicXchg, ebpf.AtomicCmpXchg:
	default:
		return in, d.fail(i, "unknown atomic operation %#x", w.Imm)
	}
	switch size {
	case 2:
		in.Op = Atomic32
	case 3:
		in.Op = Atomic64
	default:
		return in, d.fail(i, "atomic operation on less than 32 bits")
	}
	if in.Src == 10 && w.Imm&ebpf.AtomicFetch != 0 && w.Imm != ebpf.AtomicCmpXchg {
		return in, d.fail(i, "R10 is read only")
	}
	return in, nil
}
