package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"taproom/stack/lab/plan"
	"taproom/tap/netns"
)

// The operations that a namespace is worked with, beside those of netns. They
// run on a thread in it, or in an agent (see netns.Op).
const (
	opUnconfigure = "lab.unconfigure"
	opNeighbour   = "lab.neighbour"
	opListens     = "lab.listens"
	opTables      = "lab.tables"
)

func init() {
	register(opUnconfigure, func(c netns.Config) (any, error) { return nil, unconfigure(c) })
	register(opNeighbour, func(n neighbour) (any, error) { return nil, n.set() })
	register(opListens, func(port int) (any, error) { return listens(port), nil })
	register(opTables, func(struct{}) (any, error) { return readTables() })
}

// register makes an operation of a function with typed arguments.
func register[A any](name string, f func(A) (any, error)) {
	netns.Register(name, func(raw json.RawMessage) (any, []*os.File, error) {
		var a A
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, nil, fmt.Errorf("lab: arguments of %s: %w", name, err)
		}
		reply, err := f(a)
		return reply, nil, err
	})
}

// configureNamespace sets or removes a resource of a namespace.
func configureNamespace(ns *netns.Namespace, r plan.Resource, remove bool) error {
	var c netns.Config
	switch r := r.(type) {
	case plan.Sysctl:
		c.Sysctls = map[string]string{r.Name: r.Value}
	case plan.Address:
		c.Links = []netns.Link{{Name: r.At.Interface, Addrs: []netip.Prefix{r.Prefix}}}
	case plan.Neighbour:
		_, err := ns.Call(opNeighbour, neighbour{r.At.Interface, r.Address, string(r.MAC), remove}, nil)
		return err
	case plan.Route:
		if r.Kind != "" {
			_, err := ns.Call(opKindRoute, kindRoute{r.Prefix, r.Kind, r.Metric, remove}, nil)
			return err
		}
		c.Routes = []netns.Route{{Dst: r.Prefix, Via: r.Via, Dev: r.Dev, Metric: r.Metric, MTU: r.MTU}}
	default:
		return fmt.Errorf("a namespace has no %T", r)
	}
	if !remove {
		return ns.Configure(c)
	}
	_, err := ns.Call(opUnconfigure, c, nil)
	return err
}

// unconfigure removes addresses and routes. What is gone already is fine: the
// kernel removes routes with addresses.
func unconfigure(c netns.Config) error {
	var errs []error
	for _, l := range c.Links {
		link, err := netlink.LinkByName(l.Name)
		if err != nil {
			return fmt.Errorf("lab: link %q: %w", l.Name, err)
		}
		for _, p := range l.Addrs {
			errs = append(errs, ignore(netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)}), unix.EADDRNOTAVAIL))
		}
	}
	for _, r := range c.Routes {
		route := &netlink.Route{Dst: ipNet(r.Dst), Priority: r.Metric, Gw: r.Via.AsSlice()}
		errs = append(errs, ignore(netlink.RouteDel(route), unix.ESRCH))
	}
	return errors.Join(errs...)
}

func ignore(err, fine error) error {
	if errors.Is(err, fine) {
		return nil
	}
	return err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

const opKindRoute = "lab.kindroute"

func init() {
	register(opKindRoute, func(r kindRoute) (any, error) { return nil, r.set() })
}

// kindRoute is a route that leads nowhere.
type kindRoute struct {
	Prefix netip.Prefix
	Kind   string
	Metric int
	Remove bool
}

func (k kindRoute) set() error {
	types := map[string]int{"blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT}
	r := &netlink.Route{Dst: ipNet(k.Prefix), Type: types[k.Kind], Priority: k.Metric}
	if k.Remove {
		return ignore(netlink.RouteDel(r), unix.ESRCH)
	}
	return netlink.RouteReplace(r)
}

// neighbour is a permanent entry of a neighbour table.
type neighbour struct {
	Dev    string
	Addr   netip.Addr
	MAC    string
	Remove bool
}

func (n neighbour) set() error {
	link, err := netlink.LinkByName(n.Dev)
	if err != nil {
		return fmt.Errorf("lab: link %q: %w", n.Dev, err)
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return fmt.Errorf("lab: neighbour %v: %w", n.Addr, err)
	}
	family := unix.AF_INET
	if n.Addr.Is6() {
		family = unix.AF_INET6
	}
	e := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: n.Addr.AsSlice(), HardwareAddr: mac}
	if n.Remove {
		return ignore(netlink.NeighDel(e), unix.ENOENT)
	}
	return netlink.NeighSet(e)
}

// listens reports whether a TCP socket of the namespace listens on a port
// (proc_net_tcp: state 0A).
func listens(port int) bool {
	want := fmt.Sprintf(":%04X", port)
	for _, f := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], want) {
				return true
			}
		}
	}
	return false
}

// tables are a namespace's interfaces, routes and neighbours, for listings.
type tables struct {
	Interfaces []InterfaceStatus
	Routes     []RouteStatus
	Neighbours []NeighbourStatus
}

func readTables() (t tables, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return t, fmt.Errorf("lab: list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		i := InterfaceStatus{Name: a.Name, Index: a.Index, MTU: a.MTU, MAC: a.HardwareAddr.String(), Up: a.Flags&net.FlagUp != 0}
		if s := a.Statistics; s != nil {
			i.Counters.RxPackets, i.Counters.RxBytes, i.Counters.RxDrops = s.RxPackets, s.RxBytes, s.RxDropped
			i.Counters.TxPackets, i.Counters.TxBytes, i.Counters.TxDrops = s.TxPackets, s.TxBytes, s.TxDropped
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return t, fmt.Errorf("lab: list addresses: %w", err)
		}
		for _, ad := range addrs {
			i.Addresses = append(i.Addresses, ad.IPNet.String())
		}
		t.Interfaces = append(t.Interfaces, i)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		// The main table alone, as `ip route` shows it.
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return t, fmt.Errorf("lab: list routes: %w", err)
		}
		for _, r := range routes {
			t.Routes = append(t.Routes, routeStatus(r, names, family))
		}
		neighs, err := netlink.NeighList(0, family)
		if err != nil {
			return t, fmt.Errorf("lab: list neighbours: %w", err)
		}
		for _, n := range neighs {
			if n.State&(unix.NUD_NOARP) == 0 {
				t.Neighbours = append(t.Neighbours, NeighbourStatus{Address: n.IP.String(), Dev: names[n.LinkIndex], MAC: n.HardwareAddr.String(), State: neighbourState(n.State)})
			}
		}
	}
	return t, nil
}

func routeStatus(r netlink.Route, names map[int]string, family int) RouteStatus {
	s := RouteStatus{Dev: names[r.LinkIndex], Metric: r.Priority}
	if r.Gw != nil {
		s.Via = r.Gw.String()
	}
	switch {
	case r.Dst != nil:
		s.To = r.Dst.String()
	case family == unix.AF_INET6:
		s.To = "::/0"
	default:
		s.To = "0.0.0.0/0"
	}
	if r.Type != unix.RTN_UNICAST {
		s.Kind = map[int]string{unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit"}[r.Type]
	}
	return s
}

// neighbourState names the states of rtnetlink(7).
func neighbourState(s int) string {
	for _, n := range []struct {
		bit  int
		name string
	}{
		{unix.NUD_INCOMPLETE, "incomplete"}, {unix.NUD_REACHABLE, "reachable"}, {unix.NUD_STALE, "stale"},
		{unix.NUD_DELAY, "delay"}, {unix.NUD_PROBE, "probe"}, {unix.NUD_FAILED, "failed"}, {unix.NUD_PERMANENT, "permanent"},
	} {
		if s&n.bit != 0 {
			return n.name
		}
	}
	return strconv.Itoa(s)
}
