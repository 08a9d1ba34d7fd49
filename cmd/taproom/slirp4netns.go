package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"taproom/cmd/taproom/control"
	"taproom/stack/relay/guest"
	"taproom/tap/netns"
)

// The personality of slirp4netns 1.2: its options, descriptors, API socket,
// exit statuses and the network it gives, for Podman, RootlessKit and people.

func init() {
	registerPersonality("slirp4netns", "Be slirp4netns: the same options, descriptors and API", slirp4netns)
}

const slirpHelp = `Usage: slirp4netns [OPTION]... PID|PATH [TAPNAME]
Network of a namespace through this host's sockets, without privilege.

-c, --configure          bring up the interface
-e, --exit-fd=FD         end when this descriptor hangs up
-r, --ready-fd=FD        write 1 to this descriptor when the network works
-m, --mtu=MTU            set the MTU (default=1500, max=65521)
-6, --enable-ipv6        enable IPv6
-a, --api-socket=PATH    socket to add and remove port forwards by
--cidr=CIDR              network inside (default=10.0.2.0/24)
--disable-host-loopback  keep the gateway from leading to the host's 127.0.0.1
--netns-type=TYPE        what the target is ([path|pid], default=pid)
--userns-path=PATH       user namespace to enter first
--enable-sandbox         give up the view of files and all capabilities but CAP_NET_BIND_SERVICE
--enable-seccomp         refuse system calls that are not needed
--outbound-addr=IPv4     host address or interface to send from
--outbound-addr6=IPv6    host address or interface to send from
--disable-dns            no resolver inside
--macaddress=MAC         link address inside (only with -c)
--target-type=TYPE       kind of target (netns)
-h, --help               show this help and exit
-v, --version            show version and exit
`

// slirpOptions are the options as they were given.
type slirpOptions struct {
	guestFlags
	configure, ipv6, path, noLoopback, seccomp, help, version bool
	api, userns                                               string
	target, tap                                               string
	outbound4, outbound6                                      netip.Addr
}

func slirp4netns(args []string) int {
	o, err := parseSlirp(args)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		if usage.msg != "" {
			fmt.Fprintln(os.Stderr, usage.msg)
		}
		fmt.Fprint(os.Stderr, slirpHelp)
		return 1
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case o.help:
		fmt.Print(slirpHelp)
		return 0
	case o.version:
		fmt.Printf("slirp4netns version 1.2.0 (taproom %s)\nlibslirp: none\nSLIRP_CONFIG_VERSION_MAX: 4\nlibseccomp: none\n", control.Version)
		return 0
	}
	if err := o.serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		fmt.Fprintln(os.Stderr, "child failed(1)")
		return 1
	}
	return 0
}

func parseSlirp(args []string) (*slirpOptions, error) {
	o := &slirpOptions{guestFlags: guestFlags{readyFD: -1, exit: -1, mtu: 1500, cidr: "10.0.2.0/24"}}
	flag := func(b *bool) func(string) error { return func(string) error { *b = true; return nil } }
	text := func(s *string) func(string) error { return func(v string) error { *s = v; return nil } }
	descriptor := func(name string, fd *int) func(string) error {
		return func(v string) (err error) {
			if *fd, err = strconv.Atoi(v); err != nil || *fd < 0 {
				return usageError{name + " must be a non-negative integer"}
			}
			return nil
		}
	}
	kind := ""
	netnsType := ""
	options := []option{
		{"configure", 'c', false, flag(&o.configure)},
		{"exit-fd", 'e', true, descriptor("exit-fd", &o.exit)},
		{"ready-fd", 'r', true, descriptor("ready-fd", &o.readyFD)},
		{"mtu", 'm', true, func(v string) (err error) {
			if o.mtu, err = strconv.Atoi(v); err != nil || o.mtu <= 0 || o.mtu > 65521 {
				return usageError{"MTU must be a positive integer (< 65522)"}
			}
			return nil
		}},
		{"cidr", 0, true, text(&o.cidr)},
		{"disable-host-loopback", 0, false, flag(&o.noLoopback)},
		{"no-host-loopback", 0, false, flag(&o.noLoopback)}, // its name before 0.3
		{"netns-type", 0, true, text(&netnsType)},
		{"userns-path", 0, true, text(&o.userns)},
		{"api-socket", 'a', true, text(&o.api)},
		{"enable-ipv6", '6', false, flag(&o.ipv6)},
		{"enable-sandbox", 0, false, func(string) error { return nil }}, // always
		{"create-sandbox", 0, false, func(string) error { return nil }},
		{"enable-seccomp", 0, false, flag(&o.seccomp)},
		{"outbound-addr", 0, true, func(v string) (err error) { o.outbound4, err = outbound(v, "outbound-addr", false); return err }},
		{"outbound-addr6", 0, true, func(v string) (err error) { o.outbound6, err = outbound(v, "outbound-addr6", true); return err }},
		{"disable-dns", 0, false, flag(&o.noDNS)},
		{"macaddress", 0, true, text(&o.mac)},
		{"target-type", 0, true, text(&kind)},
		{"help", 'h', false, flag(&o.help)},
		{"version", 'v', false, flag(&o.version)},
	}
	operands, err := getopt("slirp4netns", options, args, false)
	if err != nil || o.help || o.version {
		return o, err
	}
	switch {
	case len(operands) == 0:
		return nil, usageError{}
	case kind == "bess":
		return nil, errors.New("--target-type=bess is not supported")
	case kind != "" && kind != "netns":
		return nil, usageError{`--target-type must be either "netns" or "bess"`}
	case len(operands) < 2:
		return nil, usageError{}
	case netnsType != "" && netnsType != "pid" && netnsType != "path":
		return nil, usageError{`--netns-type must be either "path" or "pid"`}
	case o.mac != "" && !o.configure:
		return nil, usageError{"--macaddr cannot be specified when --configure or -c is not specified"}
	}
	if o.mac != "" {
		if m, err := net.ParseMAC(o.mac); err != nil || len(m) != 6 {
			return nil, fmt.Errorf("%q is an invalid MAC address.\nmacaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').", o.mac) // their words
		}
	}
	o.path = netnsType == "path"
	o.target, o.tap = operands[0], operands[1]
	if len(operands) > 2 {
		fmt.Fprintln(os.Stderr, "WARNING: too many arguments")
	}
	if o.path {
		if _, err := os.Stat(o.target); err != nil {
			return nil, usageError{"existing path expected when --netns-type=path: " + errnoText(err)}
		}
	} else if pid, err := strconv.Atoi(o.target); err != nil || pid <= 0 {
		return nil, usageError{"PID must be a positive integer"}
	}
	return o, o.check()
}

func (o *slirpOptions) check() error {
	p, err := netip.ParsePrefix(o.cidr)
	switch {
	case err != nil || !p.Addr().Is4():
		return errors.New("invalid CIDR: " + o.cidr)
	case p.Bits() < 1 || p.Bits() > 25:
		return errors.New("prefix length needs to be 1-25")
	case p.Masked().Addr() != p.Addr():
		return fmt.Errorf("CIDR needs to be a network address like %v, not like %v", p.Masked(), p)
	}
	return nil
}

// outbound finds an address, which may be given as an interface's.
func outbound(v, name string, v6 bool) (netip.Addr, error) {
	if a, err := netip.ParseAddr(v); err == nil && a.Is6() == v6 {
		return a, nil
	}
	if i, err := net.InterfaceByName(v); err == nil {
		addrs, _ := i.Addrs()
		for _, x := range addrs {
			if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().Is6() == v6 && !(v6 && p.Addr().IsLinkLocalUnicast()) {
				return p.Addr(), nil
			}
		}
	}
	version := map[bool]string{false: "ipv4", true: "ipv6"}[v6]
	return netip.Addr{}, fmt.Errorf("%s has to be valid %s address or interface name.", name, version) // their words
}

// errnoText is an error as strerror(3) has it.
func errnoText(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}

func (o *slirpOptions) config() (guest.Config, error) {
	c := guest.Config{MTU: o.mtu, Interface: o.tap, Configure: o.configure, Follow: o.api != ""}
	p, err := netip.ParsePrefix(o.cidr)
	if err != nil {
		return c, err
	}
	c.Networks = []guest.Network{guest.Slirp4(p)}
	if o.ipv6 {
		c.Networks = append(c.Networks, guest.Default6)
	}
	for k := range c.Networks {
		if o.noDNS {
			c.Networks[k].DNS = netip.Addr{}
		}
	}
	if !o.noLoopback {
		c.Relay.HostLoopback = loopbackAt(c.Networks)
	}
	if o.mac != "" {
		if c.Addr, err = net.ParseMAC(o.mac); err != nil {
			return c, err
		}
	}
	c.Relay.Outbound4, c.Relay.Outbound6 = o.outbound4, o.outbound6
	return c, nil
}

func (o *slirpOptions) serve() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := o.config()
	if err != nil {
		return err
	}
	var gone <-chan struct{}
	if o.path {
		if c.Namespace, err = netns.Open(absolute(o.target)); err == nil && o.exit < 0 {
			gone, err = watchPath(ctx, absolute(o.target))
		}
	} else {
		pid, _ := strconv.Atoi(o.target)
		if c.Namespace, err = netns.OpenPID(pid); err == nil {
			gone, err = guest.WatchPID(ctx, pid)
		}
	}
	if err != nil {
		return err
	}
	g, err := guest.Open(c)
	if err != nil {
		_ = c.Namespace.Close()
		return err
	}
	defer g.Close()
	var api *slirpAPI
	if o.api != "" {
		if api, err = listenSlirpAPI(o.api, g, c.Networks[0]); err != nil {
			return err
		}
		defer api.Close()
	}
	_ = c.Namespace.Close()
	o.greet(c)
	confine(o.seccomp)
	if err := signalReady(o.readyFD); err != nil {
		return err
	}
	if api != nil {
		go api.serve()
		go g.Run(ctx, guest.Auto{})
	}
	var hung <-chan struct{}
	if o.exit >= 0 {
		f := os.NewFile(uintptr(o.exit), "exit")
		if f == nil {
			return fmt.Errorf("exit-fd %d is not open", o.exit)
		}
		hung = guest.WatchFile(ctx, f)
	}
	select {
	case <-gone:
	case <-hung:
	}
	return nil
}

func absolute(path string) string {
	if strings.ContainsRune(path, '/') {
		return path
	}
	return "./" + path
}

// greet says what the network is, for logs.
func (o *slirpOptions) greet(c guest.Config) {
	n := c.Networks[0]
	fmt.Printf("sent tapfd=%d for %s\nreceived tapfd=%d\nStarting slirp\n", 5, o.tap, 5)
	fmt.Printf("* MTU:             %d\n* Network:         %v\n* Netmask:         %v\n* Gateway:         %v\n* DNS:             %v\n* Recommended IP:  %v\n",
		o.mtu, n.Guest.Masked().Addr(), net.IP(net.CIDRMask(n.Guest.Bits(), 32)), n.Gateway, n.DNS, n.Guest.Addr())
	if o.api != "" {
		fmt.Printf("* API Socket:      %s\n", o.api)
	}
	if !o.noLoopback {
		fmt.Printf("WARNING: 127.0.0.1:* on the host is accessible as %v (set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)\n", n.Gateway)
	}
}
