package ioam

import (
	"encoding/binary"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// ICMPv6 types and codes that this package sends (RFC 4443 section 3).
const (
	typePacketTooBig      = 2
	typeParameterProblem  = 4
	codeHeaderField       = 0
	codeUnknownOption     = 2
	minMTU                = 1280
	maxQuote              = minMTU - 48
	typeRedirect          = 137
	firstInformational    = 128
	optionAlwaysAnswered  = 0x80 // unknown options of this class are answered even to a group
	unknownOptionTopBits  = 0xc0
	defaultErrorsHopLimit = 64
)

// parameterProblem answers a packet that starts at Head with its IPv6 header.
func (n *Node) parameterProblem(p *hook.Packet, code uint8, pointer uint32) {
	b := p.Head()
	always := code == codeUnknownOption && int(pointer) < len(b) && b[pointer]&unknownOptionTopBits == optionAlwaysAnswered
	if n.sendError(p, always, typeParameterProblem, code, pointer) {
		n.counters.add(OutParmProblems)
	}
}

// packetTooBig answers a packet with the MTU its sender should use.
func (n *Node) packetTooBig(p *hook.Packet, mtu int) {
	if n.sendError(p, true, typePacketTooBig, 0, uint32(mtu)) {
		n.counters.add(OutPktTooBigs)
	}
}

// sendError sends an ICMPv6 error about a packet, whose first octets it
// quotes as they are now, unless RFC 4443 section 2.4 (e) forbids it. always
// says that packets to groups are answered, too.
func (n *Node) sendError(p *hook.Packet, always bool, typ, code uint8, word uint32) bool {
	b := p.Head()
	src := netip.AddrFrom16([16]byte(b[8:24]))
	group := b[24] == 0xff || p.Type == packet.Multicast || p.Type == packet.Broadcast
	if group && !always || src.IsUnspecified() || src.IsMulticast() || isICMPError(p) {
		return false
	}
	if !n.errors.allow(n.host.Now().UnixNano()) {
		n.counters.add(ErrorsLimited)
		return false
	}
	// The error comes from the address the packet was for, if that is ours,
	// else from what address selection says for its way.
	from := netip.AddrFrom16([16]byte(b[24:40]))
	if n.host.Route(hook.RouteQuery{Dst: from}).Kind != hook.LocalRoute {
		r := n.host.Route(hook.RouteQuery{Dst: src})
		if !r.Src.Is6() {
			return false
		}
		from = r.Src
	}
	quote := min(p.Len(), maxQuote)
	e := packet.Alloc(48 + quote)
	h := e.Head()
	clear(h[:48])
	h[0] = 6 << 4
	binary.BigEndian.PutUint16(h[4:], uint16(8+quote))
	h[6], h[7] = packet.ProtoICMPv6, defaultErrorsHopLimit
	f, t := from.As16(), src.As16()
	copy(h[8:], f[:])
	copy(h[24:], t[:])
	h[40], h[41] = typ, code
	binary.BigEndian.PutUint32(h[44:], word)
	p.CopyTo(h[48:], 0)
	binary.BigEndian.PutUint16(h[42:], ^packet.Fold(packet.Sum(packet.PseudoSum(h, packet.ProtoICMPv6, 8+quote), h[40:])))
	e.Proto, e.Local = packet.EtherIPv6, true
	e.SetL3(0)
	e.SetL4(40)
	return n.host.Send(e) == nil
}

// isICMPError reports whether a packet is an ICMPv6 error or a redirect, as
// far as its linear part tells.
func isICMPError(p *hook.Packet) bool {
	t, ok := packet.ParseTransport(p.Head())
	if !ok || t.Proto != packet.ProtoICMPv6 {
		return false
	}
	var typ [1]byte
	return p.CopyTo(typ[:], t.Offset) == 1 && (typ[0] < firstInformational || typ[0] == typeRedirect)
}
