package taptest

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"taproom/tap"
	"taproom/tap/netns"
)

// Room is a network namespace with a TAP or TUN in it, for tests on a real
// kernel. The test that imports this package has called netns.Init in its
// TestMain.
type Room struct {
	Namespace *netns.Namespace
	Device    *tap.TAP
	Addr4     netip.Addr
	Addr6     netip.Addr
}

// Subnets of the rooms: all are neighbours, room number i has the address i.
var (
	subnet4 = netip.MustParsePrefix("192.0.2.0/24")
	subnet6 = netip.MustParsePrefix("2001:db8::/64")
)

// NewRoom makes room number i, with the device that o describes in it, up and
// with addresses. It skips the test where that is not allowed, saying what is
// missing, and cleans up after it. The kernel in the room is quiet: it sends
// no router solicitations, multicast reports or duplicate address detection
// by itself.
func NewRoom(tb testing.TB, i byte, o tap.Options) *Room {
	tb.Helper()
	r := NewRoomIn(tb, netns.Options{}, i, o)
	if err := r.Namespace.Do(func() error { return nil }); errors.Is(err, netns.ErrThreadOnly) {
		tb.Skip("needs root, to open sockets in a namespace: ", err)
	}
	return r
}

// NewRoomIn is NewRoom in a namespace as no describes it, which is perhaps
// one that this process cannot enter with a thread.
func NewRoomIn(tb testing.TB, no netns.Options, i byte, o tap.Options) *Room {
	tb.Helper()
	n, err := netns.New(no)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		tb.Skip("needs to make network namespaces: ", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { n.Close() })
	if err := n.Configure(netns.Config{Loopback: true, Sysctls: map[string]string{
		"net.ipv6.conf.default.accept_dad":           "0",
		"net.ipv6.conf.default.accept_ra":            "0",
		"net.ipv6.conf.default.router_solicitations": "0",
		"net.ipv6.conf.default.addr_gen_mode":        "1",
	}}); err != nil {
		tb.Fatal(err)
	}
	o.Namespace = n
	d, err := tap.Open(o)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		tb.Skip("needs a TUN/TAP driver: ", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	r := &Room{Namespace: n, Device: d}
	a4, a6 := subnet4.Addr().As4(), subnet6.Addr().As16()
	a4[3], a6[15] = i, i
	r.Addr4, r.Addr6 = netip.AddrFrom4(a4), netip.AddrFrom16(a6)
	if err := n.Configure(netns.Config{Links: []netns.Link{{Name: d.Info().Name, Up: true, Addrs: []netip.Prefix{
		netip.PrefixFrom(r.Addr4, subnet4.Bits()), netip.PrefixFrom(r.Addr6, subnet6.Bits())}}}}); err != nil {
		tb.Fatal(err)
	}
	return r
}
