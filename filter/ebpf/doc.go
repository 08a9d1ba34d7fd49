// Package ebpf holds BPF programs as data: it reads ELF objects and classic
// filters and turns them into flat instruction streams with the maps, kernel
// functions and debug information that they name.
//
// It does not check programs (package filter/verifier does) and does not run
// them (package filter/vm does). A [Program] is inert: nothing in it changes
// after it was built, so that any number of goroutines may read it. What it
// refers to is alive, though: Program.Maps are live maps, on each of which the
// program holds a reference until [Program.Close].
//
//	spec, err := ebpf.LoadSpec(file)             // pure: same file, same spec
//	coll, err := ebpf.NewCollection(spec, ebpf.Options{})
//	prog := coll.Programs["tuple_policy"]
package ebpf
