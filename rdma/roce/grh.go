package roce

// GRHLen is the length of the area before the payload in the receive buffer of
// a datagram queue pair. Byte counts of completions include it.
const GRHLen = 40

// PutGRH fills the area from the IP header a datagram came with: an IPv6 header
// as it is, an IPv4 header in the last twenty bytes behind zeros (IBTA
// A17.4.5.1).
func PutGRH(dst, ip []byte) {
	_ = dst[GRHLen-1]
	if ip[0]>>4 == 6 {
		copy(dst[:GRHLen], ip[:IPv6Len])
		return
	}
	clear(dst[:GRHLen-IPv4Len])
	copy(dst[GRHLen-IPv4Len:GRHLen], ip[:IPv4Len])
}

// GRHIP returns the IP header in an area that PutGRH, or a device, filled.
func GRHIP(grh []byte) []byte {
	if grh[0]>>4 == 6 {
		return grh[:GRHLen]
	}
	return grh[GRHLen-IPv4Len : GRHLen]
}
