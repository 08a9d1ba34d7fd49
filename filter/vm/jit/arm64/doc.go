// Package arm64 compiles decoded BPF programs to A64 machine code.
//
// R0 lives in x7, R1 to R5 in x0 to x4, R6 to R9 in x19 to x22 and R10 in x23. x26 holds
// the jit.State, x25 the instruction budget, x24 a native stack of our own; the machine's
// own stack pointer, x18, x28 (Go's g) and x29 are never touched. x9 to x17 are scratch.
//
// Everything else is as in package amd64: the entry function is jumped to, subprograms
// are called; a caller saves what it uses of R6 to R9 and its own return address.
package arm64
