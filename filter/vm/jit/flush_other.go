//go:build !arm64

package jit

// flushInstructions does nothing: instruction fetch sees stores here.
func flushInstructions([]byte) {}
