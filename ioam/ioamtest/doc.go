// Package ioamtest has a host for tests of package ioam: a small IPv6 router
// in memory that does with a packet what Linux does, check by check and
// counter by counter, and runs the same hooks as a taproom node. It has no
// goroutines and no clock of its own: frames go in by a call and come out of
// a callback before the call returns.
package ioamtest
