// Package probe pings and traces from a node: what ping(8) and traceroute(8)
// do in a namespace, for routers, which run no programs.
//
//	p, err := probe.New(node)
//	defer p.Close()
//	a, err := p.Echo(ctx, dst, probe.Options{TTL: 3})
//
// Echo requests go out with Host.Send; answers are seen by a handler at Input,
// which lets them pass. A Prober may be used by one goroutine at a time.
package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// ErrNoAnswer is returned when nobody answered in time.
var ErrNoAnswer = errors.New("probe: no answer")

// Kind says what an answer is.
type Kind uint8

// The kinds of answers.
const (
	Reply       Kind = iota // an echo reply
	Exceeded                // TTL or hop limit was used up on the way
	Unreachable             // somebody says that there is no way
	TooBig                  // somebody says that the packet is too large
)

func (k Kind) String() string {
	return [...]string{"reply", "time exceeded", "unreachable", "too big"}[k]
}

// Answer is an answer to one request.
type Answer struct {
	Kind Kind
	From netip.Addr
	RTT  time.Duration
}

// Options of a request. The zero value is 56 bytes, TTL 64, 2 s.
type Options struct {
	Size    int           // bytes of payload
	TTL     uint8         // or hop limit
	Timeout time.Duration // how long to wait for an answer
}

// Prober sends requests from one node.
type Prober struct {
	host    hook.Host
	link    *hook.Link
	id      uint16
	seq     uint16
	answers chan heard
}

// heard is an answer as the handler passes it on.
type heard struct {
	seq  uint16
	kind Kind
	from netip.Addr
}

// New makes a prober and puts its handler in place.
func New(host hook.Host) (*Prober, error) {
	p := &Prober{host: host, id: uint16(rand.Uint32()), answers: make(chan heard, 16)}
	var err error
	p.link, err = host.Attach(hook.Input, hook.HandlerFunc(p.input), hook.Options{Name: "probe", Priority: math.MinInt32})
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return p, nil
}

// Close takes the handler away.
func (p *Prober) Close() error { return p.link.Close() }

// Echo sends one echo request and waits for what comes back.
func (p *Prober) Echo(ctx context.Context, dst netip.Addr, o Options) (Answer, error) {
	if o.Size == 0 {
		o.Size = 56
	}
	if o.TTL == 0 {
		o.TTL = 64
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	r := p.host.Route(hook.RouteQuery{Dst: dst})
	switch r.Kind {
	case hook.LocalRoute:
		return Answer{From: dst}, nil // the node itself
	case hook.Unicast:
	default:
		return Answer{}, fmt.Errorf("probe: %v: no route (%v)", dst, r.Kind)
	}
	p.seq++
	request := encode(r.Src, dst, p.id, p.seq, o)
	start := time.Now()
	if err := p.host.Send(request); err != nil {
		return Answer{}, fmt.Errorf("probe: %v: %w", dst, err)
	}
	timer := time.NewTimer(o.Timeout)
	defer timer.Stop()
	for {
		select {
		case h := <-p.answers:
			if h.seq == p.seq { // others are late answers to earlier requests
				return Answer{h.kind, h.from, time.Since(start)}, nil
			}
		case <-timer.C:
			return Answer{}, fmt.Errorf("%w from %v within %v", ErrNoAnswer, dst, o.Timeout)
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
}

// Trace returns who answers at each distance, the zero address for nobody,
// until the destination does or most hops were tried.
func (p *Prober) Trace(ctx context.Context, dst netip.Addr, most int) ([]netip.Addr, error) {
	var hops []netip.Addr
	for ttl := 1; ttl <= most; ttl++ {
		a, err := p.Echo(ctx, dst, Options{TTL: uint8(ttl), Timeout: time.Second})
		switch {
		case errors.Is(err, ErrNoAnswer):
			hops = append(hops, netip.Addr{})
			continue
		case err != nil:
			return hops, err
		}
		hops = append(hops, a.From)
		if a.Kind != Exceeded {
			return hops, nil
		}
	}
	return hops, nil
}

// The messages (RFC 792, RFC 4443).
const (
	v4Reply, v4Unreachable, v4Request, v4Exceeded   = 0, 3, 8, 11
	v6Unreachable, v6TooBig, v6Exceeded             = 1, 2, 3
	v6Request, v6Reply                              = 128, 129
	v4Header, v6Header, icmpHeader, v4NeedsFragment = 20, 40, 8, 4
)

func encode(src, dst netip.Addr, id, seq uint16, o Options) *packet.Packet {
	header := v6Header
	if dst.Is4() {
		header = v4Header
	}
	p := packet.Alloc(header + icmpHeader + o.Size)
	b := p.Head()
	clear(b)
	icmp := b[header:]
	for i := range icmp[icmpHeader:] {
		icmp[icmpHeader+i] = byte(i)
	}
	binary.BigEndian.PutUint16(icmp[4:], id)
	binary.BigEndian.PutUint16(icmp[6:], seq)
	if dst.Is4() {
		b[0], b[8], b[9] = 0x45, o.TTL, packet.ProtoICMP
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[4:], seq)
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:v4Header]))
		icmp[0] = v4Request
		binary.BigEndian.PutUint16(icmp[2:], packet.Checksum(icmp))
		return p
	}
	b[0], b[6], b[7] = 0x60, packet.ProtoICMPv6, o.TTL
	binary.BigEndian.PutUint16(b[4:], uint16(len(icmp)))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	icmp[0] = v6Request
	sum := packet.PseudoSum(b, packet.ProtoICMPv6, len(icmp))
	binary.BigEndian.PutUint16(icmp[2:], ^packet.Fold(packet.Sum(sum, icmp)))
	return p
}

// input looks for answers, and lets everything pass.
func (p *Prober) input(_ hook.Point, pkt *hook.Packet) hook.Verdict {
	if h, ok := parse(pkt.Head(), p.id); ok {
		select {
		case p.answers <- h:
		default: // nobody waits
		}
	}
	return hook.Continue
}

// parse reads an answer to a request with an id: a reply, or an error that
// quotes the request.
func parse(b []byte, id uint16) (h heard, ok bool) {
	t, ok := packet.ParseTransport(b)
	if !ok || !t.First || len(b) < t.Offset+icmpHeader {
		return h, false
	}
	icmp, kind := b[t.Offset:], icmpType{t.Proto, b[t.Offset]}
	switch b[0] >> 4 {
	case 4:
		h.from = netip.AddrFrom4([4]byte(b[12:]))
	default:
		h.from = netip.AddrFrom16([16]byte(b[8:]))
	}
	switch kind {
	case icmpType{packet.ProtoICMP, v4Reply}, icmpType{packet.ProtoICMPv6, v6Reply}:
		h.seq = binary.BigEndian.Uint16(icmp[6:])
		return h, binary.BigEndian.Uint16(icmp[4:]) == id
	case icmpType{packet.ProtoICMP, v4Exceeded}, icmpType{packet.ProtoICMPv6, v6Exceeded}:
		h.kind = Exceeded
	case icmpType{packet.ProtoICMPv6, v6TooBig}:
		h.kind = TooBig
	case icmpType{packet.ProtoICMP, v4Unreachable}, icmpType{packet.ProtoICMPv6, v6Unreachable}:
		h.kind = Unreachable
		if t.Proto == packet.ProtoICMP && icmp[1] == v4NeedsFragment {
			h.kind = TooBig
		}
	default:
		return h, false
	}
	quoted := icmp[icmpHeader:]
	q, ok := packet.ParseTransport(quoted)
	if !ok || !q.First || len(quoted) < q.Offset+icmpHeader {
		return h, false
	}
	request := quoted[q.Offset:]
	switch (icmpType{q.Proto, request[0]}) {
	case icmpType{packet.ProtoICMP, v4Request}, icmpType{packet.ProtoICMPv6, v6Request}:
	default:
		return h, false
	}
	h.seq = binary.BigEndian.Uint16(request[6:])
	return h, binary.BigEndian.Uint16(request[4:]) == id
}

// icmpType is a message type of one of the two protocols.
type icmpType struct{ proto, kind uint8 }
