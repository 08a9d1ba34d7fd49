// Package jit turns decoded BPF programs into machine code and runs it, in pure
// Go: instructions are emitted into a byte slice, copied to a mapping that is
// writable until it is executable and never both, and entered through a few lines
// of assembly that switch to a stack of our own.
//
// Native code never calls Go. What it cannot do itself (most helpers) it asks for:
// it leaves an exit code and a resume address in the State and returns; the loop in
// package vm does the work and enters again. Entering goes through an ordinary Go
// function, so that every exit is a point where the collector may stop the world;
// the instruction budget, counted down on backward jumps, bounds the time between
// two of them.
//
// Native code trusts the verifier: it does no bounds checks. Nothing but verified
// programs may be compiled, which package vm sees to.
//
// The compilers are in amd64 and arm64; both pass every test that the interpreter
// passes, with the same answers.
package jit
