package cbpf

import (
	"encoding/binary"
	"math/rand/v2"

	"taproom/stack/packet"
)

// Meta is what a filter can ask about a packet beside its bytes. A nil Meta is a
// plain Ethernet frame: the network header follows 14 bytes, the protocol is the
// frame's.
type Meta struct {
	// Rest is the packet that the data given to Run is the linear start of; nil
	// means that the data is all.
	Rest *packet.Packet

	// NetHeader and MACHeader are the offsets in the data of the network header
	// and the link-layer header.
	NetHeader int
	MACHeader int

	Protocol uint16 // EtherType, host order
	PktType  uint8
	Ifindex  uint32
	HWType   uint16 // ARPHRD_*; 1 is Ethernet
	Mark     uint32
	Queue    uint16
	Hash     uint32
	CPU      uint32
	VLAN     bool // a tag was taken off the frame
	VLANTag  uint16
	VLANTPID uint16 // host order
	Rand     func() uint32
}

// MetaOf describes a packet of a node, for runs over its Head.
func MetaOf(p *packet.Packet) Meta {
	m := Meta{
		Protocol: p.Proto, PktType: uint8(p.Type), Ifindex: uint32(p.Out), HWType: 1, Mark: p.Mark,
		Queue: p.Queue, Hash: p.Hash, VLAN: p.VLAN.Present, VLANTag: p.VLAN.TCI, VLANTPID: p.VLAN.Proto,
	}
	if p.Out == 0 {
		m.Ifindex = uint32(p.In)
	}
	if len(p.Frags()) > 0 {
		m.Rest = p
	}
	m.NetHeader, m.MACHeader = absent, absent
	if off, ok := p.L3(); ok {
		m.NetHeader = off
	}
	if off, ok := p.MAC(); ok {
		m.MACHeader = off
	}
	return m
}

// absent as a header's offset makes every load relative to it fail.
const absent = -1 << 40

func (m *Meta) linear() bool { return m.Rest == nil }

// ethernet is the Meta of a bare frame.
func ethernet(data []byte) Meta {
	m := Meta{NetHeader: 14, HWType: 1}
	if len(data) >= 14 {
		m.Protocol = binary.BigEndian.Uint16(data[12:])
	}
	return m
}

// ask returns a piece of ancillary data. a and x are the registers.
func (m *Meta) ask(what uint32, data []byte, a, x uint32) uint32 {
	if m == nil {
		e := ethernet(data)
		m = &e
	}
	switch what {
	case ADProtocol:
		return uint32(m.Protocol)
	case ADPktType:
		return uint32(m.PktType)
	case ADIfindex:
		return m.Ifindex
	case ADNlattr:
		return m.nlattr(data, a, x)
	case ADNlattrNest:
		return m.nlattrNest(data, a, x)
	case ADMark:
		return m.Mark
	case ADQueue:
		return uint32(m.Queue)
	case ADHatype:
		return uint32(m.HWType)
	case ADRXHash:
		return m.Hash
	case ADCPU:
		return m.CPU
	case ADAluXorX:
		return a ^ x
	case ADVLANTag:
		return uint32(m.VLANTag)
	case ADVLANTagPresent:
		if m.VLAN {
			return 1
		}
		return 0
	case ADPayOffset:
		return payload(data, m.NetHeader, m.Protocol)
	case ADRandom:
		if m.Rand != nil {
			return m.Rand()
		}
		return rand.Uint32()
	case ADVLANTPID:
		return uint32(m.VLANTPID)
	}
	return 0
}

const nlaHeader = 4 // struct nlattr

// nlattr finds the attribute of type x among those from offset a to the end of
// the data; 0 if there is none. A packet with more than linear bytes has none.
func (m *Meta) nlattr(data []byte, a, x uint32) uint32 {
	if !m.linear() || len(data) < nlaHeader || a > uint32(len(data)-nlaHeader) {
		return 0
	}
	return findAttr(data, a, uint32(len(data)), x)
}

// nlattrNest is nlattr among the attributes inside the one at offset a.
func (m *Meta) nlattrNest(data []byte, a, x uint32) uint32 {
	if !m.linear() || len(data) < nlaHeader || a > uint32(len(data)-nlaHeader) {
		return 0
	}
	n := uint32(binary.NativeEndian.Uint16(data[a:]))
	if n > uint32(len(data))-a || n < nlaHeader {
		return 0
	}
	return findAttr(data, a+nlaHeader, a+n, x)
}

func findAttr(data []byte, at, end, typ uint32) uint32 {
	const typeMask = 0x3fff // without the nested and byte-order flags
	for at+nlaHeader <= end {
		n := uint32(binary.NativeEndian.Uint16(data[at:]))
		if n < nlaHeader || at+n > end {
			return 0
		}
		if uint32(binary.NativeEndian.Uint16(data[at+2:]))&typeMask == typ {
			return at
		}
		at += (n + 3) &^ 3
	}
	return 0
}
