// Package code holds the form of a BPF program that the interpreter runs and the
// compilers read: one fixed-size record per instruction, every reference
// resolved, every jump an index.
//
// Decode turns the wire form (filter/ebpf) into it. It checks the form of the
// instructions (RFC 9669), not what they do: jumps land on instructions, registers
// exist, opcodes are known, the last instruction of a function does not run off
// its end. Whether a load is in bounds is the business of the verifier and, in the
// interpreter, of the check on each access.
package code
