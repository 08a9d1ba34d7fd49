package ioam

import "taproom/stack/packet"

// StripForTest strips outside a node.
func StripForTest(p *packet.Packet) bool { return new(Node).strip(p) }
