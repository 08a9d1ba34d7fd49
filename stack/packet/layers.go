package packet

import "encoding/binary"

// EtherTypes that taproom knows.
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherVLAN = 0x8100
	EtherIPv6 = 0x86dd
	EtherQinQ = 0x88a8
)

// EthernetLen is the length of an Ethernet header without tags.
const EthernetLen = 14

// IP protocol numbers (IANA) that decide how a packet is parsed.
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoIGMP     = 2
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNone     = 59
	ProtoDestOpts = 60
)

// ParseLink reads the Ethernet header at the start of Head: it sets Proto, the
// MAC and, for a frame without tags, the network offset. A tag in the bytes
// stays there, Proto is then the tag's. It reports whether the header is whole.
func (p *Packet) ParseLink() bool {
	h := p.Head()
	if len(h) < EthernetLen {
		return false
	}
	p.SetMAC(0)
	p.SetL3(EthernetLen)
	p.Proto = binary.BigEndian.Uint16(h[12:])
	return true
}

// Transport says where ParseTransport found the transport header.
type Transport struct {
	Proto    uint8 // of the last header reached
	Offset   int   // of that header, from the start of the network header
	Fragment bool  // the packet is a fragment (first ones included)
	First    bool  // it is the fragment with offset 0, or no fragment
}

// ParseTransport walks the network header at the start of b, an IPv4 or IPv6
// packet (IPv6 extension headers included), without looking beyond b. It
// reports false for anything malformed or cut short before the transport
// header; ESP and unknown protocols end the walk.
func ParseTransport(b []byte) (Transport, bool) {
	if len(b) == 0 {
		return Transport{}, false
	}
	switch b[0] >> 4 {
	case 4:
		if len(b) < 20 {
			return Transport{}, false
		}
		n := int(b[0]&15) * 4
		if n < 20 || n > len(b) {
			return Transport{}, false
		}
		fo := binary.BigEndian.Uint16(b[6:])
		return Transport{Proto: b[9], Offset: n, Fragment: fo&0x3fff != 0, First: fo&0x1fff == 0}, true
	case 6:
		return parseTransport6(b)
	}
	return Transport{}, false
}

func parseTransport6(b []byte) (Transport, bool) {
	if len(b) < 40 {
		return Transport{}, false
	}
	t := Transport{Proto: b[6], Offset: 40, First: true}
	for {
		switch t.Proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts, ProtoAH:
			if len(b) < t.Offset+8 {
				return t, false
			}
			n := (int(b[t.Offset+1]) + 1) * 8
			if t.Proto == ProtoAH {
				n = (int(b[t.Offset+1]) + 2) * 4
			}
			if len(b) < t.Offset+n {
				return t, false
			}
			t.Proto, t.Offset = b[t.Offset], t.Offset+n
		case ProtoFragment:
			if len(b) < t.Offset+8 {
				return t, false
			}
			fo := binary.BigEndian.Uint16(b[t.Offset+2:])
			t.Fragment, t.First = true, fo&0xfff8 == 0
			next := b[t.Offset]
			t.Proto, t.Offset = next, t.Offset+8
			if !t.First {
				return t, true
			}
		default:
			return t, true
		}
	}
}
