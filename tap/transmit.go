package tap

import "taproom/stack/packet"

// Emit does in software what a device with offloads o does not, and calls
// send for each frame that results: p itself, or its segments. Frames are
// send's from then on; p is Emit's. A packet that cannot be sent is given to
// drop, with the reason. Neither function is kept.
//
// Super-frames inside IP packets are always cut here. Inside other tunnels
// (GRE, VXLAN) they cannot be, and are dropped as packet.BadHeader.
//
// It is what every Device does on Write; wires and other sinks that want
// finished frames call it with the zero Offloads.
func Emit(p *packet.Packet, o Offloads, send func(*packet.Packet), drop func(*packet.Packet, packet.Reason)) {
	if p.VLAN.Present { // no TAP takes a tag beside the bytes
		p.PushVLAN()
	}
	if p.GSO.Type != packet.GSONone {
		err := p.PrepareGSO()
		if err != nil {
			drop(p, packet.BadHeader)
			return
		}
	}
	if !o.Takes(p.GSO) || p.GSOInTunnel() {
		s, err := p.Segmenter(!o.Checksum)
		if err != nil {
			drop(p, packet.BadHeader)
			return
		}
		for q := s.Next(); q != nil; q = s.Next() {
			send(q)
		}
		p.Release()
		return
	}
	if p.CsumPartial && !o.Checksum && !p.CompleteChecksum() {
		drop(p, packet.BadHeader)
		return
	}
	send(p)
}
