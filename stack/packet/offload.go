package packet

import (
	"encoding/binary"
	"errors"
)

// ErrNotSegmentable is what Segmenter and PrepareGSO return for a packet whose
// bytes contradict its GSO metadata: another protocol, a fragment, headers
// that are cut short.
var ErrNotSegmentable = errors.New("packet: headers do not match the GSO type")

// Protocol numbers of IP in IP (RFC 2003, RFC 2473).
const (
	protoIPv4 = 4
	protoIPv6 = 41
)

// maxTunnels is how many IP headers may be around the one that carries the
// transport header.
const maxTunnels = 3

// headers says where the headers of a TCP or UDP packet are, as offsets from
// the start of Head. IP may be in IP (protocols 4 and 41: tunnels, and IOAM in
// an outer header).
type headers struct {
	nets    [1 + maxTunnels]int // IP headers, from the outermost
	tunnels int                 // how many of them are outer ones
	l3      int                 // the outermost
	ip      int                 // the innermost
	l4      int
	payload int
	proto   uint8
	v6      bool // the innermost is
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
	h.ip = h.l3
	for {
		t, ok := ParseTransport(b[h.ip:])
		if !ok || t.Fragment {
			return h, false
		}
		h.nets[h.tunnels] = h.ip
		h.v6 = b[h.ip]>>4 == 6
		h.proto, h.l4 = t.Proto, h.ip+t.Offset
		if t.Proto != protoIPv4 && t.Proto != protoIPv6 {
			break
		}
		if h.tunnels++; h.tunnels > maxTunnels {
			return h, false
		}
		h.ip = h.l4
	}
	switch h.proto {
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
	if h.tunnels == 0 {
		p.SetL4(h.l4)
	}
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
	sum := PseudoSum(b[h.ip:], h.proto, p.Len()-h.l4)
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

// GSOInTunnel reports whether the packet is a super-frame inside another IP
// packet. No device takes those.
func (p *Packet) GSOInTunnel() bool {
	h, ok := p.parseHeaders()
	return ok && p.GSO.Type != GSONone && h.tunnels > 0
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
