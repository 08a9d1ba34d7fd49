package jit

import "unsafe"

// Sizes of the memory that a run has for itself.
const (
	FrameSize  = 512 // BPF stack of one function
	Frames     = 48  // frames there is memory for: tail calls out of subprograms nest
	NativeSize = 8192
	CtxSize    = 192 // struct __sk_buff of uapi linux/bpf.h
)

// State is one run as both Go and native code see it: plain numbers, no Go
// pointers, at an address that does not change while native code runs (the Go
// heap does not move objects; whoever calls Enter keeps the State reachable).
//
// The offsets of its fields are part of the code that the compilers emit; see the
// Off constants.
type State struct {
	Regs   [16]uint64 // R0 to R10, the link register; 16 lets the interpreter index with a mask
	Exit   uint64     // why native code returned: Done or an exit code
	Resume uint64     // where to go on after an exit
	SP     uint64     // native stack pointer at an exit
	GoSP   uint64     // Go's stack pointer while native code runs
	GoBP   uint64
	Budget int64 // instructions that may still run; see package vm

	Data, DataEnd, DataMeta uint64 // packet pointers (linear part)
	CPU                     uint64 // CPU slot
	ProgID                  uint64 // program that is running, for Go
	TailCalls               uint64 // tail calls made so far
	Loops                   uint64 // may_goto iterations left
	CtxAddr                 uint64 // address of Ctx, what R1 holds at the start
	Spare                   [4]uint64

	Ctx    [CtxSize]byte
	Stack  [Frames * FrameSize]byte
	Native [NativeSize]byte
}

// Offsets of State's fields.
const (
	OffRegs      = int32(unsafe.Offsetof(State{}.Regs))
	OffLink      = OffRegs + 8*11 // return address register, on machines that have one
	OffExit      = int32(unsafe.Offsetof(State{}.Exit))
	OffResume    = int32(unsafe.Offsetof(State{}.Resume))
	OffSP        = int32(unsafe.Offsetof(State{}.SP))
	OffGoSP      = int32(unsafe.Offsetof(State{}.GoSP))
	OffGoBP      = int32(unsafe.Offsetof(State{}.GoBP))
	OffBudget    = int32(unsafe.Offsetof(State{}.Budget))
	OffData      = int32(unsafe.Offsetof(State{}.Data))
	OffDataEnd   = int32(unsafe.Offsetof(State{}.DataEnd))
	OffDataMeta  = int32(unsafe.Offsetof(State{}.DataMeta))
	OffCPU       = int32(unsafe.Offsetof(State{}.CPU))
	OffProgID    = int32(unsafe.Offsetof(State{}.ProgID))
	OffTailCalls = int32(unsafe.Offsetof(State{}.TailCalls))
	OffLoops     = int32(unsafe.Offsetof(State{}.Loops))
	OffCtxAddr   = int32(unsafe.Offsetof(State{}.CtxAddr))
	OffSpare     = int32(unsafe.Offsetof(State{}.Spare))
)

// Exit codes. The low byte of those below ExitHelper says which; what is above it
// depends on the code. From ExitHelper on the code asks for helper Exit-ExitHelper,
// from ExitKfunc on for a kernel function.
const (
	Done         = iota // the program has ended, R0 is its result
	ExitBudget          // the instruction budget is used up
	ExitTailCall        // a tail call that needs Go: R1 to R3 are its arguments
	ExitAbs             // packet load from offset Spare[0]; width in the second byte
	ExitReturned        // a function that Go called has returned
	ExitHelper   = 0x10000
	ExitKfunc    = 0x20000

	// InSubprogram is set in ExitTailCall and ExitAbs if it is not the entry function
	// that exits.
	InSubprogram = 0x80
	ExitMask     = 0x7f
)

// StackTop is the frame pointer of the first frame.
func (s *State) StackTop() uint64 {
	return uint64(uintptr(unsafe.Pointer(&s.Stack))) + uint64(len(s.Stack))
}

// NativeTop is the native stack pointer at the start of a run, 16-byte aligned.
func (s *State) NativeTop() uint64 {
	return (uint64(uintptr(unsafe.Pointer(&s.Native))) + uint64(len(s.Native))) &^ 15
}
