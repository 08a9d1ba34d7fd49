package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"taproom/stack/relay/guest"
	"taproom/tap/netns"
)

// What a namespace copies from the host: of the interface with the default
// route its name, addresses and routes.

// hostNetwork is the host's network in one version of IP.
type hostNetwork struct {
	link    netlink.Link
	addr    netip.Prefix
	gateway netip.Addr
	more    []netip.Prefix
	routes  []netns.Route
}

var errNoDefault = errors.New("no interface with a default route")

func readHost(family int, ifname string) (h hostNetwork, err error) {
	routes, err := netlink.RouteList(nil, family)
	if err != nil {
		return h, err
	}
	index := 0
	if ifname != "" {
		l, err := netlink.LinkByName(ifname)
		if err != nil {
			return h, fmt.Errorf("Invalid interface name %s: %w", ifname, err) // their words
		}
		index = l.Attrs().Index
	}
	for _, r := range routes {
		gw, ok := netip.AddrFromSlice(r.Gw)
		if isDefault(r) && ok && (index == 0 || r.LinkIndex == index) {
			index, h.gateway = r.LinkIndex, gw.Unmap()
			break
		}
	}
	if index == 0 {
		return h, errNoDefault
	}
	if h.link, err = netlink.LinkByIndex(index); err != nil {
		return h, err
	}
	addrs, err := netlink.AddrList(h.link, family)
	if err != nil {
		return h, err
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		p := netip.PrefixFrom(ip.Unmap(), ones)
		switch {
		case a.Scope == unix.RT_SCOPE_LINK || ip.IsLinkLocalUnicast():
		case !h.addr.IsValid():
			h.addr = p
		default:
			h.more = append(h.more, p)
		}
	}
	if !h.addr.IsValid() {
		return h, errNoDefault
	}
	if !h.gateway.IsValid() {
		h.gateway = h.addr.Masked().Addr().Next()
	}
	h.copyRoutes(routes, index)
	return h, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// copyRoutes keeps the routes of the interface, those on its link first, since
// others need them.
func (h *hostNetwork) copyRoutes(routes []netlink.Route, index int) {
	for _, r := range routes {
		if r.LinkIndex != index || r.Protocol == unix.RTPROT_KERNEL || r.Table != 0 && r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		n := netns.Route{Metric: r.Priority}
		if gw, ok := netip.AddrFromSlice(r.Gw); ok {
			n.Via = gw.Unmap()
		}
		n.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if h.addr.Addr().Is6() {
			n.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if !isDefault(r) {
			ones, _ := r.Dst.Mask.Size()
			ip, ok := netip.AddrFromSlice(r.Dst.IP)
			if !ok || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
				continue
			}
			n.Dst = netip.PrefixFrom(ip.Unmap(), ones)
		}
		h.routes = append(h.routes, n)
	}
	slices.SortStableFunc(h.routes, func(a, b netns.Route) int {
		return boolInt(a.Via.IsValid()) - boolInt(b.Via.IsValid())
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// config is the configuration that the options and the host make.
func (o *pastaOptions) config() (guest.Config, error) {
	c := guest.Config{MTU: o.mtu, Interface: o.ifname, Addr: o.mac, Configure: o.configNet || o.command != nil, Follow: true, Search: o.search, Resolvers: o.dns}
	c.Relay.Proxy = true
	c.Relay.HostLoopback = make(map[netip.Addr]netip.Addr)
	c.Services.NoDHCP4, c.Services.NoDHCP6, c.Services.NoRA = o.noDHCP, o.noDHCP6, o.noRA
	for _, v := range []struct {
		family   int
		off      bool
		loopback string
		local    guest.Network
	}{
		{netlink.FAMILY_V4, o.only6, "127.0.0.1", guest.Network{Guest: netip.MustParsePrefix("169.254.2.1/16"), Gateway: netip.MustParseAddr("169.254.2.2")}},
		{netlink.FAMILY_V6, o.only4, "::1", guest.Network{}},
	} {
		if v.off {
			continue
		}
		h, err := readHost(v.family, o.hostIf)
		given := pick(o.addrs, v.family).IsValid()
		switch {
		case errors.Is(err, errNoDefault) && (v.local.Guest.IsValid() || given):
			h.addr, h.gateway = v.local.Guest, v.local.Gateway
		case errors.Is(err, errNoDefault):
			continue
		case err != nil:
			return c, err
		}
		if err := o.addNetwork(&c, h, v.family, netip.MustParseAddr(v.loopback)); err != nil {
			return c, err
		}
	}
	if len(c.Networks) == 0 {
		return c, errors.New("External interface not usable") // their words
	}
	return c, o.addOutbound(&c)
}

// pick is the address of a version among those given for either.
func pick(list []netip.Addr, family int) netip.Addr {
	for _, a := range list {
		if a.Is6() == (family == netlink.FAMILY_V6) {
			return a
		}
	}
	return netip.Addr{}
}

// addNetwork adds the network of one version.
func (o *pastaOptions) addNetwork(c *guest.Config, h hostNetwork, family int, loopback netip.Addr) error {
	n := guest.Network{Guest: h.addr, Gateway: h.gateway, DNS: pick(o.dnsForward, family)}
	host := h.addr.Addr()
	custom := false
	if a := pick(o.addrs, family); a.IsValid() {
		bits := map[bool]int{false: 24, true: 64}[a.Is6()]
		if h.addr.IsValid() && h.addr.Contains(a) {
			bits = h.addr.Bits()
		}
		if a.Is4() && o.mask != "" {
			var err error
			if bits, err = parseMask(o.mask); err != nil {
				return err
			}
		}
		n.Guest, custom = netip.PrefixFrom(a, bits), true
	}
	if g := pick(o.gateways, family); g.IsValid() {
		n.Gateway, custom = g, true
	}
	if !n.Gateway.IsValid() || n.Gateway == n.Guest.Addr() {
		n.Gateway = n.Guest.Masked().Addr().Next()
	}
	if c.Interface == "" && h.link != nil {
		c.Interface = h.link.Attrs().Name
	}
	if !custom && h.link != nil && (len(h.routes) > 0) {
		c.Routes = append(c.Routes, h.routes...)
		c.Addresses = append(c.Addresses, h.more...)
	} else {
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if n.Gateway.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if !n.Guest.Contains(n.Gateway) {
			c.Routes = append(c.Routes, netns.Route{Dst: netip.PrefixFrom(n.Gateway, n.Gateway.BitLen())})
		}
		c.Routes = append(c.Routes, netns.Route{Dst: dst, Via: n.Gateway})
	}
	switch {
	case pick(o.mapHost, family).IsValid():
		c.Relay.HostLoopback[pick(o.mapHost, family)] = loopback
	case !o.noMapGW:
		c.Relay.HostLoopback[n.Gateway] = loopback
	}
	if a := pick(o.mapGuest, family); a.IsValid() && host.IsValid() && h.link != nil {
		c.Relay.HostLoopback[a] = host
	}
	c.Networks = append(c.Networks, n)
	return nil
}

// addOutbound says where flows leave the host, and completes the routes.
func (o *pastaOptions) addOutbound(c *guest.Config) error {
	if c.Interface == "" {
		c.Interface = "tap0"
	}
	for k := range c.Routes {
		c.Routes[k].Dev = c.Interface
	}
	c.Relay.Outbound4, c.Relay.Outbound6 = pick(o.outbound, netlink.FAMILY_V4), pick(o.outbound, netlink.FAMILY_V6)
	var err error
	if o.outIf4 != "" && !c.Relay.Outbound4.IsValid() {
		if c.Relay.Outbound4, err = outbound(o.outIf4, "--outbound-if4", false); err != nil {
			return err
		}
	}
	if o.outIf6 != "" && !c.Relay.Outbound6.IsValid() {
		c.Relay.Outbound6, err = outbound(o.outIf6, "--outbound-if6", true)
	}
	return err
}
