package relay

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Echo requests go out through ping sockets (net.ipv4.ping_group_range), one
// for each destination and identifier. The kernel gives them an identifier of
// its own and gives back only the answers to it.

const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// echoOut takes an ICMP packet from the container. Anything but an echo
// request is dropped: errors from inside are about flows that end here.
func (r *Relay) echoOut(p *hook.Packet, t packet.Transport, src, dst netip.Addr) hook.Verdict {
	p.Linearize()
	b := p.Head()[t.Offset:]
	v6 := t.Proto == packet.ProtoICMPv6
	want, proto := byte(echoRequest4), unix.IPPROTO_ICMP
	if v6 {
		want, proto = echoRequest6, unix.IPPROTO_ICMPV6
	}
	if len(b) < 8 || b[0] != want || b[1] != 0 {
		p.Reason = packet.UnknownProto
		return hook.Drop
	}
	id := binary.BigEndian.Uint16(b[4:])
	k := flowKey{netip.AddrPortFrom(src, id), netip.AddrPortFrom(dst, 0)}
	now := r.conf.Now()
	f := r.echo.get(k, now)
	if f == nil {
		to, err := r.target(netip.AddrPortFrom(dst, 0))
		if err == nil {
			f, err = r.openDgram(unix.SOCK_DGRAM, proto, to, k, &r.echo, now)
		}
		if err != nil {
			if e, ok := fromErrno(p.Head(), err); ok {
				r.node.SendICMPError(p, e)
			}
			p.Reason = packet.NoRoute
			return hook.Drop
		}
		f.ident, f.echo, f.reply = id, true, (*dgramFlow).echoIn
		r.stats.echoOpened.Add(1)
	}
	f.sendEcho(p, t.Offset)
	p.Release()
	return hook.Stolen
}

// sendEcho sends the whole ICMP message; the kernel fills in identifier and
// checksum.
func (f *dgramFlow) sendEcho(p *hook.Packet, l4 int) {
	h := p.Head()
	if t := ttl(h) - 1; t != f.ttl {
		f.ttl = t
		setTTL(f.fd, f.v6, t)
	}
	f.remember(p, l4+8)
	f.out.Add(1)
	f.outLen.Add(uint64(len(h) - l4))
	if _, err := unix.Write(f.fd, h[l4:]); err != nil {
		if e, ok := fromErrno(h, err); ok {
			f.r.node.SendICMPError(p, e)
		}
	}
}

// echoIn sends an answer to the container, with its own identifier.
func (f *dgramFlow) echoIn(b []byte, _ int) {
	if len(b) < 8 || b[0] != echoReply4 && b[0] != echoReply6 {
		return
	}
	f.r.echo.get(f.key, f.r.conf.Now())
	l4, proto := 20, uint8(packet.ProtoICMP)
	if f.v6 {
		l4, proto = 40, packet.ProtoICMPv6
	}
	p := packet.Alloc(l4 + len(b))
	h := p.Head()
	writeIP(h, f.key.dst.Addr(), f.key.src.Addr(), proto, len(b))
	m := h[l4:]
	copy(m, b)
	binary.BigEndian.PutUint16(m[4:], f.ident)
	m[2], m[3] = 0, 0
	sum := packet.Sum(0, m)
	if f.v6 {
		sum = packet.Sum(packet.PseudoSum(h[:l4], proto, len(b)), m)
	}
	binary.BigEndian.PutUint16(m[2:], ^packet.Fold(sum))
	p.SetL3(0)
	p.SetL4(l4)
	_ = f.r.node.Send(p)
}
