// Package vm runs BPF programs in user space: an interpreter that holds every
// access against the memory that is the program's, a compiler for amd64 and arm64
// that trusts the verifier, and one set of helper functions for both.
//
// A [Prog] is made from an ebpf.Program by [New] and is immutable; it may run on any
// number of goroutines. A [Run] is the place where one program runs at a time: stack,
// registers, context, and a CPU slot for per-CPU maps. There is one Run for each CPU
// slot; Acquire takes one and Release gives it back, and whoever runs several programs
// on a packet, or many packets, keeps it meanwhile. Prog's own Run methods do both.
//
//	proof, err := verifier.Verify(prog, verifier.Options{})
//	p, err := vm.New(prog, vm.Options{Proof: proof})
//	r := vm.Acquire()
//	defer r.Release()
//	verdict, err := r.SKB(p, pkt, env)
//
// # What programs see
//
// Pointers are real addresses of the packet's linear part, of map elements, of the
// stack and of the context, which is laid out as in uapi linux/bpf.h; maps and
// functions are handles. A program that only does what the verifier allows gets the
// same answers interpreted and compiled, and the kernel's.
//
// # When it goes wrong
//
// An interpreted program that touches memory it must not, calls what does not exist or
// runs too long stops with a *Fault that names the instruction and the register. A
// program never brings the process down, whatever its bytes. Compiled programs check
// the instruction budget and what helpers are told by the maps, nothing else: New
// compiles only what comes with the verifier's proof.
package vm
