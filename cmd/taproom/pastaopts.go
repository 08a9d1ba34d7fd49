package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

const pastaHelp = `Usage: pasta [OPTION]... [COMMAND] [ARGS]...
       pasta [OPTION]... PID
       pasta [OPTION]... --netns [PATH|NAME]

Without PID or --netns the command, or a shell, is run in a new user and network
namespace. The namespace looks like the host and reaches what the host reaches.

  -q, --quiet              print less
  -f, --foreground         stay in the foreground
  -e, --stderr             accepted: messages go to standard error
  -d, --debug, --trace     accepted
  -l, --log-file PATH, --log-size BYTES   accepted
  --runas UID[:GID]        accepted: capabilities are dropped instead
  -h, --help               show this help and exit
  --version                show version and exit
  -P, --pid FILE           write the process number to a file
  -I, --ns-ifname NAME     interface inside (default: the host's)
  -m, --mtu MTU            MTU inside (default: 65520)
  -a, --address ADDR       address inside, once for each version (default: the host's)
  -n, --netmask MASK       IPv4 mask, dotted or in bits
  -M, --mac-addr, --ns-mac-addr ADDR   link address inside
  -g, --gateway ADDR       gateway inside (default: the host's)
  -i, --interface NAME     the host's interface to copy
  -o, --outbound ADDR      host address to send from
  --outbound-if4, --outbound-if6 NAME  the same, by interface
  -D, --dns ADDR           resolver told by DHCP and router advertisements
  -S, --search LIST        search domains told
  --dns-forward ADDR       address inside that stands for the host's resolver
  --map-host-loopback ADDR address inside that leads to the host's loopback, or none
  --map-guest-addr ADDR    address inside that leads to the host's own address
  --no-map-gw              keep the gateway from leading to the host's loopback
  --no-dhcp, --no-dhcpv6, --no-ra      do not serve these
  -4, --ipv4-only          IPv4 alone
  -6, --ipv6-only          IPv6 alone
  -t, --tcp-ports SPEC     host ports that lead inside: none, auto, or a list as
                           [ADDR[%IF]/]PORT[-PORT][:PORT[-PORT]],... with ~PORT to leave out
  -u, --udp-ports SPEC     the same for UDP
  -T, --tcp-ns, -U, --udp-ns SPEC      none, or auto, which is taken for none
  --userns PATH, --netns-only          accepted: a namespace's owner is found by itself
  --netns PATH|NAME        namespace to serve
  --no-netns-quit          stay when the namespace is removed
  --config-net             configure the interface inside
`

func parsePasta(args []string) (*pastaOptions, error) {
	o := &pastaOptions{}
	flag := func(b *bool) func(string) error { return func(string) error { *b = true; return nil } }
	text := func(s *string) func(string) error { return func(v string) error { *s = v; return nil } }
	list := func(s *[]string) func(string) error { return func(v string) error { *s = append(*s, v); return nil } }
	ignore := func(string) error { return nil }
	addr := func(what string, l *[]netip.Addr) func(string) error {
		return func(v string) error {
			if v == "" || v == "none" {
				return nil
			}
			a, err := netip.ParseAddr(v)
			if err != nil {
				return fmt.Errorf("Invalid %s: %s", what, v) // their words
			}
			*l = append(*l, a)
			return nil
		}
	}
	link := func(v string) (err error) {
		if o.mac, err = net.ParseMAC(v); err != nil || len(o.mac) != 6 {
			return fmt.Errorf("Invalid MAC address: %s", v) // their words
		}
		return nil
	}
	inner := func(v string) error {
		if v != "none" && v != "auto" {
			return errors.New("ports of the host inside (-T, -U) are not supported: use --map-host-loopback")
		}
		return nil
	}
	operands, err := getopt("pasta", []option{
		{"debug", 'd', false, ignore}, {"trace", 0, false, ignore}, {"stderr", 'e', false, ignore},
		{"quiet", 'q', false, flag(&o.quiet)}, {"foreground", 'f', false, flag(&o.foreground)},
		{"log-file", 'l', true, text(&o.logFile)}, {"log-size", 0, true, ignore}, {"runas", 0, true, ignore},
		{"help", 'h', false, flag(&o.help)}, {"version", 0, false, flag(&o.version)},
		{"ns-ifname", 'I', true, text(&o.ifname)}, {"pid", 'P', true, text(&o.pidFile)},
		{"mtu", 'm', true, func(v string) (err error) {
			if o.mtu, err = strconv.Atoi(v); err != nil || o.mtu < 0 || o.mtu > 65520 || o.mtu > 0 && o.mtu < 68 {
				return fmt.Errorf("Invalid MTU: %s", v) // their words
			}
			return nil
		}},
		{"address", 'a', true, addr("address", &o.addrs)}, {"netmask", 'n', true, text(&o.mask)},
		{"mac-addr", 'M', true, ignore}, {"ns-mac-addr", 0, true, link},
		{"gateway", 'g', true, addr("gateway address", &o.gateways)}, {"interface", 'i', true, text(&o.hostIf)},
		{"outbound", 'o', true, addr("outbound address", &o.outbound)},
		{"outbound-if4", 0, true, text(&o.outIf4)}, {"outbound-if6", 0, true, text(&o.outIf6)},
		{"dns", 'D', true, addr("DNS address", &o.dns)}, {"search", 'S', true, func(v string) error { o.search = append(o.search, strings.Fields(v)...); return nil }},
		{"dhcp-dns", 0, false, ignore}, {"dhcp-search", 0, false, ignore}, {"no-dhcp-dns", 0, false, ignore}, {"no-dhcp-search", 0, false, ignore},
		{"dns-forward", 0, true, addr("DNS forward address", &o.dnsForward)},
		{"map-host-loopback", 0, true, func(v string) error {
			if v == "none" {
				o.noMapGW = true
			}
			return addr("address to remap to host", &o.mapHost)(v)
		}},
		{"map-guest-addr", 0, true, addr("address to remap to host", &o.mapGuest)},
		{"no-dhcp", 0, false, flag(&o.noDHCP)}, {"no-dhcpv6", 0, false, flag(&o.noDHCP6)}, {"no-ra", 0, false, flag(&o.noRA)},
		{"no-map-gw", 0, false, flag(&o.noMapGW)}, {"host-lo-to-ns-lo", 0, false, ignore},
		{"ipv4-only", '4', false, flag(&o.only4)}, {"ipv6-only", '6', false, flag(&o.only6)},
		{"tcp-ports", 't', true, list(&o.tcp)}, {"udp-ports", 'u', true, list(&o.udp)},
		{"tcp-ns", 'T', true, inner}, {"udp-ns", 'U', true, inner},
		{"userns", 0, true, ignore}, {"netns", 0, true, text(&o.netnsPath)}, {"netns-only", 0, false, ignore},
		{"no-netns-quit", 0, false, flag(&o.noNetnsQuit)}, {"config-net", 0, false, flag(&o.configNet)},
	}, args, true)
	if err != nil || o.help || o.version {
		return o, err
	}
	if o.only4 && o.only6 {
		return nil, errors.New("Options ipv4-only and ipv6-only are mutually exclusive") // their words
	}
	return o, o.target(operands)
}

// target decides what is served, and fills in the defaults that depend on it.
func (o *pastaOptions) target(operands []string) error {
	switch {
	case o.netnsPath != "":
		if len(operands) > 0 {
			return errors.New("Both --netns and PID or command given") // their words
		}
	case len(operands) == 1 && isNumber(operands[0]):
		o.pid, _ = strconv.Atoi(operands[0])
	case len(operands) > 0:
		o.command = operands
	default:
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		o.command = []string{shell}
	}
	if o.tcp == nil {
		o.tcp = []string{"auto"}
	}
	if o.udp == nil {
		o.udp = []string{"auto"}
	}
	return nil
}

func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 31)
	return err == nil && n > 0
}

// parseMask reads an IPv4 mask, dotted or in bits.
func parseMask(s string) (int, error) {
	bad := fmt.Errorf("Invalid netmask: %s", s) // their words
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 32 {
			return 0, bad
		}
		return n, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, bad
	}
	b := a.As4()
	ones, bits := net.IPMask(b[:]).Size()
	if bits == 0 {
		return 0, bad
	}
	return ones, nil
}
