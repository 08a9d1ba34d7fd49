package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config is a wish for the state of a namespace. Configure adds what is not
// there and changes what differs; what the Config does not speak of stays.
type Config struct {
	Loopback bool              // bring lo up
	Sysctls  map[string]string // "net.ipv4.ip_forward": "1"; set before the links
	Links    []Link
	Routes   []Route
}

// Link is the wish for one interface that exists already.
type Link struct {
	Name     string
	MTU      int            // bytes, 0: leave it
	Addr     string         // MAC address, "": leave it
	QueueLen int            // txqueuelen in frames, 0: leave it
	Addrs    []netip.Prefix // added; IPv6 without duplicate address detection
	Up       bool
	Down     bool
}

// Route is the wish for one route in the main table.
type Route struct {
	Dst    netip.Prefix // 0.0.0.0/0 or ::/0 for the default route
	Via    netip.Addr   // zero: on link
	Dev    string       // may be empty with Via
	Src    netip.Addr   // preferred source, zero: the kernel's choice
	Metric int
	MTU    int
}

const (
	opConfigure = "netns.configure"
	opLink      = "netns.link"
)

func init() {
	Register(opConfigure, func(raw json.RawMessage) (any, []*os.File, error) {
		var c Config
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, nil, fmt.Errorf("netns: configuration: %w", err)
		}
		return nil, nil, configure(c)
	})
	Register(opLink, func(raw json.RawMessage) (any, []*os.File, error) {
		var name string
		if err := json.Unmarshal(raw, &name); err != nil {
			return nil, nil, fmt.Errorf("netns: link name: %w", err)
		}
		s, err := linkState(name)
		return s, nil, err
	})
}

// Configure carries out c in the namespace. It goes on after an error where it
// can, and returns all of them; each names the interface, address or route.
func (n *Namespace) Configure(c Config) error {
	_, err := n.Call(opConfigure, c, nil)
	return err
}

// LinkState is what the kernel says about an interface.
type LinkState struct {
	Index    int
	Name     string
	MTU      int
	Addr     string // MAC address, empty for TUN
	Up       bool
	Queues   int
	Counters Counters
}

// Counters are the kernel's counters of an interface, from the kernel's side:
// what a TAP's reader gets is Tx here, and TxDropped is what it was too slow
// for.
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxDropped, TxDropped, RxErrors, TxErrors uint64
}

// Link returns the state of an interface in the namespace.
func (n *Namespace) Link(name string) (LinkState, error) {
	var s LinkState
	_, err := n.Call(opLink, name, &s)
	return s, err
}

func linkState(name string) (LinkState, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return LinkState{}, fmt.Errorf("netns: link %q: %w", name, err)
	}
	a := l.Attrs()
	s := LinkState{Index: a.Index, Name: a.Name, MTU: a.MTU, Addr: a.HardwareAddr.String(),
		Up: a.Flags&net.FlagUp != 0, Queues: a.NumTxQueues}
	if t := a.Statistics; t != nil {
		s.Counters = Counters{t.RxPackets, t.TxPackets, t.RxBytes, t.TxBytes, t.RxDropped, t.TxDropped, t.RxErrors, t.TxErrors}
	}
	return s, nil
}

// configure works in the namespace of the calling thread.
func configure(c Config) error {
	var errs []error
	keys := make([]string, 0, len(c.Sysctls))
	for k := range c.Sysctls {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		errs = append(errs, setSysctl(k, c.Sysctls[k]))
	}
	// The handle's socket belongs to the namespace of the thread that opens it.
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("netns: netlink: %w", err))...)
	}
	defer h.Close()
	if c.Loopback {
		errs = append(errs, configureLink(h, Link{Name: "lo", Up: true}))
	}
	for _, l := range c.Links {
		errs = append(errs, configureLink(h, l))
	}
	for _, r := range c.Routes {
		errs = append(errs, addRoute(h, r))
	}
	return errors.Join(errs...)
}

// setSysctl writes a value below /proc/sys. Dots separate, and a slash stands
// for a dot in an interface name, as in sysctl.d(5).
func setSysctl(key, value string) error {
	path := strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
	if !filepath.IsLocal(path) {
		return fmt.Errorf("netns: invalid sysctl %q", key)
	}
	f, err := os.OpenFile(filepath.Join("/proc/sys", path), os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("netns: sysctl %s: %w", key, err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("netns: sysctl %s = %q: %w", key, value, err)
	}
	return nil
}

func configureLink(h *netlink.Handle, l Link) error {
	link, err := h.LinkByName(l.Name)
	if err != nil {
		return fmt.Errorf("netns: link %q: %w", l.Name, err)
	}
	var errs []error
	fail := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("netns: link %q: %s: %w", l.Name, what, err))
		}
	}
	if l.Addr != "" {
		mac, err := net.ParseMAC(l.Addr)
		if err == nil {
			err = h.LinkSetHardwareAddr(link, mac)
		}
		fail("MAC address "+l.Addr, err)
	}
	if l.MTU > 0 && l.MTU != link.Attrs().MTU {
		fail(fmt.Sprintf("MTU %d", l.MTU), h.LinkSetMTU(link, l.MTU))
	}
	if l.QueueLen > 0 && l.QueueLen != link.Attrs().TxQLen {
		fail(fmt.Sprintf("queue length %d", l.QueueLen), h.LinkSetTxQLen(link, l.QueueLen))
	}
	for _, p := range l.Addrs {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		fail("address "+p.String(), h.AddrReplace(link, a))
	}
	if l.Up {
		fail("up", h.LinkSetUp(link))
	}
	if l.Down {
		fail("down", h.LinkSetDown(link))
	}
	return errors.Join(errs...)
}

func addRoute(h *netlink.Handle, r Route) error {
	fail := func(err error) error {
		return fmt.Errorf("netns: route %s via %s dev %q: %w", r.Dst, r.Via, r.Dev, err)
	}
	route := &netlink.Route{Dst: ipNet(r.Dst.Masked()), Priority: r.Metric, MTU: r.MTU, Scope: netlink.SCOPE_UNIVERSE}
	if r.Via.IsValid() {
		if r.Via.Is6() != r.Dst.Addr().Is6() {
			route.Via = &netlink.Via{AddrFamily: family(r.Via), Addr: r.Via.AsSlice()}
		} else {
			route.Gw = r.Via.AsSlice()
		}
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if r.Src.IsValid() {
		route.Src = r.Src.AsSlice()
	}
	if r.Dev != "" {
		l, err := h.LinkByName(r.Dev)
		if err != nil {
			return fail(err)
		}
		route.LinkIndex = l.Attrs().Index
	}
	if err := h.RouteReplace(route); err != nil {
		return fail(err)
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
