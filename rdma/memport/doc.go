// Package memport has in-memory ports for RDMA devices: a pair of them, wired
// back to back, and a clock that stands still until it is advanced.
//
// Without impairments a packet is handed over at once, on the sender's
// goroutine: whatever the receiver answers has arrived when the post returns.
// With impairments, or a delay, packets wait in the clock, and a test decides how
// time goes; a seed makes it go the same way each time.
//
//	clock := memport.NewClock()
//	a, b := memport.NewPair(memport.Config{Clock: clock, Loss: 0.01, Seed: 7})
package memport
