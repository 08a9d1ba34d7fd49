// Package relay carries the flows of a network behind a node's interface to
// sockets of the host: a container's way out without privilege.
//
// It is a handler at Prerouting that steals what is not for the node itself.
// TCP is ended by the node's netstack and spliced to a host socket that was
// connected first, so that a refusal is a refusal; each UDP flow and each
// series of echo requests has a connected socket of its own, through which
// errors come back as what they were: unreachable, too big, time exceeded.
// Nothing answers in the name of what does not exist.
//
// # Limits
//
// Flows are counted and bounded by kind (Limits). A new UDP or echo flow
// beyond its limit takes the place of the one idle longest; a TCP connection
// beyond it is refused with a reset. Idle UDP flows end after
// Limits.UDPTimeout, those that were answered once on port 53 at once after
// the answer.
//
// # Concurrency
//
// The engine, two goroutines, waits for all host sockets and does all copying;
// an idle flow costs no goroutine and no buffer. Packets from the container
// come on their reader's goroutine.
package relay
