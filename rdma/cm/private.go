package cm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// PortSpace is the upper part of a [ServiceID] that rdma_cm makes from a port.
type PortSpace uint16

// Port spaces. With SpaceUDP a service is resolved by SIDR.
const (
	SpaceTCP PortSpace = 0x0106
	SpaceUDP PortSpace = 0x0111
	SpaceIB  PortSpace = 0x013f
)

// Service returns the service ID of a port.
func (s PortSpace) Service(port uint16) ServiceID { return ServiceID(s)<<16 | ServiceID(port) }

// UDPQKey is the Q_Key of rdma_cm's datagram queue pairs, unless a program says
// otherwise.
const UDPQKey = 0x01234567

// PrivateHeaderLen is how much of the private data of a REQ or SIDR_REQ rdma_cm
// takes for itself; the program's begins behind it.
const PrivateHeaderLen = 36

// PrivateHeader is what rdma_cm puts in front of a program's private data: the IP
// addresses and the port (IBTA A11.2). Both addresses are of one version.
type PrivateHeader struct {
	Src, Dst netip.Addr
	SrcPort  uint16
}

// Append appends the header to b. An invalid address is sent as zero.
func (h PrivateHeader) Append(b []byte) []byte {
	ver := byte(6)
	if h.Src.Unmap().Is4() {
		ver = 4
	}
	b = append(b, 0, ver<<4)
	b = binary.BigEndian.AppendUint16(b, h.SrcPort)
	for _, a := range []netip.Addr{h.Src, h.Dst} {
		var f [16]byte
		if a = a.Unmap(); a.Is4() { // in the last four bytes
			v := a.As4()
			copy(f[12:], v[:])
		} else if a.IsValid() {
			f = a.As16()
		}
		b = append(b, f[:]...)
	}
	return b
}

// ParsePrivateHeader reads the header and returns what follows it.
func ParsePrivateHeader(b []byte) (h PrivateHeader, rest []byte, err error) {
	if len(b) < PrivateHeaderLen || b[0] != 0 {
		return h, nil, fmt.Errorf("%w: private data of %d bytes without rdma_cm's header", ErrMalformed, len(b))
	}
	h.SrcPort = binary.BigEndian.Uint16(b[2:])
	switch b[1] >> 4 {
	case 4:
		h.Src, h.Dst = netip.AddrFrom4([4]byte(b[16:20])), netip.AddrFrom4([4]byte(b[32:36]))
	case 6:
		h.Src, h.Dst = netip.AddrFrom16([16]byte(b[4:20])), netip.AddrFrom16([16]byte(b[20:36]))
	default:
		return h, nil, fmt.Errorf("%w: IP version %d in rdma_cm's header", ErrMalformed, b[1]>>4)
	}
	return h, b[PrivateHeaderLen:], nil
}
