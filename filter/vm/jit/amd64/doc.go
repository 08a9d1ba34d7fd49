// Package amd64 compiles decoded BPF programs to x86-64 machine code.
//
// R0 to R10 live in rax, rdi, rsi, rdx, rcx, r8, rbx, r13, r14, r15 and rbp; r12 holds
// the jit.State, r9 the instruction budget; r10 and r11 are scratch. rsp is a native
// stack of our own that only has return addresses and saved registers on it.
//
// The entry function is jumped to and leaves to Go; subprograms are called and return.
// A caller saves what it uses of R6 to R9 around the call, so that functions begin and
// end with nothing, and a tail call is a jump.
//
// Lookups in arrays are done in place, those in hash maps and tries by a routine per
// map at the end of the code; package maps says how the memory is laid out. All other
// helpers go through an exit: arguments, callee-saved registers and the resume address
// are put into the State, and control returns to Go.
package amd64
