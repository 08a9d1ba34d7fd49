package cbpf

import (
	"errors"
	"fmt"

	"taproom/filter/ebpf"
)

// ErrNoTranslation is returned for a filter that asks for something that eBPF
// programs have no way to ask for; such a filter can only be run directly.
var ErrNoTranslation = errors.New("cbpf: filter has no eBPF translation")

// Registers of a translated filter. The accumulator is the return value, so that
// every early end must set it.
const (
	regA   = 0
	regArg = 1
	regCtx = 6
	regX   = 7
	regSav = 8
	regFP  = 10
)

// Offsets in struct __sk_buff (<linux/bpf.h>).
const (
	skbLen         = 0
	skbPktType     = 4
	skbMark        = 8
	skbQueue       = 12
	skbProtocol    = 16
	skbVLANPresent = 20
	skbVLANTCI     = 24
	skbVLANProto   = 28
	skbIfindex     = 40
	skbHash        = 68
)

// Helpers that a translated filter calls.
const (
	helperRandom = 7
	helperCPU    = 8
)

// Translate returns the filter as a socket filter program over struct __sk_buff,
// as Linux translates it: packet loads are LD_ABS and LD_IND, and one that fails
// ends the program with 0. The result's name and type may be changed.
func (f *Filter) Translate() (*ebpf.Program, error) {
	tr := &translator{start: make([]int, len(f.insns)+1)}
	tr.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, regCtx, regArg, 0, 0)
	tr.emit(ebpf.ClassALU|ebpf.ALUMov, regA, 0, 0, 0)
	tr.emit(ebpf.ClassALU|ebpf.ALUMov, regX, 0, 0, 0)
	// Linux takes classic filters with dead code, but no eBPF programs with it.
	live := reachable(f.insns)
	for pc, i := range f.insns {
		tr.start[pc] = len(tr.out)
		if !live[pc] {
			continue
		}
		if err := tr.insn(i, pc); err != nil {
			return nil, fmt.Errorf("%w: instruction %d: %w", ErrNoTranslation, pc, err)
		}
	}
	for _, j := range tr.jumps {
		dist := tr.start[j.to] - j.at - 1
		if dist != int(int16(dist)) {
			return nil, fmt.Errorf("%w: a jump over %d instructions", ErrNoTranslation, dist)
		}
		tr.out[j.at].Off = int16(dist)
	}
	return &ebpf.Program{
		Type: ebpf.SocketFilter, License: "GPL", Insns: tr.out, Classic: true,
		Funcs: []ebpf.Func{{Name: "filter"}},
	}, nil
}

// reachable tells which instructions can run. Jumps only go forward.
func reachable(insns []Insn) []bool {
	live := make([]bool, len(insns)+1)
	live[0] = true
	for pc, i := range insns {
		switch {
		case !live[pc] || i.Code&7 == ClassRET:
		case i.Code == ClassJMP|JmpA:
			live[pc+1+int(i.K)] = true
		case i.Code&7 == ClassJMP:
			live[pc+1+int(i.JT)], live[pc+1+int(i.JF)] = true, true
		default:
			live[pc+1] = true
		}
	}
	return live
}

type translator struct {
	out   []ebpf.Insn
	start []int // of each classic instruction
	jumps []jump
}

// jump is a distance to fill in.
type jump struct{ at, to int }

func (t *translator) emit(op uint8, dst, src uint8, off int16, imm uint32) {
	t.out = append(t.out, ebpf.Insn{Op: op, Regs: ebpf.Regs(dst, src), Off: off, Imm: int32(imm)})
}

func (t *translator) jumpTo(op uint8, dst, src uint8, imm uint32, to int) {
	t.jumps = append(t.jumps, jump{len(t.out), to})
	t.emit(op, dst, src, 0, imm)
}

func (t *translator) insn(i Insn, pc int) error {
	switch i.Code & 7 {
	case ClassLD:
		return t.load(i)
	case ClassLDX:
		t.loadX(i)
	case ClassST:
		t.emit(ebpf.ClassSTX|ebpf.ModeMem|ebpf.SizeW, regFP, regA, slot(i.K), 0)
	case ClassSTX:
		t.emit(ebpf.ClassSTX|ebpf.ModeMem|ebpf.SizeW, regFP, regX, slot(i.K), 0)
	case ClassALU:
		t.alu(i)
	case ClassJMP:
		t.branch(i, pc)
	case ClassRET:
		if i.Code&0x18 == SrcK {
			t.emit(ebpf.ClassALU|ebpf.ALUMov, regA, 0, 0, i.K)
		}
		t.emit(ebpf.OpExit, 0, 0, 0, 0)
	case ClassMISC:
		if i.Code&0xf8 == MiscTAX {
			t.emit(ebpf.ClassALU|ebpf.ALUMov|ebpf.SrcX, regX, regA, 0, 0)
		} else {
			t.emit(ebpf.ClassALU|ebpf.ALUMov|ebpf.SrcX, regA, regX, 0, 0)
		}
	}
	return nil
}

// slot is the frame offset of a scratch word.
func slot(k uint32) int16 { return -4 * (int16(k) + 1) }

func (t *translator) load(i Insn) error {
	switch i.Code & 0xe0 {
	case ModeImm:
		t.emit(ebpf.ClassALU|ebpf.ALUMov, regA, 0, 0, i.K)
	case ModeMem:
		t.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, regA, regFP, slot(i.K), 0)
	case ModeLen:
		t.field(regA, skbLen)
	case ModeInd:
		t.emit(uint8(i.Code), 0, regX, 0, i.K)
	case ModeAbs:
		if what, ok := ancillary(i.K); ok {
			return t.ask(what)
		}
		t.emit(uint8(i.Code), 0, 0, 0, i.K)
	}
	return nil
}

func (t *translator) field(reg uint8, off int16) {
	t.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, reg, regCtx, off, 0)
}

func (t *translator) loadX(i Insn) {
	switch i.Code & 0xe0 {
	case ModeImm:
		t.emit(ebpf.ClassALU|ebpf.ALUMov, regX, 0, 0, i.K)
	case ModeMem:
		t.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, regX, regFP, slot(i.K), 0)
	case ModeLen:
		t.field(regX, skbLen)
	case ModeMsh:
		// X = 4 * (byte & 0xf), by way of the accumulator.
		t.emit(ebpf.ClassALU|ebpf.ALUMov|ebpf.SrcX, regSav, regA, 0, 0)
		t.emit(ebpf.ClassLD|ebpf.ModeAbs|ebpf.SizeB, 0, 0, 0, i.K)
		t.emit(ebpf.ClassALU|ebpf.ALUAnd, regA, 0, 0, 0xf)
		t.emit(ebpf.ClassALU|ebpf.ALULsh, regA, 0, 0, 2)
		t.emit(ebpf.ClassALU|ebpf.ALUMov|ebpf.SrcX, regX, regA, 0, 0)
		t.emit(ebpf.ClassALU|ebpf.ALUMov|ebpf.SrcX, regA, regSav, 0, 0)
	}
}

// ask loads ancillary data.
func (t *translator) ask(what uint32) error {
	swap16 := func() { t.emit(ebpf.ClassALU|ebpf.ALUEnd|ebpf.SrcX, regA, 0, 0, 16) }
	switch what {
	case ADProtocol:
		t.field(regA, skbProtocol)
		swap16()
	case ADPktType:
		t.field(regA, skbPktType)
	case ADIfindex:
		t.field(regA, skbIfindex)
	case ADMark:
		t.field(regA, skbMark)
	case ADQueue:
		t.field(regA, skbQueue)
	case ADRXHash:
		t.field(regA, skbHash)
	case ADVLANTag:
		t.field(regA, skbVLANTCI)
	case ADVLANTagPresent:
		t.field(regA, skbVLANPresent)
	case ADVLANTPID:
		t.field(regA, skbVLANProto)
		swap16()
	case ADAluXorX:
		t.emit(ebpf.ClassALU|ebpf.ALUXor|ebpf.SrcX, regA, regX, 0, 0)
	case ADCPU:
		t.emit(ebpf.OpCall, 0, 0, 0, helperCPU)
	case ADRandom:
		t.emit(ebpf.OpCall, 0, 0, 0, helperRandom)
		t.emit(ebpf.ClassALU|ebpf.ALUMov|ebpf.SrcX, regA, regA, 0, 0)
	default:
		return fmt.Errorf("ancillary data %d", what)
	}
	return nil
}

func (t *translator) alu(i Insn) {
	op := uint8(i.Code & 0xf0)
	if op == OpNeg {
		t.emit(ebpf.ClassALU|ebpf.ALUNeg, regA, 0, 0, 0)
		return
	}
	if i.Code&SrcX == 0 {
		t.emit(ebpf.ClassALU|op, regA, 0, 0, i.K)
		return
	}
	if op == OpDiv || op == OpMod {
		// eBPF goes on after a division by zero, a classic filter ends.
		t.emit(ebpf.ClassJMP32|ebpf.JmpNE, regX, 0, 2, 0)
		t.emit(ebpf.ClassALU|ebpf.ALUMov, regA, 0, 0, 0)
		t.emit(ebpf.OpExit, 0, 0, 0, 0)
	}
	t.emit(ebpf.ClassALU|op|ebpf.SrcX, regA, regX, 0, 0)
}

func (t *translator) branch(i Insn, pc int) {
	if i.Code == ClassJMP|JmpA {
		t.jumpTo(ebpf.OpJa, 0, 0, 0, pc+1+int(i.K))
		return
	}
	yes, no := pc+1+int(i.JT), pc+1+int(i.JF)
	op := uint8(i.Code & 0xf0)
	inverse := map[uint8]uint8{JmpEq: ebpf.JmpNE, JmpGT: ebpf.JmpLE, JmpGE: ebpf.JmpLT}
	src, imm := uint8(0), i.K
	if i.Code&SrcX != 0 {
		src, imm = regX, 0
	}
	side := uint8(i.Code & SrcX)
	switch inv, ok := inverse[op]; {
	case yes == no:
		t.jumpTo(ebpf.OpJa, 0, 0, 0, yes)
	case yes == pc+1 && ok:
		t.jumpTo(ebpf.ClassJMP32|inv|side, regA, src, imm, no)
	default:
		t.jumpTo(ebpf.ClassJMP32|op|side, regA, src, imm, yes)
		if no != pc+1 {
			t.jumpTo(ebpf.OpJa, 0, 0, 0, no)
		}
	}
}
