package stack

import (
	"encoding/binary"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// fragment cuts a packet that is larger than the MTU, or says why it cannot.
// IPv4 is cut wherever the packet allows it, IPv6 only by its sender. It
// takes the packet over.
func (n *Node) fragment(p *packet.Packet, f hook.Family, hp *hop, mtu int) error {
	if !tooBig(p, f, mtu) {
		hp.ifc.toNextHop(p, f, hp.nextHop(p.Head(), f))
		return nil
	}
	if !mayFragment(p, f) {
		i := n.byIndex(p.In)
		if i == nil {
			i = n.lo
		}
		n.packetTooBig(i, p, f, mtu)
		hp.ifc.dropOut(p, packet.TooBig)
		return ErrTooBig
	}
	if p.FragMax != 0 {
		mtu = min(mtu, int(p.FragMax))
	}
	// A sum over the whole cannot be finished by a device that sees parts.
	p.CompleteChecksum()
	if f == hook.IPv4 {
		return n.fragment4(p, hp, mtu)
	}
	return n.fragment6(p, hp, mtu)
}

// fragment4 is RFC 791 section 3.2. Options that are not copied (RFC 791
// 3.1) become no-operations behind the first fragment.
func (n *Node) fragment4(p *packet.Packet, hp *hop, mtu int) error {
	h := p.Head()
	ihl := int(h[0]&15) * 4
	room := (mtu - ihl) &^ 7
	if room < 8 {
		hp.ifc.dropOut(p, packet.TooBig)
		return ErrTooBig
	}
	total := p.Len() - ihl
	word := binary.BigEndian.Uint16(h[6:]) &^ 0x4000
	first, more := int(word&0x1fff), word&0x2000
	if p.Local && binary.BigEndian.Uint16(h[4:]) == 0 {
		binary.BigEndian.PutUint16(h[4:], n.nextID())
	}
	for at := 0; at < total; at += room {
		size := min(room, total-at)
		q := packet.Alloc(ihl + size)
		q.Meta = p.Meta
		q.SetL3(0)
		q.SetL4(ihl)
		b := q.Head()
		copy(b, h[:ihl])
		p.CopyTo(b[ihl:], ihl+at)
		flags := word & 0x8000
		if at+size < total {
			flags |= 0x2000
		} else {
			flags |= more
		}
		binary.BigEndian.PutUint16(b[2:], uint16(ihl+size))
		binary.BigEndian.PutUint16(b[6:], flags|uint16(first+at/8))
		if at > 0 {
			hideUncopied(b[20:ihl])
		}
		setIPv4Checksum(b)
		n.counters.fragCreated.Add(1)
		hp.ifc.toNextHop(q, hook.IPv4, hp.nextHop(b, hook.IPv4))
	}
	p.Release()
	return nil
}

// hideUncopied overwrites options without the copied flag.
func hideUncopied(o []byte) {
	for len(o) > 0 {
		switch {
		case o[0] == 0:
			return
		case o[0] == 1:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return
		}
		size := int(o[1])
		if o[0]&0x80 == 0 {
			for k := range o[:size] {
				o[k] = 1
			}
		}
		o = o[size:]
	}
}

// fragment6 is RFC 8200 section 4.5: what every node on the way reads stays
// in front of the fragment header, in each fragment.
func (n *Node) fragment6(p *packet.Packet, hp *hop, mtu int) error {
	h := p.Head()
	at, nextAt := unfragmentable(h)
	room := (mtu - at - 8) &^ 7
	if room < 8 || at > len(h) {
		hp.ifc.dropOut(p, packet.TooBig)
		return ErrTooBig
	}
	next := h[nextAt]
	id := uint32(n.nextID()) | uint32(n.nextID())<<16
	total := p.Len() - at
	for off := 0; off < total; off += room {
		size := min(room, total-off)
		q := packet.Alloc(at + 8 + size)
		q.Meta = p.Meta
		q.SetL3(0)
		q.SetL4(at + 8)
		b := q.Head()
		copy(b, h[:at])
		b[nextAt] = packet.ProtoFragment
		binary.BigEndian.PutUint16(b[4:], uint16(at+8+size-40))
		b[at], b[at+1] = next, 0
		word := uint16(off)
		if off+size < total {
			word |= 1
		}
		binary.BigEndian.PutUint16(b[at+2:], word)
		binary.BigEndian.PutUint32(b[at+4:], id)
		p.CopyTo(b[at+8:], at+off)
		n.counters.fragCreated.Add(1)
		hp.ifc.toNextHop(q, hook.IPv6, hp.nextHop(b, hook.IPv6))
	}
	p.Release()
	return nil
}

// unfragmentable is the length of the part that is repeated in every
// fragment, and where its last next-header field is: hop-by-hop options, and
// destination options in front of a routing header.
func unfragmentable(h []byte) (end, nextAt int) {
	end, nextAt = 40, 6
	at, na := 40, 6
	for len(h) >= at+8 {
		size := (int(h[at+1]) + 1) * 8
		switch h[na] {
		case packet.ProtoHopByHop, packet.ProtoRouting:
			at, na = at+size, at
			end, nextAt = at, na
		case packet.ProtoDestOpts:
			at, na = at+size, at // counts only if a routing header follows
		default:
			return end, nextAt
		}
	}
	return end, nextAt
}
