package dhcp

import (
	"errors"
	"net"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Services say what is answered. Nothing is said of a version of IP whose
// Guest address is missing.
type Services struct {
	Guest4, Guest6     netip.Prefix // the host's address, with the prefix length
	Gateway4, Gateway6 netip.Addr
	Resolvers          []netip.Addr // of both versions
	Search             []string
	MTU                int // told if not 0
	// NoDHCP4, NoDHCP6 and NoRA turn them off.
	NoDHCP4, NoDHCP6, NoRA bool
	// Proxy answers ARP and neighbour solicitations for every address but the
	// host's own.
	Proxy bool
}

// Server answers on one interface.
type Server struct {
	Services
	node  hook.Router
	index int
	mac   net.HardwareAddr
	links []*hook.Link
}

// Serve starts to answer on an interface of a node.
func Serve(n hook.Router, index int, s Services) (*Server, error) {
	i, ok := n.Interface(index)
	if !ok {
		return nil, hook.ErrNoInterface
	}
	v := &Server{Services: s, node: n, index: index, mac: i.HardwareAddr}
	attach := func(pt hook.Point, f hook.HandlerFunc, o hook.Options) error {
		l, err := n.Attach(pt, f, o)
		if err == nil {
			v.links = append(v.links, l)
		}
		return err
	}
	err := attach(hook.Prerouting, v.handle, hook.Options{Name: "dhcp", Priority: 90})
	if err == nil && s.Proxy {
		err = attach(hook.Ingress, v.neighbour, hook.Options{Name: "proxy", Interface: index})
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// Close ends the answering.
func (s *Server) Close() error {
	var err error
	for _, l := range s.links {
		err = errors.Join(err, l.Close())
	}
	return err
}

// The ports of DHCP's servers.
const (
	serverPort4 = 67
	serverPort6 = 547
)

func (s *Server) handle(_ hook.Point, p *hook.Packet) hook.Verdict {
	if p.In != s.index {
		return hook.Continue
	}
	t, ok := packet.ParseTransport(p.Head())
	if !ok || t.Fragment || !p.Pull(min(p.Len(), t.Offset+8)) {
		return hook.Continue
	}
	h := p.Head()
	l4 := h[t.Offset:]
	if len(l4) < 8 {
		return hook.Continue
	}
	var answer *packet.Packet
	switch {
	case t.Proto == packet.ProtoUDP:
		port := int(l4[2])<<8 | int(l4[3])
		switch {
		case port == serverPort4 && h[0]>>4 == 4 && s.Guest4.IsValid() && !s.NoDHCP4:
			p.Linearize()
			answer = s.answer4(p.Head()[t.Offset+8:])
		case port == serverPort6 && h[0]>>4 == 6 && s.Guest6.IsValid() && !s.NoDHCP6:
			p.Linearize()
			h = p.Head()
			answer = s.answer6(h[t.Offset+8:], netip.AddrFrom16([16]byte(h[8:24])))
		default:
			return hook.Continue
		}
	case t.Proto == packet.ProtoICMPv6 && l4[0] == routerSolicit && s.Guest6.IsValid() && !s.NoRA:
		if h[7] != 255 || l4[1] != 0 {
			return hook.Drop // not from this link (RFC 4861 section 6.1.1)
		}
		answer = s.advertise()
	default:
		return hook.Continue
	}
	p.Release()
	if answer != nil {
		_ = s.node.Transmit(s.index, answer)
	}
	return hook.Stolen
}

// linkLocal is the node's address on the link for packets that must not leave
// it.
func (s *Server) linkLocal() netip.Addr {
	i, _ := s.node.Interface(s.index)
	for _, a := range i.Addrs {
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
			return a.Addr()
		}
	}
	return s.Gateway6
}

func (s *Server) resolvers(v6 bool) (out []net.IP) {
	for _, a := range s.Resolvers {
		if a.Is6() == v6 {
			out = append(out, a.AsSlice())
		}
	}
	return out
}
