// Package wire is a cable inside the process: two devices, and what one sends
// the other receives, after whatever the cable does to it.
//
//	a, b, err := wire.New(wire.Config{Name: "core", AtoB: wire.Impairment{Delay: 10 * time.Millisecond}})
//	...
//	err = a.Impair(wire.Impairment{Delay: 10 * time.Millisecond, Loss: 0.01, Rate: 100e6})
//
// Both ends are tap.Device of the Ethernet kind. A wire has no queue discipline
// of the kernel in it and needs no privilege; it is also not a switch: two
// ends, no addresses, no learning.
//
// # The way of a frame
//
// The two directions know nothing of each other. In each, a frame is judged
// in this order:
//
//	carrier → MTU → loss, burst loss → duplication → corruption → queue and rate → delay, jitter, reordering
//
// so the sender is limited by the bottleneck in front of the delay, as on a
// real line: Queue counts what waits for its turn, not what is on its way.
// Jitter never reorders, because queueing does not; Reorder does.
//
// A direction with nothing set delivers on the caller's goroutine, within
// Write. A router that answers at once writes to the opposite direction, whose
// receiver may write to this one again: a direction that is already
// delivering therefore only queues, and the goroutine that delivers takes it
// from there (a trampoline). Recursion is as deep as there are directions on
// the way, however long a packet circles in a routing loop. That queue is
// bounded; what does not fit is dropped and counted as packet.Backpressure.
//
// A direction with delay, jitter or a rate keeps its frames in a heap by due
// time, and one alarm, set for the first of them, delivers whatever is due.
// Nothing sleeps. Super-frames pass whole unless a setting has to judge
// segments alone (loss, corruption, duplication, reordering, rate, MTU).
//
// # Time and chance
//
// Time comes from a Clock: System, or a Virtual one that tests advance. Chance
// comes from generators seeded by Config.Seed, one for each setting and
// direction, so that the same frames meet the same fate, and changing the
// jitter does not change which frames are lost.
//
// # Concurrency
//
// All methods may be called at any time from any goroutine, save that Close,
// which waits for the last call of a Receiver to return, must not be called
// from one. A Receiver is called by one goroutine at a time.
package wire
