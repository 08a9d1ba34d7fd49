// Package taptest has devices in memory for tests: a Pipe, whose two ends are
// the two sides of one interface, and a Recorder, which keeps what a device
// delivers.
//
// What is written to one end of a Pipe arrives at the other within the call,
// on the same goroutine; what is written meanwhile, by the Receiver for
// example, is delivered by the same call after that, in the order in which it
// was written. So a test with one goroutine is deterministic, and two nodes
// that answer each other do not recurse.
package taptest
