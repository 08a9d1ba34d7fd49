// Package lab makes the rooms and wires of a lab file real, keeps them so, and
// takes them down.
//
//	file, err := spec.ParseFile("two-rooms.yaml")
//	l, err := lab.New(lab.Options{})
//	err = l.Apply(ctx, file, nil)     // up, or change to what the file says now
//	...
//	err = l.Close()
//
// The parts: package spec reads the file, package plan says what has to exist
// and in which steps to get there, and this package is the plan's Driver on
// network namespaces (taproom/tap/netns), TAP devices (taproom/tap), nodes
// (taproom/stack) and wires (taproom/stack/wire). Subsystems with a section of
// their own in the file register it with RegisterSection.
//
// # Links
//
// Two routers are joined by a wire.Wire's two ends. A namespace's end is a TAP
// behind a wire.Shim, so that a link has its impairments, its books and its
// captures whatever it joins, and costs next to nothing while it has none.
//
// # Lifetime
//
// Everything a Lab makes goes with Close, and with the process however that
// ends: namespaces are anonymous, TAPs are not persistent, programs are killed
// with the thread or agent that started them. main and TestMain of programs
// that use this package must call netns.Init first.
//
// All methods of a Lab may be called from any goroutine. Changes come one at
// a time.
package lab
