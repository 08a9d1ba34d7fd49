package jit

// flushInstructions makes stores to mem visible to instruction fetch. In assembly.
//
//go:noescape
func flushInstructions(mem []byte)
