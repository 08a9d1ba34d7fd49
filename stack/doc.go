// Package stack is a node: a router and host in user space, with any number
// of interfaces, on top of gVisor's netstack.
//
// # Who does what
//
// Forwarding is taproom's own: frames come from a device in pooled packets,
// pass the hook points, are looked up in a longest-prefix-match table, and go
// out of another device in the same memory. ARP, neighbour discovery, ICMP
// errors about forwarded packets, reassembly and fragmentation belong to it.
// Netstack terminates what is for the node itself: TCP, UDP, echo, multicast
// membership, and the sockets on top of them. A packet's way:
//
//	device -> Ingress -> [ARP] -> Prerouting -> route -+-> Forward -> Postrouting -> neighbour -> Egress -> device
//	                                                   |
//	                                                   +-> (reassembly) -> Input -> netstack
//	netstack, Host.Send -> route -> Output -> Postrouting -> (fragments) -> neighbour -> Egress -> device
//
// The files follow that picture: input.go, forward.go, deliver.go, output.go,
// transmit.go.
//
// # Concurrency
//
// A Node's methods may be called from any goroutine. Packets run to
// completion on the goroutine that brought them; what they need to know is in
// immutable snapshots (routes, neighbours, handlers), so that none waits for
// another or for a change of configuration.
//
// # Ownership
//
// Close releases everything a node holds and closes its devices.
package stack
