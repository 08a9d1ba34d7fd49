package ioam

import (
	"encoding/binary"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// ECN codepoints in the two low bits of the traffic class (RFC 3168).
const (
	ecnMask   = 3
	ecnNotECT = 0
	ecnCE     = 3
)

// decapsulate takes off the outer headers, up to at, of a packet for this
// node. What was inside goes on as if it had come in bare: its own options
// are looked at as well, on an interface (the tunnel) without IOAM.
func (a *arrival) decapsulate(at int) hook.Verdict {
	p := a.p
	total := p.Len() - at
	if total < 40 || !p.Pull(at+40) {
		p.Reason = packet.TooShort
		return hook.Drop
	}
	if a.s.extras.EdgeToEdge {
		a.edgeToEdge()
	}
	outer := trafficClass(p.Head())
	b := p.Trim(at)
	length := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if b[0]>>4 != 6 || length > total {
		p.Reason = packet.BadHeader
		return hook.Drop
	}
	if length > 40 && p.GSO.Type == packet.GSONone {
		p.Truncate(length)
	}
	// Congestion met by the outer header is the inner one's (RFC 6040 section
	// 4.2). One who cannot be told loses the packet, as without a tunnel.
	if outer&ecnMask == ecnCE {
		if trafficClass(b)&ecnMask == ecnNotECT {
			p.Reason = packet.ByHandler
			return hook.Drop
		}
		b[1] |= ecnCE << 4
	}
	p.SetL3(0)
	p.ClearL4()
	if t, ok := packet.ParseTransport(b); ok {
		p.SetL4(t.Offset)
	}
	p.ClearMAC()
	a.n.counters.add(Decapsulated)
	if b[6] != packet.ProtoHopByHop {
		return hook.Continue
	}
	return a.n.receive(a.s, p, &noInterface, false)
}

func trafficClass(b []byte) byte { return b[0]<<4 | b[1]>>4 }
