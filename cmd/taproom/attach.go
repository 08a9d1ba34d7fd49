package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"taproom/stack/relay"
	"taproom/stack/relay/guest"
	"taproom/tap/netns"
)

// guestFlags are the flags of subcommands that serve a namespace.
type guestFlags struct {
	mtu           int
	cidr, cidr6   string
	only4         bool
	hostLoopback  bool
	noDNS         bool
	tcp, udp      []string
	outbound      []string
	mac           string
	readyFD, exit int
	noConfigure   bool
}

func (f *guestFlags) add(c *cobra.Command) {
	s := c.Flags()
	s.IntVarP(&f.mtu, "mtu", "m", guest.DefaultMTU, "largest packet, in bytes")
	s.StringVar(&f.cidr, "cidr", "10.0.2.0/24", "IPv4 network inside: .2 is the gateway, .3 the resolver, .100 the namespace")
	s.StringVar(&f.cidr6, "cidr6", "fd00::/64", "IPv6 network inside, with the same hosts")
	s.BoolVarP(&f.only4, "ipv4-only", "4", false, "no IPv6")
	s.BoolVar(&f.hostLoopback, "host-loopback", false, "let the gateway's address lead to the host's 127.0.0.1 and ::1")
	s.BoolVar(&f.noDNS, "no-dns", false, "no resolver inside")
	s.StringArrayVarP(&f.tcp, "tcp", "t", nil, "TCP ports of the host that lead inside: none, auto, [ADDR/]PORT[-PORT][:PORT[-PORT]],..., ~PORT")
	s.StringArrayVarP(&f.udp, "udp", "u", nil, "the same for UDP")
	s.StringArrayVar(&f.outbound, "outbound", nil, "host address to send from, for each IP version")
	s.StringVar(&f.mac, "mac", "", "link address inside")
}

// config makes a configuration of the flags; the namespace is missing.
func (f *guestFlags) config() (guest.Config, error) {
	c := guest.Config{MTU: f.mtu, Configure: !f.noConfigure, Follow: true}
	p4, err := netip.ParsePrefix(f.cidr)
	if err != nil || !p4.Addr().Is4() || p4.Bits() < 1 || p4.Bits() > 25 {
		return c, fmt.Errorf("--cidr %s: want an IPv4 network of 1 to 25 bits", f.cidr)
	}
	c.Networks = []guest.Network{guest.Slirp4(p4)}
	if !f.only4 {
		p6, err := netip.ParsePrefix(f.cidr6)
		if err != nil || !p6.Addr().Is6() || p6.Bits() > 112 {
			return c, fmt.Errorf("--cidr6 %s: want an IPv6 network of at most 112 bits", f.cidr6)
		}
		c.Networks = append(c.Networks, slirp6(p6))
	}
	for k := range c.Networks {
		if f.noDNS {
			c.Networks[k].DNS = netip.Addr{}
		}
	}
	if f.hostLoopback {
		c.Relay.HostLoopback = loopbackAt(c.Networks)
	}
	if f.mac != "" {
		if c.Addr, err = net.ParseMAC(f.mac); err != nil {
			return c, fmt.Errorf("--mac: %w", err)
		}
	}
	for _, o := range f.outbound {
		a, err := netip.ParseAddr(o)
		if err != nil {
			return c, fmt.Errorf("--outbound: %w", err)
		}
		if a.Is4() {
			c.Relay.Outbound4 = a
		} else {
			c.Relay.Outbound6 = a
		}
	}
	return c, nil
}

func slirp6(p netip.Prefix) guest.Network {
	at := func(hi, lo byte) netip.Addr {
		b := p.Masked().Addr().As16()
		b[14], b[15] = hi, lo
		return netip.AddrFrom16(b)
	}
	return guest.Network{Guest: netip.PrefixFrom(at(1, 0), p.Bits()), Gateway: at(0, 2), DNS: at(0, 3)}
}

// loopbackAt lets the gateways lead to the host's loopback.
func loopbackAt(nets []guest.Network) map[netip.Addr]netip.Addr {
	m := make(map[netip.Addr]netip.Addr)
	for _, n := range nets {
		if n.Gateway.Is4() {
			m[n.Gateway] = netip.MustParseAddr("127.0.0.1")
		} else {
			m[n.Gateway] = netip.IPv6Loopback()
		}
	}
	return m
}

// forwards opens the ports that the flags ask for and returns what follows.
func (f *guestFlags) forwards(g *guest.Guest, nets []guest.Network) (guest.Auto, error) {
	return openForwards(g, nets, f.tcp, f.udp)
}

// openForwards opens ports by their specifications.
func openForwards(g *guest.Guest, nets []guest.Network, tcp, udp []string) (guest.Auto, error) {
	auto := guest.Auto{}
	for _, n := range nets {
		if n.Gateway.Is4() {
			auto.Gateway4 = n.Gateway
			auto.Bind = append(auto.Bind, netip.IPv4Unspecified())
		} else {
			auto.Gateway6 = n.Gateway
			auto.Bind = append(auto.Bind, netip.IPv6Unspecified())
		}
	}
	for _, k := range []struct {
		proto  string
		specs  []string
		on     *bool
		except *guest.PortSet
	}{{"tcp", tcp, &auto.TCP, &auto.ExceptTCP}, {"udp", udp, &auto.UDP, &auto.ExceptUDP}} {
		for _, s := range k.specs {
			spec, err := guest.ParsePorts(s)
			if err != nil {
				return auto, err
			}
			if spec.Auto {
				*k.on = true
				*k.except = spec.Except
			}
			if err := addForwards(g, nets, k.proto, spec.Ports); err != nil {
				return auto, err
			}
		}
	}
	return auto, nil
}

func addForwards(g *guest.Guest, nets []guest.Network, proto string, ports []guest.Port) error {
	for _, p := range ports {
		done := 0
		for _, n := range nets {
			w := relay.Forward{Proto: proto, Device: p.Device, Guest: netip.AddrPortFrom(n.Guest.Addr(), p.Guest), Gateway: n.Gateway, Shut: true}
			host := p.Addr
			switch {
			case !host.IsValid() && n.Gateway.Is4():
				host = netip.IPv4Unspecified()
			case !host.IsValid():
				host = netip.IPv6Unspecified()
			case host.Is4() != n.Gateway.Is4():
				continue
			}
			w.Host = netip.AddrPortFrom(host, p.Host)
			if _, err := g.Relay.AddForward(w); err != nil {
				if !p.Addr.IsValid() && done > 0 { // a host without IPv6
					continue
				}
				return err
			}
			done++
		}
		if done == 0 {
			return fmt.Errorf("port %d of %v: the namespace has no address of that version", p.Host, p.Addr)
		}
	}
	return nil
}

func init() {
	register(func(a *app) *cobra.Command {
		f := &guestFlags{readyFD: -1, exit: -1}
		c := &cobra.Command{
			Use:   "attach PID|NETNS [INTERFACE]",
			Short: "Give a network namespace a way out through this host's sockets",
			Long: `Make a TAP in a namespace that exists, named by a process, a path or a name of
ip-netns(8), and carry its TCP, UDP and echo requests through sockets of this
host. No root is needed for a namespace of one's own. It runs until the process
or the namespace is gone.

The host's loopback cannot be reached unless --host-loopback says so.`,
			Example: `  taproom attach 12345
  taproom attach /run/user/1000/netns/web -t 8080:80 -u auto`,
			Args: cobra.RangeArgs(1, 2),
			RunE: func(c *cobra.Command, args []string) error { return a.attach(c, f, args) },
		}
		f.add(c)
		s := c.Flags()
		s.BoolVar(&f.noConfigure, "no-configure", false, "leave addresses and routes to somebody inside (DHCP, router advertisements)")
		s.IntVarP(&f.readyFD, "ready-fd", "r", -1, "descriptor to write 1 to when the network works")
		s.IntVarP(&f.exit, "exit-fd", "e", -1, "descriptor that ends this when it hangs up")
		return c
	})
}

func (a *app) attach(cmd *cobra.Command, f *guestFlags, args []string) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	c, err := f.config()
	if err != nil {
		return err
	}
	if len(args) > 1 {
		c.Interface = args[1]
	}
	gone, err := openNamespace(ctx, &c, args[0])
	if err != nil {
		return err
	}
	g, err := guest.Open(c)
	if err != nil {
		_ = c.Namespace.Close()
		return err
	}
	defer g.Close()
	auto, err := f.forwards(g, c.Networks)
	_ = c.Namespace.Close()
	if err != nil {
		return err
	}
	control, err := serveFlows(g)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := a.printGuest(cmd, g, c); err != nil {
		return err
	}
	if err := signalReady(f.readyFD); err != nil {
		return err
	}
	confine(true)
	go g.Run(ctx, auto)
	var hung <-chan struct{}
	if f.exit >= 0 {
		hung = guest.WatchFile(ctx, os.NewFile(uintptr(f.exit), "exit"))
	}
	select {
	case <-ctx.Done():
	case <-gone:
	case <-hung:
	}
	return nil
}

// openNamespace opens what an argument names and returns a channel that is
// closed when it is gone.
func openNamespace(ctx context.Context, c *guest.Config, name string) (gone <-chan struct{}, err error) {
	if pid, err := strconv.Atoi(name); err == nil {
		if c.Namespace, err = netns.OpenPID(pid); err != nil {
			return nil, err
		}
		return guest.WatchPID(ctx, pid)
	}
	if c.Namespace, err = netns.Open(name); err != nil {
		return nil, err
	}
	if !strings.ContainsRune(name, '/') {
		name = netns.Dir + "/" + name
	}
	return watchPath(ctx, name)
}

// watchPath watches a path of a namespace: the process, if it is one of /proc.
func watchPath(ctx context.Context, path string) (<-chan struct{}, error) {
	if rest, ok := strings.CutPrefix(path, "/proc/"); ok {
		id, _, _ := strings.Cut(rest, "/")
		if pid, err := strconv.Atoi(id); err == nil && !strings.Contains(rest, "/root/") {
			return guest.WatchPID(ctx, pid)
		}
	}
	return guest.WatchPath(ctx, path)
}

// printGuest says what the namespace has got.
func (a *app) printGuest(cmd *cobra.Command, g *guest.Guest, c guest.Config) error {
	w := cmd.OutOrStdout()
	type network struct {
		Address string `json:"address"`
		Gateway string `json:"gateway"`
		DNS     string `json:"dns,omitempty"`
	}
	var nets []network
	for _, n := range c.Networks {
		v := network{Address: n.Guest.String(), Gateway: n.Gateway.String()}
		if n.DNS.IsValid() {
			v.DNS = n.DNS.String()
		}
		nets = append(nets, v)
	}
	if a.json {
		return printJSON(w, struct {
			Interface string          `json:"interface"`
			MTU       int             `json:"mtu"`
			Offloads  string          `json:"offloads"`
			Networks  []network       `json:"networks"`
			Forwards  []relay.Forward `json:"forwards,omitempty"`
		}{g.Info.Name, c.MTU, g.Info.Offloads.String(), nets, g.Relay.Forwards()})
	}
	for _, n := range nets {
		fmt.Fprintf(w, "%s %s via %s\n", g.Info.Name, n.Address, n.Gateway)
	}
	for _, n := range nets {
		if n.DNS != "" {
			fmt.Fprintf(w, "for its /etc/resolv.conf: nameserver %s\n", n.DNS)
			break
		}
	}
	return nil
}

// signalReady tells whoever waits that the network works.
func signalReady(fd int) error {
	if fd < 0 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	if f == nil {
		return fmt.Errorf("ready descriptor %d is not open", fd)
	}
	_, err := f.WriteString("1")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("ready descriptor: %w", err)
	}
	return nil
}

// resolverFiles is where the host's resolver is looked up.
var resolverFiles = []string{"/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"}

// confine gives up what is not needed any more. It is defence in depth: what
// the kernel lacks is done without.
func confine(seccomp bool) {
	_ = guest.Confine(guest.Confinement{BindPorts: true, Seccomp: seccomp, Files: resolverFiles})
}
