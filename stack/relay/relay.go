package relay

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Relay carries the flows of one interface. See the package comment.
type Relay struct {
	node *stack.Node
	conf Config
	eng  *engine
	link *hook.Link

	stats   counters
	mu      sync.Mutex // guards the tables of flows
	closed  bool
	tcp     map[*tcpFlow]struct{}
	pending map[flowKey]pendingSYN // connections being made
	udp     flowTable
	echo    flowTable

	forwards forwardTable
}

// counters are kept for listings.
type counters struct {
	tcpOpened, tcpRefused, udpOpened, echoOpened, evicted, refusedLimit atomic.Uint64
}

// flowKey names a flow as the container sees it.
type flowKey struct{ src, dst netip.AddrPort }

// New starts a relay behind an interface of a node. The node's TCP must not
// serve another relay.
func New(n *stack.Node, c Config) (*Relay, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	view, ok := n.Interface(c.Interface)
	if !ok {
		return nil, hook.ErrNoInterface
	}
	if err := n.InterfaceByName(view.Name).SetTransparent(true); err != nil {
		return nil, err
	}
	r := &Relay{node: n, conf: c, tcp: make(map[*tcpFlow]struct{}), pending: make(map[flowKey]pendingSYN)}
	r.udp.init(c.Limits.UDP)
	r.echo.init(c.Limits.Echo)
	var err error
	if r.eng, err = newEngine(r.expire); err != nil {
		return nil, err
	}
	n.ServeTCP(c.Limits.InFlight, r.serveTCP)
	r.link, err = n.Attach(hook.Prerouting, hook.HandlerFunc(r.handle), hook.Options{Name: "relay", Priority: 100})
	if err != nil {
		r.eng.close()
		return nil, err
	}
	return r, nil
}

// Close ends all flows and forwards. The interface stays.
func (r *Relay) Close() {
	_ = r.link.Close()
	r.forwards.close()
	r.mu.Lock()
	r.closed = true
	var flows []*tcpFlow
	for f := range r.tcp {
		flows = append(flows, f)
	}
	for k, s := range r.pending {
		delete(r.pending, k)
		s.p.Release()
	}
	r.mu.Unlock()
	r.eng.close()
	for _, f := range flows {
		f.abort()
	}
	r.udp.closeAll(r)
	r.echo.closeAll(r)
}

// handle decides about a packet from the container. What is for the node
// itself, or not from the relay's interface, goes on.
func (r *Relay) handle(_ hook.Point, p *hook.Packet) hook.Verdict {
	if p.In != r.conf.Interface || p.Type != packet.Host {
		return hook.Continue
	}
	h := p.Head()
	t, ok := packet.ParseTransport(h)
	if !ok {
		return hook.Continue
	}
	src, dst := addresses(h)
	if dst.IsMulticast() || dst.IsUnspecified() || dst.IsLoopback() || dst.IsLinkLocalUnicast() && dst.Is6() {
		return hook.Continue
	}
	if dst.Is4In6() {
		// The host would take ::ffff:127.0.0.1 for its own loopback.
		p.Reason = packet.NoRoute
		return hook.Drop
	}
	if !r.stands(dst, p.Head(), t) && !r.conf.Proxy {
		switch q := r.node.Route(hook.RouteQuery{Dst: dst, Src: src, In: p.In}); {
		case q.Kind == hook.LocalRoute, q.Kind == hook.BroadcastRoute:
			return hook.Continue
		case q.Kind == hook.Unicast && q.Out == p.In:
			return hook.Continue // on the container's own network
		}
	}
	if ttl(h) <= 1 {
		r.node.SendICMPError(p, timeExceeded(h))
		p.Reason = packet.TTLExceeded
		return hook.Drop
	}
	if t.Fragment {
		if v := r.node.Reassemble(p); v != hook.Continue {
			return v
		}
		h = p.Head()
		if t, ok = packet.ParseTransport(h); !ok || t.Fragment {
			return hook.Drop
		}
	}
	if !p.Pull(min(p.Len(), t.Offset+20)) {
		return hook.Drop
	}
	return r.dispatch(p, t, src, dst)
}

// stands reports whether an address stands for something of the host's.
func (r *Relay) stands(dst netip.Addr, h []byte, t packet.Transport) bool {
	if _, mapped := r.conf.HostLoopback[dst]; mapped {
		return true
	}
	if !r.isDNS(dst) {
		return false
	}
	if t.Fragment {
		return true // decided when it is whole
	}
	return (t.Proto == packet.ProtoTCP || t.Proto == packet.ProtoUDP) && len(h) >= t.Offset+4 && h[t.Offset+2] == 0 && h[t.Offset+3] == 53
}

// dispatch takes a packet of a flow.
func (r *Relay) dispatch(p *hook.Packet, t packet.Transport, src, dst netip.Addr) hook.Verdict {
	h := p.Head()
	l4 := h[t.Offset:]
	switch t.Proto {
	case packet.ProtoTCP:
		if len(l4) < 20 {
			return hook.Drop
		}
		if l4[13]&0x12 == 0x02 { // SYN without ACK
			if !r.remember(flowKey{port(src, l4), port(dst, l4[2:])}, p) {
				p.Reason = packet.Backpressure
				return hook.Drop // its sender will repeat it
			}
		}
		r.node.Terminate(p.In, p)
		return hook.Stolen
	case packet.ProtoUDP:
		if len(l4) < 8 || !r.verify(p, t) {
			p.Reason = packet.BadChecksum
			return hook.Drop
		}
		return r.udpOut(p, t.Offset, flowKey{port(src, l4), port(dst, l4[2:])})
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return r.echoOut(p, t, src, dst)
	}
	r.node.SendICMPError(p, unreachable(h, codeProtocol))
	p.Reason = packet.UnknownProto
	return hook.Drop
}

// verify checks what no device has vouched for.
func (r *Relay) verify(p *hook.Packet, t packet.Transport) bool {
	if p.CsumPartial || p.CsumValid {
		return true
	}
	h := p.Head()
	if t.Proto == packet.ProtoUDP && h[t.Offset+6] == 0 && h[t.Offset+7] == 0 {
		return h[0]>>4 == 4
	}
	return p.VerifyTransport(t.Offset, t.Proto)
}

// target is the host's side of an address that the container used.
func (r *Relay) target(dst netip.AddrPort) (netip.AddrPort, error) {
	if dst.Port() == 53 && r.isDNS(dst.Addr()) {
		return r.conf.Resolver()
	}
	if a, ok := r.conf.HostLoopback[dst.Addr()]; ok {
		return netip.AddrPortFrom(a, dst.Port()), nil
	}
	if r.isDNS(dst.Addr()) {
		return dst, unix.ECONNREFUSED
	}
	return dst, nil
}

func (r *Relay) isDNS(a netip.Addr) bool {
	for _, d := range r.conf.DNS {
		if d == a {
			return true
		}
	}
	return false
}

func addresses(h []byte) (src, dst netip.Addr) {
	if h[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(h[12:])), netip.AddrFrom4([4]byte(h[16:]))
	}
	return netip.AddrFrom16([16]byte(h[8:])), netip.AddrFrom16([16]byte(h[24:]))
}

func ttl(h []byte) uint8 {
	if h[0]>>4 == 4 {
		return h[8]
	}
	return h[7]
}

func port(a netip.Addr, b []byte) netip.AddrPort {
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b))
}
