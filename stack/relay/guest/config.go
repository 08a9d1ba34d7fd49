package guest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"taproom/stack/relay"
	"taproom/stack/relay/dhcp"
	"taproom/tap/netns"
)

// Network is the namespace's network in one version of IP.
type Network struct {
	Guest   netip.Prefix // the namespace's address, with the prefix length
	Gateway netip.Addr   // the node's
	DNS     netip.Addr   // stands for the host's resolver; invalid for none
}

// Config says how a namespace is to be served. Namespace and a network are
// required.
type Config struct {
	Namespace *netns.Namespace // stays the caller's, and is not used after Open
	Interface string           // "" is tap0; an existing TAP device is taken over
	MTU       int              // 0 is 65520
	Addr      net.HardwareAddr // of the interface inside; nil is the kernel's choice
	Networks  []Network        // at most one for each version
	// Configure gives the interface inside its addresses and routes, and brings
	// it and lo up. Otherwise somebody else does, perhaps by asking Services.
	Configure bool
	// Routes, if any, are those inside in place of a default route through each
	// gateway; Addresses are further addresses.
	Routes    []netns.Route
	Addresses []netip.Prefix
	// Services are what is answered inside; addresses and names of servers are
	// filled in from Networks where they are missing.
	Services dhcp.Services
	// Resolvers and Search are told inside (DHCP, router advertisements) beside
	// the networks' DNS.
	Resolvers []netip.Addr
	Search    []string
	// Follow lets Listeners and Auto work.
	Follow bool
	// Relay is passed on; Interface and DNS are set here.
	Relay relay.Config
}

// DefaultMTU is the largest that leaves room for a link header in 64 KiB,
// rounded down to a multiple of 4.
const DefaultMTU = 65520

// ErrConfig is wrapped by every error about a Config.
var ErrConfig = errors.New("guest: invalid configuration")

func (c *Config) setDefaults() error {
	if c.Interface == "" {
		c.Interface = "tap0"
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if len(c.Networks) == 0 {
		return fmt.Errorf("%w: no network", ErrConfig)
	}
	seen := map[bool]bool{}
	for _, n := range c.Networks {
		v6 := n.Guest.Addr().Is6()
		switch {
		case !n.Guest.IsValid() || !n.Gateway.IsValid():
			return fmt.Errorf("%w: network %v has no address or no gateway", ErrConfig, n.Guest)
		case n.Gateway.Is6() != v6:
			return fmt.Errorf("%w: network %v has gateway %v", ErrConfig, n.Guest, n.Gateway)
		case n.Gateway == n.Guest.Addr():
			return fmt.Errorf("%w: %v is the namespace's address and its gateway's", ErrConfig, n.Gateway)
		case seen[v6]:
			return fmt.Errorf("%w: two networks of one version", ErrConfig)
		}
		seen[v6] = true
	}
	return nil
}

// Slirp4 is the network that slirp programs give: .2 is the gateway, .3 the
// resolver, .100 the namespace.
func Slirp4(cidr netip.Prefix) Network {
	at := func(n byte) netip.Addr {
		b := cidr.Masked().Addr().As4()
		b[3] += n
		return netip.AddrFrom4(b)
	}
	return Network{Guest: netip.PrefixFrom(at(100), cidr.Bits()), Gateway: at(2), DNS: at(3)}
}

// The networks that namespaces get unless they ask for others.
var (
	Default4 = Slirp4(netip.MustParsePrefix("10.0.2.0/24"))
	Default6 = Network{
		Guest: netip.MustParsePrefix("fd00::100/64"), Gateway: netip.MustParseAddr("fd00::2"), DNS: netip.MustParseAddr("fd00::3"),
	}
)
