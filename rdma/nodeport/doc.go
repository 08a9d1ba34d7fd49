// Package nodeport is an rdma.Port over a node: one of its interfaces, hooked
// into at Input, where packets for UDP port 4791 of the interface's addresses
// are stolen. What a device sends goes through the node like any packet of its
// own, below the sockets: Output, routing, Postrouting, Egress. So a netfilter or
// tc program can drop, mark or redirect RoCE like everything else.
//
//	port, err := nodeport.New(nodeport.Config{Host: node, Interface: index})
//	dev, err := rdma.OpenDevice(port, rdma.Options{})
//
// There may be a device on each interface of a node. Packets for other devices'
// addresses, and for addresses that have none, pass on to the sockets.
package nodeport
