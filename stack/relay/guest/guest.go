package guest

import (
	"fmt"
	"net/netip"
	"os"

	"taproom/stack"
	"taproom/stack/relay"
	"taproom/stack/relay/dhcp"
	"taproom/tap"
	"taproom/tap/netns"
)

// Guest is a namespace being served.
type Guest struct {
	Node  *stack.Node
	Relay *relay.Relay
	Info  tap.Info // of the interface inside

	conf     Config
	services *dhcp.Server
	proc     []*os.File // tables of sockets inside, see listeners.go
}

// Open opens the interface inside and begins to serve.
func Open(c Config) (*Guest, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	g := &Guest{conf: c}
	if err := g.open(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func (g *Guest) open() error {
	c := &g.conf
	dev, err := tap.Open(tap.Options{Name: c.Interface, Namespace: c.Namespace, Addr: c.Addr, MTU: mtuInside(c), QueueLen: 2000})
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	g.Info = dev.Info()
	if g.Node, err = stack.New(stack.Options{Name: "gateway"}); err != nil {
		_ = dev.Close()
		return fmt.Errorf("guest: %w", err)
	}
	i, err := g.Node.AddInterface(dev, stack.InterfaceConfig{Name: c.Interface, MTU: min(c.MTU, stack.MaxMTU), Addresses: c.nodeAddresses()})
	if err != nil {
		_ = dev.Close()
		return fmt.Errorf("guest: %w", err)
	}
	for _, n := range c.Networks {
		if n.Guest.Contains(n.Gateway) {
			continue // the gateway's address has brought the route
		}
		a := n.Guest.Addr()
		if err := g.Node.AddRoute(stack.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Interface: i.Name()}); err != nil {
			return fmt.Errorf("guest: %w", err)
		}
	}
	rc := c.Relay
	rc.Interface = i.Index()
	for _, n := range c.Networks {
		if n.DNS.IsValid() {
			rc.DNS = append(rc.DNS, n.DNS)
		}
	}
	if g.Relay, err = relay.New(g.Node, rc); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if g.services, err = dhcp.Serve(g.Node, i.Index(), g.serve()); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if c.Follow {
		if g.proc, err = socketTables(c.Namespace); err != nil {
			return err
		}
	}
	if !c.Configure {
		return nil
	}
	if err := c.Namespace.Configure(c.inside()); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	return nil
}

// mtuInside is what the interface is set to: left alone if somebody else
// configures it.
func mtuInside(c *Config) int {
	if !c.Configure {
		return 0
	}
	return min(c.MTU, 65521) // the kernel's limit for a TAP
}

// nodeAddresses are the node's addresses on the link: the gateways', and those
// that stand for something of the host's and lie on the link, since somebody
// must answer for them there.
func (c *Config) nodeAddresses() []netip.Prefix {
	var out []netip.Prefix
	have := map[netip.Addr]bool{}
	add := func(a netip.Addr, bits int) {
		if a.IsValid() && !have[a] {
			have[a] = true
			out = append(out, netip.PrefixFrom(a, bits))
		}
	}
	for _, n := range c.Networks {
		add(n.Gateway, n.Guest.Bits())
		if n.Guest.Contains(n.DNS) {
			add(n.DNS, n.Guest.Bits())
		}
		for a := range c.Relay.HostLoopback {
			if n.Guest.Contains(a) {
				add(a, n.Guest.Bits())
			}
		}
		if !n.Guest.Contains(n.Gateway) { // a gateway elsewhere: the guest is on the link all the same
			add(n.Gateway, n.Guest.Bits())
		}
	}
	return out
}

// inside is the configuration of the namespace.
func (c *Config) inside() netns.Config {
	l := netns.Link{Name: c.Interface, Up: true, Addrs: c.Addresses}
	cfg := netns.Config{Loopback: true, Routes: c.Routes}
	for _, n := range c.Networks {
		l.Addrs = append(l.Addrs, n.Guest)
		if c.Routes == nil {
			bits := 0
			cfg.Routes = append(cfg.Routes, netns.Route{Dst: netip.PrefixFrom(unspecified(n.Gateway), bits), Via: n.Gateway, Dev: c.Interface})
		}
	}
	cfg.Links = []netns.Link{l}
	return cfg
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// serve is what the namespace may ask for on the link.
func (g *Guest) serve() dhcp.Services {
	c := &g.conf
	s := c.Services
	s.MTU = c.MTU
	s.Search = c.Search
	s.Resolvers = append(s.Resolvers, c.Resolvers...)
	for _, n := range c.Networks {
		if n.DNS.IsValid() {
			s.Resolvers = append(s.Resolvers, n.DNS)
		}
		if n.Guest.Addr().Is4() {
			s.Guest4, s.Gateway4 = n.Guest, n.Gateway
		} else {
			s.Guest6, s.Gateway6 = n.Guest, n.Gateway
		}
	}
	s.Proxy = c.Relay.Proxy
	return s
}

// Guest4 and Guest6 are the namespace's addresses; invalid if it has none.
func (g *Guest) address(v6 bool) netip.Addr {
	for _, n := range g.conf.Networks {
		if n.Guest.Addr().Is6() == v6 {
			return n.Guest.Addr()
		}
	}
	return netip.Addr{}
}

// Close ends all flows and takes the interface's other end away.
func (g *Guest) Close() {
	for _, f := range g.proc {
		_ = f.Close()
	}
	if g.services != nil {
		_ = g.services.Close()
	}
	if g.Relay != nil {
		g.Relay.Close()
	}
	if g.Node != nil {
		g.Node.Close()
	}
}
