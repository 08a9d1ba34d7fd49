package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// InsnSize is the size of one encoded instruction in bytes. The wide
// instruction LD_IMM64 takes two of them.
const InsnSize = 8

// Insn is one eBPF instruction slot: struct bpf_insn of <linux/bpf.h>, RFC 9669
// section 3. A wide instruction (LD_IMM64) is two consecutive slots, the second
// with Op 0 and only Imm in use.
type Insn struct {
	Op   uint8 // opcode; see the constants in opcode.go
	Regs uint8 // destination register in the low nibble, source in the high one
	Off  int16
	Imm  int32
}

// Dst returns the destination register, 0 to 15 (only 0 to 10 are valid).
func (i Insn) Dst() uint8 { return i.Regs & 0x0f }

// Src returns the source register, or the Pseudo* number that qualifies Imm.
func (i Insn) Src() uint8 { return i.Regs >> 4 }

// Class returns the instruction class, one of the Class* constants.
func (i Insn) Class() uint8 { return i.Op & 0x07 }

// IsWide reports whether this is the first slot of LD_IMM64.
func (i Insn) IsWide() bool { return i.Op == OpLoadImm64 }

// IsALU reports whether the class is ALU or ALU64.
func (i Insn) IsALU() bool { c := i.Class(); return c == ClassALU || c == ClassALU64 }

// IsJump reports whether the class is JMP or JMP32; calls and exit included.
func (i Insn) IsJump() bool { c := i.Class(); return c == ClassJMP || c == ClassJMP32 }

// ALUOp returns the operation of an ALU or JMP class instruction (the high four
// bits, such as ALUAdd or JmpEq).
func (i Insn) ALUOp() uint8 { return i.Op & 0xf0 }

// SrcReg reports whether an ALU or JMP instruction takes its second operand from
// a register (BPF_X) and not from Imm (BPF_K).
func (i Insn) SrcReg() bool { return i.Op&SrcX != 0 }

// Mode returns the mode of a load or store (ModeMem, ModeAtomic, ...).
func (i Insn) Mode() uint8 { return i.Op & 0xe0 }

// Width returns the number of bytes that a load or store moves: 1, 2, 4 or 8.
func (i Insn) Width() int {
	switch i.Op & 0x18 {
	case SizeW:
		return 4
	case SizeH:
		return 2
	case SizeB:
		return 1
	}
	return 8
}

// IsHelperCall reports whether this calls a helper function; its number is Imm.
func (i Insn) IsHelperCall() bool { return i.Op == OpCall && i.Src() == PseudoHelper }

// IsLocalCall reports whether this calls a subprogram: slot index + 1 + Imm.
func (i Insn) IsLocalCall() bool { return i.Op == OpCall && i.Src() == PseudoCall }

// IsKfuncCall reports whether this calls Program.Kfuncs[Imm].
func (i Insn) IsKfuncCall() bool { return i.Op == OpCall && i.Src() == PseudoKfunc }

// Regs packs two registers into the Regs byte of an instruction.
func Regs(dst, src uint8) uint8 { return dst&0x0f | src<<4 }

// Put writes the instruction in the little-endian wire form to b[:8].
func (i Insn) Put(b []byte) {
	_ = b[7]
	b[0], b[1] = i.Op, i.Regs
	binary.LittleEndian.PutUint16(b[2:], uint16(i.Off))
	binary.LittleEndian.PutUint32(b[4:], uint32(i.Imm))
}

// ErrShort is returned when encoded instructions do not fill whole slots.
var ErrShort = errors.New("ebpf: instructions are not a multiple of 8 bytes")

// Decode reads little-endian instruction slots. It accepts any opcode.
func Decode(b []byte) ([]Insn, error) {
	if len(b)%InsnSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrShort, len(b))
	}
	insns := make([]Insn, len(b)/InsnSize)
	for n := range insns {
		s := b[n*InsnSize:]
		insns[n] = Insn{
			Op: s[0], Regs: s[1],
			Off: int16(binary.LittleEndian.Uint16(s[2:])),
			Imm: int32(binary.LittleEndian.Uint32(s[4:])),
		}
	}
	return insns, nil
}

// Encode is the inverse of Decode.
func Encode(insns []Insn) []byte {
	b := make([]byte, len(insns)*InsnSize)
	for n, i := range insns {
		i.Put(b[n*InsnSize:])
	}
	return b
}

// Imm64 joins the immediates of the two slots of a wide instruction.
func Imm64(lo, hi Insn) uint64 { return uint64(uint32(lo.Imm)) | uint64(uint32(hi.Imm))<<32 }
