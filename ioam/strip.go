package ioam

import (
	"encoding/binary"

	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// strip takes the IOAM options out of a packet that begins with a hop-by-hop
// header, and out of a destination options header right behind it. A header
// with nothing else in it goes altogether: what a tunnel put in inline is
// undone to the octet. It reports whether there was anything.
func (n *Node) strip(p *hook.Packet) bool {
	found := stripHeader(p, 40, 6)
	b := p.Head()
	// The headers before a destination options header that an IOAM node wrote
	// are the IPv6 header and perhaps what is left of the hop-by-hop header.
	switch {
	case b[6] == packet.ProtoDestOpts:
		found = stripHeader(p, 40, 6) || found
	case b[6] == packet.ProtoHopByHop && b[40] == packet.ProtoDestOpts:
		found = stripHeader(p, 40+(int(b[41])+1)*8, 40) || found
	}
	if found {
		n.counters.add(Stripped)
	}
	return found
}

// stripHeader takes the IOAM options out of the options header at offset at,
// whose type is at offset link.
func stripHeader(p *hook.Packet, at, link int) bool {
	if !p.Pull(at + 8) {
		return false
	}
	old := (int(p.Head()[at+1]) + 1) * 8
	if !p.Pull(at + old) {
		return false
	}
	b := p.Head()
	h := option.Header(b[at : at+old])
	if !h.HasIOAM() {
		return false
	}
	var left [option.MaxHeader]byte
	n := h.WithoutIOAM(left[:old])
	if n == 0 {
		b[link] = h.Next()
	}
	gone := old - n
	copy(b[at+gone:at+old], left[:n])
	copy(b[gone:at+gone], b[:at])
	b = p.Trim(gone)
	if length := binary.BigEndian.Uint16(b[4:]); length != 0 {
		binary.BigEndian.PutUint16(b[4:], length-uint16(gone))
	}
	p.SetL3(0)
	p.ClearMAC()
	return true
}

// enter applies the domain's edge to a packet from outside: what it carries
// is not ours, and must neither be filled nor taken for a recording of ours
// (RFC 9486 section 4). done says that the verdict is the last word.
func (n *Node) enter(p *hook.Packet, e Edge) (v hook.Verdict, done bool) {
	if !option.Header(p.Head()[40:]).HasIOAM() {
		return hook.Continue, false
	}
	if e == EdgeDrop {
		n.counters.add(DropEdge)
		p.Reason = packet.ByHandler
		return hook.Drop, true
	}
	n.strip(p)
	return hook.Continue, p.Head()[6] != packet.ProtoHopByHop
}

// leave applies the domain's edge to a packet on its way out: no option of
// the domain leaks.
func (n *Node) leave(p *hook.Packet) hook.Verdict {
	b := p.Head()
	if b[6] != packet.ProtoHopByHop {
		return hook.Continue
	}
	if !p.Pull(48) || !p.Pull(40+(int(p.Head()[41])+1)*8) {
		p.Reason = packet.BadHeader
		return hook.Drop
	}
	n.strip(p)
	return hook.Continue
}
