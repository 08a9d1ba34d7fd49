package ebpf

// Instruction classes, RFC 9669 section 3.1: the low three bits of the opcode.
const (
	ClassLD    = 0x00
	ClassLDX   = 0x01
	ClassST    = 0x02
	ClassSTX   = 0x03
	ClassALU   = 0x04
	ClassJMP   = 0x05
	ClassJMP32 = 0x06
	ClassALU64 = 0x07
)

// Source bit of ALU and JMP instructions.
const (
	SrcK = 0x00 // Imm
	SrcX = 0x08 // source register
)

// Sizes of loads and stores.
const (
	SizeW  = 0x00
	SizeH  = 0x08
	SizeB  = 0x10
	SizeDW = 0x18
)

// Modes of loads and stores.
const (
	ModeImm    = 0x00
	ModeAbs    = 0x20
	ModeInd    = 0x40
	ModeMem    = 0x60
	ModeMemSX  = 0x80
	ModeAtomic = 0xc0
)

// ALU operations, RFC 9669 section 4.1. With Off == 1, ALUDiv and ALUMod are
// signed; ALUMov with Off 8, 16 or 32 sign-extends.
const (
	ALUAdd  = 0x00
	ALUSub  = 0x10
	ALUMul  = 0x20
	ALUDiv  = 0x30
	ALUOr   = 0x40
	ALUAnd  = 0x50
	ALULsh  = 0x60
	ALURsh  = 0x70
	ALUNeg  = 0x80
	ALUMod  = 0x90
	ALUXor  = 0xa0
	ALUMov  = 0xb0
	ALUArsh = 0xc0
	ALUEnd  = 0xd0 // byte swap; in ALU64 unconditional
)

// Jump operations, RFC 9669 section 4.3.
const (
	JmpA    = 0x00 // in JMP32 the distance is Imm (gotol)
	JmpEq   = 0x10
	JmpGT   = 0x20
	JmpGE   = 0x30
	JmpSet  = 0x40
	JmpNE   = 0x50
	JmpSGT  = 0x60
	JmpSGE  = 0x70
	JmpCall = 0x80
	JmpExit = 0x90
	JmpLT   = 0xa0
	JmpLE   = 0xb0
	JmpSLT  = 0xc0
	JmpSLE  = 0xd0
	JmpCond = 0xe0 // may_goto and friends; see PseudoMayGoto
)

// Atomic operations, in Imm of STX|ModeAtomic, RFC 9669 section 5.3.
const (
	AtomicAdd     = 0x00
	AtomicOr      = 0x40
	AtomicAnd     = 0x50
	AtomicXor     = 0xa0
	AtomicFetch   = 0x01 // modifier
	AtomicXchg    = 0xe0 | AtomicFetch
	AtomicCmpXchg = 0xf0 | AtomicFetch
	AtomicLoadAcq = 0x100
	AtomicStRel   = 0x110
)

// Whole opcodes that are named often.
const (
	OpLoadImm64 = ClassLD | SizeDW | ModeImm // 0x18
	OpCall      = ClassJMP | JmpCall         // 0x85
	OpExit      = ClassJMP | JmpExit         // 0x95
	OpJa        = ClassJMP | JmpA            // 0x05
	OpJaLong    = ClassJMP32 | JmpA          // 0x06
)

// What the source nibble of LD_IMM64 says about the immediate
// (BPF_PSEUDO_* of <linux/bpf.h>).
const (
	PseudoImm      = 0 // a plain 64-bit number
	PseudoMap      = 1 // first Imm: index into Program.Maps
	PseudoMapValue = 2 // first Imm: index into Program.Maps, second: offset in its value 0
	PseudoFunc     = 4 // Imm: distance to a subprogram, as in a local call
)

// What the source nibble of a call says about Imm.
const (
	PseudoHelper = 0 // helper number
	PseudoCall   = 1 // distance to a subprogram from the next slot
	PseudoKfunc  = 2 // index into Program.Kfuncs
)

// PseudoMayGoto is the source nibble of JmpCond that makes it may_goto.
const PseudoMayGoto = 0

// StackSize is the size of one frame's stack, and of all frames of a call chain
// together (MAX_BPF_STACK).
const StackSize = 512

// MaxCallFrames is the greatest depth of nested subprogram calls.
const MaxCallFrames = 8

// MaxTailCalls is how many tail calls one run may make (MAX_TAIL_CALL_CNT).
const MaxTailCalls = 33

// MaxInsns is the greatest length of a program in slots for a privileged loader
// (BPF_COMPLEXITY_LIMIT_INSNS bounds it in Linux).
const MaxInsns = 1_000_000
