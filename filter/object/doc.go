// Package object keeps the objects of a process: programs, maps and links, with
// ids, names, tags, times and counts of use, as bpf(2) keeps the kernel's, and pins
// them into directories from where another process can take them again.
//
// A [Registry] lists what is alive. A [Dir] is a place for pins:
//
//	d, err := object.OpenDir("/run/user/1000/taproom/bpf", reg, object.DirOptions{Load: load})
//	err = d.PinMap("counters", m)     // now in the directory
//	err = d.Sync()                    // contents as they are now
//	...
//	o, err := d.Open("counters")      // in this process or a later one
//
// # Lifetime
//
// A program is listed as long as somebody holds it: a [Program] that was not
// closed, a pin, or a program array. A map likewise, by its own count; a program
// array is emptied when the last holder other than a program lets go, and a pin is
// such a holder.
//
// # Concurrency
//
// All methods may be called at any time. A directory may be opened by several
// processes: changes of its files are serialised by a lock, but each process has
// its own live copy of a map, and the last one to call Sync wins.
package object
