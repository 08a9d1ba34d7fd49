package main

import (
	"strings"
	"testing"
)

// What clients and people see when they call it wrongly, as slirp4netns 1.2
// says it.
func TestSlirpArguments(t *testing.T) {
	for args, want := range map[string]string{
		"--foo 1 tap0":                         "slirp4netns: unrecognized option '--foo'",
		"-X 1":                                 "slirp4netns: invalid option -- 'X'",
		"":                                     "",
		"1":                                    "",
		"-m 99999 1 tap0":                      "MTU must be a positive integer (< 65522)",
		"--mtu=abc 1 tap0":                     "MTU must be a positive integer (< 65522)",
		"-e x 1 tap0":                          "exit-fd must be a non-negative integer",
		"--cidr":                               "slirp4netns: option '--cidr' requires an argument",
		"--disable 1":                          "slirp4netns: option '--disable' is ambiguous; possibilities: '--disable-host-loopback' '--disable-dns'",
		"--enable-ipv6=1 1 tap0":               "slirp4netns: option '--enable-ipv6' doesn't allow an argument",
		"--cidr=10.0.2.0/30 1 tap0":            "prefix length needs to be 1-25",
		"--netns-type=path /nosuch tap0":       "existing path expected when --netns-type=path: No such file or directory",
		"--macaddress=02:00:00:00:00:01 1 tap": "--macaddr cannot be specified when --configure or -c is not specified",
		"--target-type=x 1 tap0":               `--target-type must be either "netns" or "bess"`,
	} {
		if _, err := parseSlirp(strings.Fields(args)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// The command lines that clients were seen to use.
func TestRecordedCommandLines(t *testing.T) {
	for _, args := range []string{
		"--disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 -c -e 3 -r 4 --netns-type=path /proc/self/ns/net tap0",
		"--mtu=1500 --enable-sandbox --enable-seccomp --cidr=10.9.0.0/24 --outbound-addr=lo -c -e 3 -r 4 --api-socket /x.net --netns-type=path /proc/self/ns/net tap0",
		"--mtu 65520 -r 3 --disable-host-loopback 123 tap0",
		"--mtu 65520 -r 3 --cidr 10.5.0.0/16 --api-socket s --enable-sandbox --enable-seccomp --enable-ipv6 123 tap0",
	} {
		if _, err := parseSlirp(strings.Fields(args)); err != nil {
			t.Errorf("slirp4netns %s: %v", args, err)
		}
	}
	for _, args := range []string{
		"--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet --netns /x --map-guest-addr 169.254.1.2",
		"--config-net --mtu 1500 -t 18100-18102:9000-9002 -u 18053-18053:53-53 -t 127.0.0.1/18095-18095:80-80 --dns-forward 169.254.1.1 -T none -U none --quiet --netns /x --map-guest-addr 169.254.1.2",
		"--config-net --pid /x.pid --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet --netns /x --map-guest-addr 169.254.1.2",
		"--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --tcp-ns=none --udp-ns=none --ipv4-only --tcp-ports=auto --udp-ports=auto --host-lo-to-ns-lo 123",
	} {
		if _, err := parsePasta(strings.Fields(args)); err != nil {
			t.Errorf("pasta %s: %v", args, err)
		}
	}
	if _, err := parsePasta([]string{"--nosuch"}); err == nil || err.Error() != "pasta: unrecognized option '--nosuch'" {
		t.Error(err)
	}
	for _, flag := range []string{"--disable-host-loopback", "--mtu", "--enable-sandbox", "--enable-seccomp", "--cidr", "--outbound-addr", "--enable-ipv6", "--netns-type"} {
		if !strings.Contains(slirpHelp, flag) {
			t.Errorf("clients look for %s in the help", flag)
		}
	}
}
