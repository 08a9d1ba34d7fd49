package packet

// VerifyTransport reports whether the checksum of a whole TCP, UDP or ICMPv6
// packet is right. Head starts with the network header, l4 is the offset of
// the transport header from there.
func (p *Packet) VerifyTransport(l4 int, proto uint8) bool {
	if len(p.Head()) < l4 {
		return false
	}
	return Fold(p.sumFrom(l4)+uint32(Fold(PseudoSum(p.Head(), proto, p.Len()-l4)))) == 0xffff
}
