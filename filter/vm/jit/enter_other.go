//go:build !amd64 && !arm64

package jit

// Supported says that this machine runs what the compilers emit.
const Supported = false

// Enter is never called here.
func Enter(*State) uint64 { return Done }
