// Package filter puts BPF programs on a node's packet path: what cls_bpf, tcx
// and netfilter BPF links do on Linux.
//
// A Filters belongs to one node (a hook.Host). Each interface has two points
// of tc, ingress and egress; at each run first the tcx programs and then, if a
// clsact qdisc is there, the classifier chains; at egress a queueing
// discipline with classes may follow. The five netfilter points have links,
// ordered by priority.
//
//	f := filter.New(node, filter.Options{})
//	defer f.Close()
//	dev, _ := f.Device(ifindex)
//	_ = dev.AddClsact()
//	_, err = dev.AddFilter(filter.Ingress, filter.Config{Priority: 10, DirectAction: true, Program: prog})
//
// # Verdicts
//
// What a program's return value means is written once: in verdict.go.
//
// # Concurrency and atomicity
//
// Methods may be called from any goroutine. What packets run through is a
// snapshot: a packet sees a chain as it was before a change or after it, never
// in between, and no packet waits.
//
// # Lifetime
//
// Filters hold a reference on their programs as long as they are attached. An
// interface that goes takes its filters and tcx links along. Close detaches
// everything.
//
// Errors that Linux gives by errno, with or without a text, are *Error; their
// words are those that tc prints.
package filter
