package tap

import (
	"encoding/binary"

	"taproom/stack/packet"
)

// struct virtio_net_hdr (uapi linux/virtio_net.h), in the machine's byte order
// because no TUNSETVNETLE/BE is issued:
//
//	0 flags   1 gso_type   2 hdr_len   4 gso_size   6 csum_start   8 csum_offset
const vnetLen = 10

const (
	vnetNeedsCsum = 1
	vnetDataValid = 2

	vnetGSONone  = 0
	vnetGSOTCPv4 = 1
	vnetGSOTCPv6 = 4
	vnetGSOUDPL4 = 5
	vnetGSOECN   = 0x80
)

// ParseFrame sets what the start of a frame tells: EtherType, link and network
// offset, and for whom it is as far as the address itself shows. It is false
// for a frame cut short, and for a packet of no known IP version.
func ParseFrame(p *packet.Packet, kind Kind) bool {
	if kind == Ethernet {
		if !p.ParseLink() {
			return false
		}
		switch h := p.Head(); {
		case h[0]&1 == 0:
			p.Type = packet.Host
		case binary.BigEndian.Uint32(h) == 0xffffffff && binary.BigEndian.Uint16(h[4:]) == 0xffff:
			p.Type = packet.Broadcast
		default:
			p.Type = packet.Multicast
		}
		return true
	}
	h := p.Head()
	if len(h) == 0 {
		return false
	}
	switch h[0] >> 4 {
	case 4:
		p.Proto = packet.EtherIPv4
	case 6:
		p.Proto = packet.EtherIPv6
	default:
		return false
	}
	p.SetL3(0)
	return true
}

// decodeVnet puts into the metadata of p, a parsed frame, what its virtio-net
// header says. It is false for a header that contradicts the frame: nothing
// in it is trusted, and hdr_len is not even looked at.
func decodeVnet(h []byte, p *packet.Packet) bool {
	_ = h[vnetLen-1]
	flags, gso := h[0], h[1]
	if flags&vnetNeedsCsum != 0 {
		start := int(binary.NativeEndian.Uint16(h[6:]))
		offset := int(binary.NativeEndian.Uint16(h[8:]))
		l3, _ := p.L3()
		if start <= l3 || start+offset+2 > len(p.Head()) {
			return false
		}
		p.SetPartialChecksum(start, offset)
	}
	p.CsumValid = flags&vnetDataValid != 0
	if gso == vnetGSONone {
		return true
	}
	switch gso &^ vnetGSOECN {
	case vnetGSOTCPv4:
		p.GSO.Type = packet.GSOTCPv4
	case vnetGSOTCPv6:
		p.GSO.Type = packet.GSOTCPv6
	case vnetGSOUDPL4:
		p.GSO.Type = packet.GSOUDP
	default:
		return false
	}
	p.GSO.ECN = gso&vnetGSOECN != 0
	p.GSO.Size = binary.NativeEndian.Uint16(h[4:])
	return p.PrepareGSO() == nil
}

// encodeVnet writes the header for p, which the device takes as it is. It is
// false if the partial checksum is not inside the packet.
func encodeVnet(h []byte, p *packet.Packet) bool {
	clear(h[:vnetLen])
	if start, offset, ok := p.PartialChecksum(); ok {
		if start < 0 || start+offset+2 > p.Len() {
			return false
		}
		h[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(h[6:], uint16(start))
		binary.NativeEndian.PutUint16(h[8:], uint16(offset))
	}
	switch p.GSO.Type {
	case packet.GSONone:
		return true
	case packet.GSOTCPv4:
		h[1] = vnetGSOTCPv4
	case packet.GSOTCPv6:
		h[1] = vnetGSOTCPv6
	case packet.GSOUDP:
		h[1] = vnetGSOUDPL4
	}
	if p.GSO.ECN {
		h[1] |= vnetGSOECN
	}
	// The kernel makes hdr_len bytes of a super-frame linear.
	binary.NativeEndian.PutUint16(h[2:], uint16(p.GSOHeaderLen()))
	binary.NativeEndian.PutUint16(h[4:], p.GSO.Size)
	return true
}
