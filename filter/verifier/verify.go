package verifier

import (
	"fmt"
	"io"

	"taproom/filter/ebpf"
)

// Limits of the kernel (include/linux/bpf_verifier.h and bpf.h).
const (
	MaxProcessed = 1_000_000 // instructions visited over all paths
	maxJumps     = 8192
	maxVarOff    = 1 << 29 // greatest distance of a pointer from its object
	maxPacketOff = 0xffff
	maxFrames    = ebpf.MaxCallFrames
	stackSize    = ebpf.StackSize
)

// Options tune a verification. The zero value is right for loading.
type Options struct {
	// LogLevel 1 writes every instruction visited with the registers it changed
	// to Log, 2 the whole state before each one.
	LogLevel int
	Log      io.Writer
	// Strict wants every access aligned, as machines without unaligned loads do
	// (BPF_F_STRICT_ALIGNMENT).
	Strict bool
	// Budget replaces MaxProcessed if it is not 0.
	Budget int
}

// Result is what was learned of a program that passed.
type Result struct {
	Processed   int // instructions visited
	TotalStates int // states saved
	PeakStates  int // most states alive at once
	MaxPath     int // most instructions between entry and exit on one path

	// Insns has one entry for each instruction slot.
	Insns []Fact
	// Subprogs are the functions, in order of Start.
	Subprogs []Subprog
	// MaxPacketOff is the greatest offset of a direct packet access; the host
	// may have to make that many bytes linear.
	MaxPacketOff uint32
	// WritesPacket is set if any instruction or call may change packet bytes or
	// move the packet.
	WritesPacket bool
	// TailCalls is set if the program may jump to another one.
	TailCalls bool
}

// Subprog is one function of a program.
type Subprog struct {
	Start, End int // slots, End exclusive
	StackDepth int // bytes used below R10
	Callback   bool
	Global     bool // verified on its own
}

// Region is the kind of memory an instruction accesses.
type Region uint8

// Regions. RegionMixed is an access that met different kinds on different paths.
const (
	RegionNone Region = iota
	RegionCtx
	RegionPacket
	RegionStack
	RegionMapValue
	RegionMapKey
	RegionMem    // ring buffer record, dynptr slice, memory given to a global function
	RegionSock   // struct bpf_sock or bpf_tcp_sock
	RegionKernel // a structure of helper.Structs; a NULL base reads as 0
	RegionMap    // struct bpf_map, through a map pointer
	RegionMixed
)

// Fact is what every visit of one instruction agreed on.
type Fact struct {
	// Visited is false for instructions that no path reaches: they were not
	// checked and must not be run.
	Visited bool
	// Region is set for loads, stores and atomics.
	Region Region
	// Struct names the structure of RegionSock and RegionKernel accesses.
	Struct string
	// MapIndex is the index in Program.Maps of the map of a RegionMapValue
	// access or of a helper's map argument; -1 if it is not always the same one,
	// or an inner map.
	MapIndex int32
	// Key is the constant key of a map_lookup_elem on an array, if ConstKey.
	// The call then always returns element Key, never NULL.
	ConstKey bool
	Key      uint32
	keySeen  bool
	// Branch is set for conditional jumps that went one way only.
	Branch Branch
	// Callee is the slot of the subprogram that a callback helper calls, -1 if
	// none or several.
	Callee int32
}

// Branch tells which ways of a conditional jump were followed, as a bit set.
type Branch uint8

// Ways of a conditional jump.
const (
	FallsThrough Branch = 1 << iota
	Jumps
)

// Verify checks p and reports what it learned. A program that breaks a rule
// gives an *Error; nothing else is returned as one.
func Verify(p *ebpf.Program, o Options) (*Result, error) {
	v, err := newVerifier(p, o)
	if err != nil {
		return nil, err
	}
	return v.run()
}

func (v *verifier) run() (*Result, error) {
	for _, step := range []func() error{
		v.checkEncoding, v.findSubprogs, v.checkFlow, v.liveRegs, v.checkPaths, v.checkStackDepth,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if v.logging(1) {
		v.printf("processed %d insns (limit %d) total_states %d peak_states %d\n",
			v.processed, v.budget, v.totalStates, v.peakStates)
	}
	return v.result(), nil
}

func (v *verifier) printf(format string, a ...any) { fmt.Fprintf(v.opt.Log, format, a...) }

func (v *verifier) logging(level int) bool { return v.opt.Log != nil && v.opt.LogLevel >= level }
