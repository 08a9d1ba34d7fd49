// Package maps holds BPF maps: the typed stores that programs and Go share.
//
// A [Map] has two faces. The methods named after bpf(2)'s commands (Lookup,
// Update, Delete, NextKey, ...) are what a process does to a map: they copy,
// check access flags and fail with the errno that Linux gives; per-CPU values
// are concatenated as the system call returns them. The methods of the program
// side (Elem, Set, Unset, ...) are what helpers do: they hand out live memory,
// allocate nothing and return a bare errno.
//
// # Memory
//
// Elements live in mappings outside the Go heap whose addresses never change, so
// that compiled programs can use them ([Map.Layout] says how). Three rules make
// this safe:
//
//   - An element's slot is only ever reused for an element of the same map. A
//     program that keeps a pointer to an element which was deleted meanwhile
//     reads or writes, at worst, another element's value, as in Linux with
//     preallocated maps. Free slots are reused oldest first to make that rare.
//   - The mapping is returned to the system when the Map has become unreachable
//     for the garbage collector, never earlier, not even on the last Close. A
//     runner that holds an address therefore only has to hold the *Map.
//   - Sizes and offsets never change after New.
//
// Memory is charged to a [Budget] at creation, or as it grows for maps that are
// not preallocated, and credited when the mapping goes.
//
// # Concurrency
//
// All methods may be called at any time from any goroutine, while programs run.
// Lookups take no lock. Values are not guarded: two writers of one value race as
// two programs on two CPUs do, and a copy of a value that is being written may be
// mixed; BPF_F_LOCK helps for maps with a spin lock.
//
// "CPU" is a slot number below [NumCPU] that the runner of programs hands out; at
// most one program may use a slot at a time.
package maps
