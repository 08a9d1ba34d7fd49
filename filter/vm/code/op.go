package code

// Op is a decoded operation. ALU and jump operations come in blocks of four
// (64-bit immediate, 64-bit register, 32-bit immediate, 32-bit register), so that
// a compiler can take them apart with arithmetic; see ALU and Jump.
type Op uint16

// Forms of an ALU operation or a conditional jump, added to its base.
const (
	Imm64 Op = iota // operate on 64 bits, second operand in Imm
	Reg64           // second operand in Src
	Imm32           // operate on the low halves; a result is zero-extended
	Reg32
)

// ALU operations: bases of blocks of four. Their order is that of ALUKind.
const (
	Invalid Op = iota * 4 // 0 to 3 are no operations
	Add
	Sub
	Mul
	Div // unsigned; by 0 gives 0
	Or
	And
	Lsh
	Rsh
	Mod // unsigned; by 0 leaves the destination
	Xor
	Mov
	Arsh
	SDiv
	SMod
	// Conditional jumps: bases of blocks of four; Off is the target.
	JEq
	JGT
	JGE
	JSet
	JNE
	JSGT
	JSGE
	JLT
	JLE
	JSLT
	JSLE
	endBlocks
)

// All other operations.
const (
	Neg64 = endBlocks + iota
	Neg32
	MovSX8  // 64-bit results
	MovSX16 //
	MovSX32 //
	MovSX8W // 32-bit results
	MovSX16W
	Zext16 // to_le: the host is little-endian, so this only cuts
	Zext32
	Nop // to_le 64
	Swap16
	Swap32
	Swap64
	LoadImm // Dst = Imm; if it is a map's, Off is the index of the map plus one

	Ja       // Off is the target
	MayGoto  // Off is the target when the loop has run long enough
	Call     // helper number Imm
	CallFunc // subprogram: Off is the index of its first instruction
	CallKfunc
	Exit

	Load8 // Dst = *(u8 *)(Src + Off), zero-extended
	Load16
	Load32
	Load64
	LoadSX8 // sign-extended
	LoadSX16
	LoadSX32
	LoadAcq8
	LoadAcq16
	LoadAcq32
	LoadAcq64
	Store8 // *(u8 *)(Dst + Off) = Src
	Store16
	Store32
	Store64
	StoreImm8 // *(u8 *)(Dst + Off) = Imm
	StoreImm16
	StoreImm32
	StoreImm64
	StoreRel8
	StoreRel16
	StoreRel32
	StoreRel64

	Atomic32 // Imm is the operation as on the wire
	Atomic64

	Abs8 // R0 = big-endian load from packet offset Imm (+ Src for Ind)
	Abs16
	Abs32
	Ind8
	Ind16
	Ind32

	Trap // stops a run; stands for what cannot be reached

	NumOps
)

// IsALU reports whether o is one of the ALU blocks of four.
func (o Op) IsALU() bool { return o >= Add && o < JEq }

// IsJump reports whether o is a conditional jump of the blocks of four.
func (o Op) IsJump() bool { return o >= JEq && o < endBlocks }

// Base returns the block of a blocked operation.
func (o Op) Base() Op { return o &^ 3 }

// Is32 reports whether a blocked operation works on the low halves.
func (o Op) Is32() bool { return o&2 != 0 }

// IsReg reports whether a blocked operation takes its second operand from Src.
func (o Op) IsReg() bool { return o&1 != 0 }

// Width returns the number of bytes that a load, store or atomic operation
// moves, 0 for everything else.
func (o Op) Width() int {
	switch o {
	case Load8, LoadSX8, LoadAcq8, Store8, StoreImm8, StoreRel8, Abs8, Ind8:
		return 1
	case Load16, LoadSX16, LoadAcq16, Store16, StoreImm16, StoreRel16, Abs16, Ind16:
		return 2
	case Load32, LoadSX32, LoadAcq32, Store32, StoreImm32, StoreRel32, Atomic32, Abs32, Ind32:
		return 4
	case Load64, LoadAcq64, Store64, StoreImm64, StoreRel64, Atomic64:
		return 8
	}
	return 0
}

// IsLoad reports whether o reads memory through Src into Dst.
func (o Op) IsLoad() bool { return o >= Load8 && o <= LoadAcq64 }

// IsStore reports whether o writes memory through Dst; atomics are not counted.
func (o Op) IsStore() bool { return o >= Store8 && o <= StoreRel64 }

// Insn is one decoded instruction.
type Insn struct {
	Op       Op
	Dst, Src uint8 // 0 to 10
	Off      int32 // of a memory operand in bytes, or the index of a jump target
	Imm      int64 // sign-extended immediate, number of a helper, address
}

// FuncHandle is what a register holds that a program believes to hold the address of
// one of its functions: FuncHandle plus the index of the function's first Insn. No
// memory is ever mapped there, and it is the same for interpreted and compiled code.
const FuncHandle = 0x7f0f_0000_0000_0000

// FuncIndex returns the instruction index of a function handle.
func FuncIndex(v uint64) (int, bool) {
	return int(uint32(v)), v&^0xffff_ffff == FuncHandle
}
