package jit

import (
	"errors"

	"taproom/filter/maps"
	"taproom/filter/vm/code"
)

// ErrTooLarge is returned for a program whose code would not fit the distances that the
// machine's jumps span.
var ErrTooLarge = errors.New("jit: program is too large to compile")

// Source is what a compiler is given.
type Source struct {
	Code  *code.Code
	Facts []code.Facts
	Ctx   Ctx
	Maps  []*maps.Map
	// Keys has the key of each map_lookup_elem on an array whose key is always the
	// same and in range, by instruction.
	Keys map[int]uint32
}

// Output is what it returns: position-independent machine code.
type Output struct {
	Bytes []byte
	Entry int // offset of the program's first instruction
	// Returned is the offset of the code that a function called by Go returns to: it
	// exits with ExitReturned. Unwind is where to resume to return from a subprogram
	// to its native caller.
	Returned, Unwind int
	Funcs            []int // offset of each function of Source.Code.Funcs
	Insns            []int // offset of each instruction, for listings
}
