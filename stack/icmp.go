package stack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file tells senders why their packet went no further (RFC 792, 1812
// section 4.3, 4443). Codes, quotes and source addresses are those of Linux.

const (
	icmp4Unreachable  = 3
	icmp4TimeExceeded = 11
	icmp4ParamProblem = 12

	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6ParamProblem = 4
)

// icmpLimiter is a token bucket that needs no lock: the state is the time at
// which the bucket will be full again.
type icmpLimiter struct {
	clock    Clock
	interval int64 // ns a message; 0 is no limit
	depth    int64 // ns the bucket holds
	full     atomic.Int64
}

func (l *icmpLimiter) init(c Clock, perSecond, burst int) {
	l.clock = c
	if perSecond > 0 {
		l.interval = int64(time.Second) / int64(perSecond)
		l.depth = l.interval * int64(burst)
	}
}

func (l *icmpLimiter) allow() bool {
	if l.interval == 0 {
		return true
	}
	now := l.clock.Now().UnixNano()
	for {
		full := l.full.Load()
		next := max(full, now) + l.interval
		if next-now > l.depth {
			return false
		}
		if l.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

func (n *Node) timeExceeded(i *Interface, p *packet.Packet, f hook.Family) {
	if f == hook.IPv4 {
		n.icmp4Error(i, p, icmp4TimeExceeded, 0, 0)
		return
	}
	n.icmp6Error(i, p, icmp6TimeExceeded, 0, 0)
}

func (n *Node) packetTooBig(i *Interface, p *packet.Packet, f hook.Family, mtu int) {
	if f == hook.IPv4 {
		n.icmp4Error(i, p, icmp4Unreachable, 4, uint32(mtu))
		return
	}
	n.icmp6Error(i, p, icmp6TooBig, 0, uint32(max(mtu, 1280)))
}

// unreachable reports a missing or refusing route.
func (n *Node) unreachable(i *Interface, p *packet.Packet, f hook.Family, k hook.RouteKind) {
	code4, code6 := uint8(0), uint8(0) // network unreachable; no route
	switch k {
	case hook.Unreachable:
		code4, code6 = 1, 0 // Linux has no route for IPv6 here, where the RFC has codes
	case hook.Prohibit:
		code4, code6 = 13, 1
	}
	if f == hook.IPv4 {
		n.icmp4Error(i, p, icmp4Unreachable, code4, 0)
		return
	}
	n.icmp6Error(i, p, icmp6Unreachable, code6, 0)
}

// hostUnreachable reports that the next hop did not answer. The packet has
// met Forward and Postrouting by then.
func (n *Node) hostUnreachable(p *packet.Packet, f hook.Family) {
	i := n.byIndex(p.In)
	if p.Local || i == nil {
		i = n.lo
	}
	if f == hook.IPv4 {
		n.icmp4Error(i, p, icmp4Unreachable, 1, 0)
		return
	}
	n.icmp6Error(i, p, icmp6Unreachable, 3, 0)
}

// mayAnswer is RFC 1122 section 3.2.2: no errors about errors, fragments
// behind the first, broadcasts and multicasts.
func mayAnswer4(p *packet.Packet) bool {
	h := p.Head()
	if len(h) < 20 || p.Type == packet.Broadcast || p.Type == packet.Multicast {
		return false
	}
	if binary.BigEndian.Uint16(h[6:])&0x1fff != 0 {
		return false
	}
	src, dst := sourceOf(h, hook.IPv4), destination(h, hook.IPv4)
	if dst.IsMulticast() || dst == broadcastIPv4 || src.IsUnspecified() || src.IsMulticast() || h[12] >= 240 {
		return false
	}
	if h[9] == packet.ProtoICMP {
		ihl := int(h[0]&15) * 4
		if len(h) <= ihl {
			return false
		}
		switch h[ihl] {
		case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18: // queries and their answers
		default:
			return false
		}
	}
	return true
}

// ICMPError is an error message about a packet.
type ICMPError struct {
	Type, Code uint8
	Info       uint32     // the last word of the ICMP header: an MTU, a pointer
	From       netip.Addr // who says so; invalid is the node itself
}

// SendICMPError sends an error about a packet that came in, to its sender,
// unless it is one that is never answered (RFC 1122 3.2.2) or the limit is
// reached. The packet stays the caller's.
func (n *Node) SendICMPError(p *packet.Packet, e ICMPError) {
	i := n.byIndex(p.In)
	switch {
	case i == nil || len(p.Head()) == 0:
	case p.Head()[0]>>4 == 4:
		n.icmp4ErrorFrom(i, p, e)
	default:
		n.icmp6ErrorFrom(i, p, e)
	}
}

func (n *Node) icmp4Error(i *Interface, p *packet.Packet, kind, code uint8, info uint32) {
	n.icmp4ErrorFrom(i, p, ICMPError{Type: kind, Code: code, Info: info})
}

func (n *Node) icmp6Error(i *Interface, p *packet.Packet, kind, code uint8, info uint32) {
	n.icmp6ErrorFrom(i, p, ICMPError{Type: kind, Code: code, Info: info})
}

func (n *Node) icmp4ErrorFrom(i *Interface, p *packet.Packet, m ICMPError) {
	kind, code, info := m.Type, m.Code, m.Info
	if !mayAnswer4(p) || !n.allowICMP(kind == icmp4Unreachable && code == 4) {
		return
	}
	// The quote has as much as fits 576 bytes (RFC 1812 4.3.2.3).
	h := p.Head()
	quote := min(p.Len(), 576-28)
	e := packet.Alloc(28 + quote)
	b := e.Head()
	clear(b[:28])
	b[0], b[1], b[8], b[9] = 0x45, h[1]&0x1e|0xc0, n.opts.DefaultTTL, packet.ProtoICMP
	binary.BigEndian.PutUint16(b[2:], uint16(28+quote))
	binary.BigEndian.PutUint16(b[4:], n.nextID())
	src, dst := m.From, sourceOf(h, hook.IPv4)
	if !src.IsValid() {
		src = n.errorSource(i, p, hook.IPv4)
	}
	if !src.IsValid() {
		e.Release()
		return
	}
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	setIPv4Checksum(b)
	b[20], b[21] = kind, code
	binary.BigEndian.PutUint32(b[24:], info)
	p.CopyTo(b[28:], 0)
	binary.BigEndian.PutUint16(b[22:], packet.Checksum(b[20:]))
	n.sendError(e)
}

func mayAnswer6(p *packet.Packet, multicastOK bool) bool {
	h := p.Head()
	if len(h) < 40 {
		return false
	}
	src, dst := sourceOf(h, hook.IPv6), destination(h, hook.IPv6)
	if src.IsUnspecified() || src.IsMulticast() {
		return false
	}
	if !multicastOK && (dst.IsMulticast() || p.Type == packet.Broadcast || p.Type == packet.Multicast) {
		return false
	}
	t, ok := packet.ParseTransport(h)
	if !ok {
		return true // cut short or malformed: nothing says that it is an error
	}
	if t.Fragment && !t.First {
		return false
	}
	return t.Proto != packet.ProtoICMPv6 || len(h) > t.Offset && h[t.Offset]&0x80 != 0
}

func (n *Node) icmp6ErrorFrom(i *Interface, p *packet.Packet, m ICMPError) {
	kind, code, info := m.Type, m.Code, m.Info
	multicastOK := kind == icmp6TooBig || kind == icmp6ParamProblem && code == 2
	if !mayAnswer6(p, multicastOK) || !n.allowICMP(kind == icmp6TooBig) {
		return
	}
	h := p.Head()
	quote := min(p.Len(), 1280-48)
	e := packet.Alloc(48 + quote)
	b := e.Head()
	src, dst := m.From, sourceOf(h, hook.IPv6)
	if !src.IsValid() {
		src = n.errorSource(i, p, hook.IPv6)
	}
	if !src.IsValid() {
		e.Release()
		return
	}
	putIPv6(b, src, dst, packet.ProtoICMPv6, 8+quote, n.opts.DefaultTTL)
	b[40], b[41] = kind, code
	binary.BigEndian.PutUint32(b[44:], info)
	p.CopyTo(b[48:], 0)
	putICMP6Checksum(b)
	if dst.IsLinkLocalUnicast() {
		e.In = i.index
		e.Proto = packet.EtherIPv6
		n.counters.icmpErrors.Add(1)
		_ = n.output(e, i)
		return
	}
	n.sendError(e)
}

func (n *Node) allowICMP(always bool) bool {
	// Linux never limits what path MTU discovery needs.
	if always || n.icmp.allow() {
		return true
	}
	n.counters.icmpLimited.Add(1)
	return false
}

func (n *Node) sendError(e *packet.Packet) {
	n.counters.icmpErrors.Add(1)
	_ = n.output(e, nil)
}

// errorSource is the address errors come from: the packet's destination if
// that is ours, else the one the node would use towards its sender.
func (n *Node) errorSource(i *Interface, p *packet.Packet, f hook.Family) netip.Addr {
	h := p.Head()
	src, dst := sourceOf(h, f), destination(h, f)
	if n.ownerOf(dst) != nil {
		return dst
	}
	if src.IsLinkLocalUnicast() && src.Is6() {
		return i.source(src)
	}
	if a := n.sourceFor(src); a.IsValid() {
		return a
	}
	return i.source(src)
}

// sourceFor is the address the node would use to talk to dst.
func (n *Node) sourceFor(dst netip.Addr) netip.Addr {
	hp := n.fib.Load().lookup(dst, nil)
	switch {
	case hp == nil || hp.ifc == nil:
		return netip.Addr{}
	case hp.kind == hook.LocalRoute:
		return dst
	case hp.spec.Src.IsValid():
		return hp.spec.Src
	}
	to := dst
	if hp.via.IsValid() {
		to = hp.via
	}
	if a := hp.ifc.source(to); a.IsValid() && !(dst.Is6() && a.IsLinkLocalUnicast()) {
		return a
	}
	// An interface with no address of its own scope borrows one (RFC 6724,
	// Linux inet_select_addr).
	for _, o := range *n.ifaces.Load() {
		if o == nil || o.loopback() {
			continue
		}
		if a := o.source(dst); a.IsValid() && !(a.Is6() && a.IsLinkLocalUnicast()) {
			return a
		}
	}
	return hp.ifc.source(dst)
}

func headerSum(h []byte) uint16 { return packet.Fold(packet.Sum(0, h)) }
