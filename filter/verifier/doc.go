// Package verifier proves, before a BPF program runs, that no run of it can
// touch memory it must not touch, loop for ever, or leak a resource.
//
// It applies the rules that Linux 6.18 applies to a privileged loader, for
// classifiers and actions, socket filters, netfilter hooks and XDP. It walks
// every path through the program with abstract registers (types, known bits,
// bounds), and cuts a path short when it comes to a point in a state that an
// earlier path has shown to be safe.
//
//	res, err := verifier.Verify(prog, verifier.Options{})
//	var e *verifier.Error
//	if errors.As(err, &e) {
//		fmt.Printf("%v\n", e)  // insn 7: R2 offset is outside of the packet
//		fmt.Printf("%+v\n", e) // with instruction, registers and source line
//	}
//
// What keeps the walk short, and how it differs from the kernel in means:
//
//   - Which registers an instruction can still need is computed once (live.go).
//   - Which stack slots, and which numbers, mattered to the rest of a path is
//     found while walking, by two graphs (track.go): every copy of a saved state
//     holds nodes, a value points at the nodes it was made from, and a read or a
//     check marks the nodes it reaches. Only marked parts of an old state must
//     fit a new one. Linux walks its instruction history backwards instead.
//   - A state whose own paths are unfinished is never used to prune, except in
//     loops that are bounded at run time (callbacks, iterators, may_goto); then
//     all of it must fit, and the two graphs are tied into a loop there.
//
// A Program and its maps are only read. Verify is deterministic, keeps no global
// state and may run in many goroutines at once.
package verifier
