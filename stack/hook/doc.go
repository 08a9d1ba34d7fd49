// Package hook is the seam of taproom: everything that looks at a packet is a
// Handler at a Point, and is held there by a Link. There is no second
// mechanism.
//
// # Points
//
// A packet that is forwarded meets Ingress, Prerouting, Forward, Postrouting
// and Egress; one for the node itself Ingress, Prerouting and Input; one that
// the node sends Output, Postrouting and Egress. Ingress and Egress belong to
// an interface and see whole frames, as tc does. The other five belong to the
// node and see network packets, as netfilter does: ordered by priority, for
// IPv4, IPv6 or both.
//
// # Concurrency
//
// A table's chains are immutable snapshots behind atomic pointers: running
// one takes no lock, and a change is seen by a packet entirely or not at all.
// Handlers run on the goroutine that brought the packet, several at once on
// several interfaces and queues, and must not wait.
//
// After Link.Close has returned no packet that arrives later meets the
// handler; one that is already under way may still do.
//
//	link, err := node.Attach(hook.Forward, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
//		return hook.Drop
//	}), hook.Options{Name: "nothing-passes", Family: hook.IPv6})
package hook
