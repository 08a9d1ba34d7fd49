package roce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Errors that [Parse] and [ParseBody] wrap.
var (
	// ErrNotRoCE: the bytes are not an IP packet with UDP to port 4791.
	ErrNotRoCE = errors.New("roce: not a RoCEv2 packet")
	// ErrMalformed: the packet contradicts itself or ends too early.
	ErrMalformed = errors.New("roce: malformed packet")
	// ErrOpcode: the opcode is not in the table.
	ErrOpcode = errors.New("roce: unknown opcode")
)

// Body is a checked view of a transport packet, BTH to pad: what a UDP datagram
// carries, less the ICRC. The accessors of headers the opcode does not have
// return nil.
type Body struct {
	BTH     BTH    // with the extension headers behind it: cap reaches the ICRC
	Payload []byte // without pad
	info    *Info
}

// Packet is a checked view of a whole packet. Nothing in it is a copy.
type Packet struct {
	Body
	IP  []byte // 20 or 40 bytes
	UDP []byte // eight bytes
	raw []byte // IP header to ICRC
}

// ParseBody checks the lengths of a UDP payload, BTH to ICRC, and returns a view
// of it. It does not look at the ICRC, at keys, or at what a queue pair would
// make of the opcode.
func ParseBody(b []byte) (Body, error) {
	if len(b) < BTHLen+ICRCLen {
		return Body{}, fmt.Errorf("%w: %d bytes, a BTH and an ICRC take %d", ErrMalformed, len(b), BTHLen+ICRCLen)
	}
	bth := BTH(b)
	info := bth.Opcode().Info()
	if !info.Known {
		return Body{}, fmt.Errorf("%w %#02x", ErrOpcode, b[bthOpcode])
	}
	if v := bth.TVer(); v != 0 {
		return Body{}, fmt.Errorf("%w: %v with transport version %d", ErrMalformed, bth.Opcode(), v)
	}
	hdr, pad := BTHLen+int(info.ExtLen), bth.Pad()
	end := len(b) - ICRCLen - pad
	if end < hdr {
		return Body{}, fmt.Errorf("%w: %v of %d bytes, its headers, pad of %d and ICRC take %d", ErrMalformed, bth.Opcode(), len(b), pad, hdr+pad+ICRCLen)
	}
	return Body{BTH: BTH(b[: len(b)-ICRCLen : len(b)-ICRCLen]), Payload: b[hdr:end], info: info}, nil
}

// Parse checks a packet from its IP header on and returns a view of it. Bytes
// behind the IP packet (Ethernet padding) are ignored. Neither the ICRC nor any
// checksum is looked at; see [Packet.CheckICRC]. IPv4 options, fragments and
// IPv6 extension headers make it ErrNotRoCE.
func Parse(p []byte) (Packet, error) {
	l, err := ipLen(p)
	if err != nil {
		return Packet{}, err
	}
	var n int
	if l == IPv4Len {
		n = int(binary.BigEndian.Uint16(p[2:]))
	} else {
		n = IPv6Len + int(binary.BigEndian.Uint16(p[4:]))
	}
	if n > len(p) || n < l+UDPLen {
		return Packet{}, fmt.Errorf("%w: IP length %d of %d bytes", ErrMalformed, n, len(p))
	}
	p = p[:n:n]
	udp := p[l : l+UDPLen]
	if binary.BigEndian.Uint16(udp[2:]) != Port {
		return Packet{}, ErrNotRoCE
	}
	if u := int(binary.BigEndian.Uint16(udp[4:])); u != n-l {
		return Packet{}, fmt.Errorf("%w: UDP length %d in an IP payload of %d", ErrMalformed, u, n-l)
	}
	body, err := ParseBody(p[l+UDPLen:])
	if err != nil {
		return Packet{}, err
	}
	return Packet{Body: body, IP: p[:l:l], UDP: udp, raw: p}, nil
}

// ipLen returns the length of an IP header that carries UDP and nothing else.
func ipLen(p []byte) (int, error) {
	switch {
	case len(p) >= IPv4Len+UDPLen && p[0] == 0x45:
		if p[9] != protoUDP || binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
			return 0, ErrNotRoCE
		}
		return IPv4Len, nil
	case len(p) >= IPv6Len+UDPLen && p[0]>>4 == 6:
		if p[6] != protoUDP {
			return 0, ErrNotRoCE
		}
		return IPv6Len, nil
	}
	return 0, ErrNotRoCE
}

// V6 tells whether the packet is IPv6.
func (p *Packet) V6() bool { return len(p.IP) == IPv6Len }

// Src returns the source address.
func (p *Packet) Src() netip.Addr {
	if p.V6() {
		return netip.AddrFrom16([16]byte(p.IP[8:]))
	}
	return netip.AddrFrom4([4]byte(p.IP[12:]))
}

// Dst returns the destination address.
func (p *Packet) Dst() netip.Addr {
	if p.V6() {
		return netip.AddrFrom16([16]byte(p.IP[24:]))
	}
	return netip.AddrFrom4([4]byte(p.IP[16:]))
}

// SrcPort returns the UDP source port.
func (p *Packet) SrcPort() uint16 { return binary.BigEndian.Uint16(p.UDP) }

// ID returns the IPv4 identification, 0 for IPv6.
func (p *Packet) ID() uint16 {
	if p.V6() {
		return 0
	}
	return binary.BigEndian.Uint16(p.IP[4:])
}

// TOS returns the TOS or traffic class byte, with the ECN bits.
func (p *Packet) TOS() uint8 {
	if p.V6() {
		return p.IP[0]<<4 | p.IP[1]>>4
	}
	return p.IP[1]
}

// ECN returns the two ECN bits; 3 is "congestion experienced".
func (p *Packet) ECN() uint8 { return p.TOS() & 3 }

// TTL returns the TTL or hop limit.
func (p *Packet) TTL() uint8 {
	if p.V6() {
		return p.IP[7]
	}
	return p.IP[8]
}

// Bytes returns the packet from IP header to ICRC.
func (p *Packet) Bytes() []byte { return p.raw }

// ICRC returns the ICRC the packet ends with.
func (p *Packet) ICRC() uint32 { return binary.LittleEndian.Uint32(p.raw[len(p.raw)-ICRCLen:]) }

// CheckICRC tells whether the packet ends with the right ICRC.
func (p *Packet) CheckICRC() bool { return CheckICRC(p.raw) }

// Info returns the row of the packet's opcode.
func (b *Body) Info() *Info { return b.info }

// ext returns the header with this bit number, or nil.
func (b *Body) ext(n int) []byte {
	if o := int(b.info.offset[n]); o != 0 {
		e := o + int(headerLen[n])
		return b.BTH[o:e:e]
	}
	return nil
}

// DETH returns the datagram header.
func (b *Body) DETH() DETH { return b.ext(0) }

// FETH returns the flush header.
func (b *Body) FETH() FETH { return b.ext(1) }

// RETH returns the RDMA header.
func (b *Body) RETH() RETH { return b.ext(2) }

// AtomicETH returns the atomic request header.
func (b *Body) AtomicETH() AtomicETH { return b.ext(3) }

// AETH returns the acknowledge header.
func (b *Body) AETH() AETH { return b.ext(4) }

// AtomicAckETH returns the atomic acknowledge header.
func (b *Body) AtomicAckETH() AtomicAckETH { return b.ext(5) }

// ImmDt returns the immediate data.
func (b *Body) ImmDt() ImmDt { return b.ext(6) }

// IETH returns the invalidate header.
func (b *Body) IETH() IETH { return b.ext(7) }
