package stack

import (
	"encoding/binary"
	"net/netip"

	"taproom/stack/packet"
)

// ARP for IPv4 over Ethernet (RFC 826), answering as Linux does by default:
// for any of the node's addresses, whatever interface asks.

const (
	arpLen     = 28
	arpRequest = 1
	arpReply   = 2
)

// arpIn takes an ARP packet, network header first.
func (i *Interface) arpIn(p *packet.Packet) {
	defer p.Release()
	if !i.ether || !p.Pull(arpLen) {
		return
	}
	h := p.Head()
	if binary.BigEndian.Uint32(h) != 0x00010800 || h[4] != 6 || h[5] != 4 {
		return
	}
	op := binary.BigEndian.Uint16(h[6:])
	var mac [6]byte
	copy(mac[:], h[8:14])
	sender, target := netip.AddrFrom4([4]byte(h[14:18])), netip.AddrFrom4([4]byte(h[24:28]))
	if mac[0]&1 != 0 || sender.IsMulticast() || target.IsMulticast() || target.IsLoopback() {
		return
	}
	mine := i.node.ownerOf(target) != nil
	if i.has(sender) && mac != i.mac {
		i.node.opts.OnLog("address conflict", "node", i.node.name, "interface", i.name, "address", sender)
		return
	}
	switch op {
	case arpRequest:
		if sender.IsUnspecified() {
			if mine { // a probe (RFC 5227) is answered, but not learnt from
				i.arpSend(arpReply, target, sender, mac, mac)
			}
			return
		}
		i.neigh.learn(sender, mac, mine, false, true)
		if mine {
			i.arpSend(arpReply, target, sender, mac, mac)
		}
	case arpReply:
		// Only an answer sent to us confirms; others may update what we know.
		i.neigh.learn(sender, mac, false, p.Type == packet.Host, true)
	}
}

// arpRequest asks for an address, everybody or the neighbour itself.
func (i *Interface) arpRequest(target netip.Addr, to [6]byte, hint netip.Addr) {
	src := i.source(target)
	if hint.IsValid() && i.node.ownerOf(hint) != nil {
		src = hint
	}
	if !src.IsValid() {
		src = netip.IPv4Unspecified()
	}
	i.arpSend(arpRequest, src, target, [6]byte{}, to)
}

func (i *Interface) arpSend(op uint16, src, dst netip.Addr, dstMAC, to [6]byte) {
	p := packet.Alloc(arpLen)
	h := p.Head()
	binary.BigEndian.PutUint32(h, 0x00010800)
	h[4], h[5] = 6, 4
	binary.BigEndian.PutUint16(h[6:], op)
	copy(h[8:], i.mac[:])
	s, d := src.As4(), dst.As4()
	copy(h[14:], s[:])
	copy(h[18:], dstMAC[:])
	copy(h[24:], d[:])
	p.Proto, p.Local, p.Type = packet.EtherARP, true, packet.Outgoing
	p.SetL3(0)
	if !i.up.Load() {
		i.dropOut(p, packet.DeviceDown)
		return
	}
	i.sendTo(p, to)
}
