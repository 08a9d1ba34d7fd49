package relay

import (
	"errors"
	"net/netip"
	"time"
)

// Config says whom a relay serves and how. Interface is required; the zero
// value of the rest is a relay without DNS that reaches everything but the
// host's loopback.
type Config struct {
	// Interface is the node's interface towards the container.
	Interface int
	// DNS are addresses that stand for the host's resolver: what comes to port 53
	// of one of them goes to Resolver, and nothing else is behind them.
	DNS []netip.Addr
	// Resolver returns the address queries go to; nil reads /etc/resolv.conf.
	Resolver func() (netip.AddrPort, error)
	// HostLoopback maps addresses that containers use to the host's loopback
	// (10.0.2.2 to 127.0.0.1). Empty: the host's loopback cannot be reached.
	HostLoopback map[netip.Addr]netip.Addr
	// Proxy relays also what is for the node's own addresses and for their
	// network: for a container that has the host's address, and neighbours that
	// are the host's.
	Proxy bool
	// Outbound4 and Outbound6 are the host's addresses to send from; invalid
	// leaves it to the host.
	Outbound4, Outbound6 netip.Addr
	Limits               Limits
	// Now is the clock of timeouts; nil is the system's.
	Now func() time.Time
}

// Limits bound what a container can make the relay hold. Zero values are the
// defaults.
type Limits struct {
	TCP        int           // connections, 16384
	InFlight   int           // of them being made, 1024
	UDP        int           // flows, 4096
	Echo       int           // flows, 256
	UDPTimeout time.Duration // 60 s; 180 s once both sides have talked twice
	Connect    time.Duration // for a host connection, 30 s
}

func (c *Config) setDefaults() error {
	if c.Interface == 0 {
		return errors.New("relay: Config.Interface is missing")
	}
	l := &c.Limits
	for _, d := range []struct {
		v *int
		n int
	}{{&l.TCP, 16384}, {&l.InFlight, 1024}, {&l.UDP, 4096}, {&l.Echo, 256}} {
		if *d.v == 0 {
			*d.v = d.n
		}
	}
	if l.UDPTimeout == 0 {
		l.UDPTimeout = time.Minute
	}
	if l.Connect == 0 {
		l.Connect = 30 * time.Second
	}
	if c.Resolver == nil {
		c.Resolver = new(hostResolver).address
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
