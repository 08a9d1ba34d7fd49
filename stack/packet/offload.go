package packet

import (
	"encoding/binary"
	"errors"
)

// ErrNotSegmentable is what Segmenter and PrepareGSO return for a packet whose
// bytes contradict its GSO metadata: another protocol, a fragment, headers
// that are cut short.
var ErrNotSegmentable = errors.New("packet: headers do not match the GSO type")

// headers says where the headers of a TCP or UDP packet are, as offsets from
// the start of Head.
type headers struct {
	l3, l4  int
	payload int
	proto   uint8
	v6      bool
}

const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
	tcpURG
	tcpECE
	tcpCWR
)

// networkOffset finds the network header: behind the Ethernet header and the
// tags that are in the bytes, if the linear part begins with one, else where
// SetL3 said, else at the start. The packet then has EtherType proto.
func (p *Packet) networkOffset() (off int, ok bool) {
	if mac, known := p.MAC(); known && mac == 0 {
		h := p.Head()
		for off = 12; len(h) >= off+2; off += 4 {
			switch binary.BigEndian.Uint16(h[off:]) {
			case EtherVLAN, EtherQinQ:
			default:
				return off + 2, len(h) > off+2
			}
		}
		return 0, false
	}
	if l3, known := p.L3(); known {
		return l3, l3 >= 0 && l3 < len(p.Head())
	}
	return 0, len(p.Head()) > 0
}

// parseHeaders finds the headers of an unfragmented TCP or UDP packet, all of
// which must be in the linear part.
func (p *Packet) parseHeaders() (h headers, ok bool) {
	if h.l3, ok = p.networkOffset(); !ok {
		return h, false
	}
	b := p.Head()
	t, ok := ParseTransport(b[h.l3:])
	if !ok || t.Fragment {
		return h, false
	}
	h.v6 = b[h.l3]>>4 == 6
	h.proto, h.l4 = t.Proto, h.l3+t.Offset
	switch t.Proto {
	case ProtoTCP:
		if len(b) < h.l4+20 {
			return h, false
		}
		h.payload = h.l4 + int(b[h.l4+12]>>4)*4
		return h, h.payload >= h.l4+20 && h.payload <= len(b)
	case ProtoUDP:
		h.payload = h.l4 + 8
		return h, h.payload <= len(b)
	}
	return h, false
}

// matches reports whether the headers are those of a super-frame of type t.
func (h headers) matches(t GSOType) bool {
	switch t {
	case GSOTCPv4:
		return h.proto == ProtoTCP && !h.v6
	case GSOTCPv6:
		return h.proto == ProtoTCP && h.v6
	case GSOUDP:
		return h.proto == ProtoUDP
	}
	return false
}

// checkOffset is where the checksum is in the transport header.
func (h headers) checkOffset() int {
	if h.proto == ProtoTCP {
		return 16
	}
	return 6
}

// PrepareGSO checks that the bytes of a super-frame are what its GSO metadata
// say, and puts it into the form in which super-frames travel: transport
// header known, checksum partial over exactly that header, segments counted.
// A packet that fits into one segment loses its GSO metadata. Devices call it
// for what they read, so that nobody behind them needs to distrust GSO. The
// packet is unchanged if it returns an error.
func (p *Packet) PrepareGSO() error {
	if p.GSO.Type == GSONone {
		return nil
	}
	h, ok := p.parseHeaders()
	if !ok || !h.matches(p.GSO.Type) || p.GSO.Size == 0 {
		return ErrNotSegmentable
	}
	if start, off, partial := p.PartialChecksum(); partial && (start != h.l4 || off != h.checkOffset()) {
		return ErrNotSegmentable
	}
	payload := p.Len() - h.payload
	if !p.sizesPlausible(payload) {
		return ErrNotSegmentable
	}
	p.SetL3(h.l3)
	p.SetL4(h.l4)
	if !p.CsumPartial {
		p.makePartial(h)
	}
	if payload <= int(p.GSO.Size) {
		p.GSO = GSO{}
		return nil
	}
	p.GSO.Segs = uint16((payload + int(p.GSO.Size) - 1) / int(p.GSO.Size))
	return nil
}

// MaxSegments is how many segments a super-frame may have. The smallest MSS
// that TCP uses needs 2000 for 64 KiB; what has many more is meant to keep us
// busy.
const MaxSegments = 8192

// sizesPlausible reports whether a payload fits an IP packet and makes no
// absurd number of segments.
func (p *Packet) sizesPlausible(payload int) bool {
	return payload <= 65535 && payload <= MaxSegments*int(p.GSO.Size)
}

// makePartial replaces the transport checksum by the sum of the
// pseudo-header. A UDP checksum of zero, which means none, stays.
func (p *Packet) makePartial(h headers) {
	b := p.Head()
	field := b[h.l4+h.checkOffset():]
	if h.proto == ProtoUDP && binary.BigEndian.Uint16(field) == 0 {
		return
	}
	sum := PseudoSum(b[h.l3:], h.proto, p.Len()-h.l4)
	binary.BigEndian.PutUint16(field, Fold(sum))
	p.SetPartialChecksum(h.l4, h.checkOffset())
}

// GSOHeaderLen is the length of all headers of a super-frame, which every
// segment repeats; 0 if the packet is none.
func (p *Packet) GSOHeaderLen() int {
	if h, ok := p.parseHeaders(); ok && h.matches(p.GSO.Type) {
		return h.payload
	}
	return 0
}

// NetworkLen is the length of the packet from its network header on, or of
// the longest segment for a super-frame: what is compared with an MTU.
func (p *Packet) NetworkLen() int {
	if p.GSO.Type != GSONone {
		if h, ok := p.parseHeaders(); ok && h.matches(p.GSO.Type) {
			return h.payload - h.l3 + min(int(p.GSO.Size), p.Len()-h.payload)
		}
	}
	if l3, ok := p.networkOffset(); ok {
		return p.Len() - l3
	}
	return p.Len()
}
