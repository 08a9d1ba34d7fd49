package tap_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/netns"
	"taproom/tap/taptest"
)

// TestKernelTunnel has Linux forward super-frames into tunnels and out of a
// device without offloads. From what comes out a super-frame in a tunnel is
// put together again, and must be cut as Linux did.
func TestKernelTunnel(t *testing.T) {
	inner4 := []byte{0x45, 0, 0x0b, 0xd0, 1, 2, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 9, 203, 0, 113, 1}
	inner6 := slices.Concat([]byte{0x60, 0, 0, 0, 0x0b, 0xbc, 6, 64},
		netip.MustParseAddr("2001:db8::9").AsSlice(), netip.MustParseAddr("2001:db8:f::1").AsSlice())
	for _, tt := range []struct {
		name  string
		outer int // headers before the inner IP header, without Ethernet
		inner []byte
		link  func(netlink.LinkAttrs) netlink.Link // nil: segment routing, RFC 8754
	}{
		{"IPv6 in a segment-routed IPv6", 40 + 24, inner6, nil},
		{"IPv4 in a segment-routed IPv6", 40 + 24, inner4, nil},
		{"IPv4 in IPv4", 20, inner4, func(a netlink.LinkAttrs) netlink.Link {
			return &netlink.Iptun{LinkAttrs: a, Local: net.IP{198, 51, 100, 1}, Remote: net.IP{198, 51, 100, 2}}
		}},
		{"IPv6 in IPv4", 20, inner6, func(a netlink.LinkAttrs) netlink.Link {
			return &netlink.Sittun{LinkAttrs: a, Local: net.IP{198, 51, 100, 1}, Remote: net.IP{198, 51, 100, 2}}
		}},
		{"IPv4 in IPv6", 40, inner4, func(a netlink.LinkAttrs) netlink.Link {
			return &netlink.Ip6tnl{LinkAttrs: a, Local: net.ParseIP("2001:db8:e::1"), Remote: net.ParseIP("2001:db8:e::2"), Ttl: 64, EncapLimit: 4, Proto: 0}
		}},
		{"IPv6 in IPv6", 40, inner6, func(a netlink.LinkAttrs) netlink.Link {
			return &netlink.Ip6tnl{LinkAttrs: a, Local: net.ParseIP("2001:db8:e::1"), Remote: net.ParseIP("2001:db8:e::2"), Ttl: 64, Proto: 0}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tunnelByKernel(t, tt.inner, tt.link)
			if len(got) < 3 {
				t.Fatalf("%d segments came out of the tunnel, want 3", len(got))
			}
			l4 := 14 + tt.outer + len(tt.inner)
			if len(got[0]) != l4+20+1000 { // IPv6 tunnels may add destination options
				l4 = len(got[0]) - 1020
			}
			super := bytes.Clone(got[0][:l4+20])
			for _, f := range got {
				super = append(super, f[l4+20:]...)
			}
			p := packet.New(super)
			p.ParseLink()
			p.GSO = packet.GSO{Type: packet.GSOTCPv4, Size: 1000}
			if tt.inner[0]>>4 == 6 {
				p.GSO.Type = packet.GSOTCPv6
			}
			if err := p.PrepareGSO(); err != nil || !p.GSOInTunnel() {
				t.Fatalf("%v; in tunnel: %v", err, p.GSOInTunnel())
			}
			want := ours(p)
			p.Release()
			if !slices.EqualFunc(got, want, bytes.Equal) {
				for i := range min(len(got), len(want)) {
					t.Errorf("segment %d, Linux and ours:\n%x\n%x", i, got[i][:l4+24], want[i][:l4+24])
				}
			}
		})
	}
}

// tunnelByKernel sends one TCP super-frame of 2980 bytes of payload, 1000 a
// segment, through a tunnel and returns what leaves the namespace.
func tunnelByKernel(t *testing.T, inner []byte, link func(netlink.LinkAttrs) netlink.Link) [][]byte {
	t.Helper()
	room := taptest.NewRoom(t, 1, tap.Options{Name: "in"})
	out, err := tap.Open(tap.Options{Name: "out", Namespace: room.Namespace, Offloads: noOffloads, Up: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	prefix := netip.MustParsePrefix
	err = room.Namespace.Configure(netns.Config{
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"},
		Links:   []netns.Link{{Name: "out", Addrs: []netip.Prefix{prefix("198.51.100.1/24"), prefix("2001:db8:e::1/64")}}}})
	if err != nil {
		t.Fatal(err)
	}
	dst := prefix("203.0.113.0/24")
	if inner[0]>>4 == 6 {
		dst = prefix("2001:db8:f::/64")
	}
	err = room.Namespace.Do(func() error {
		l, err := netlink.LinkByName("out")
		if err != nil {
			return err
		}
		for _, ip := range []string{"198.51.100.2", "2001:db8:e::2"} {
			if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(ip),
				HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0xee, 1}, State: unix.NUD_PERMANENT}); err != nil {
				return err
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "tun", 1300
		route := &netlink.Route{Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())}}
		if link == nil {
			route.LinkIndex = l.Attrs().Index
			route.Encap = &netlink.SEG6Encap{Mode: nl.SEG6_IPTUN_MODE_ENCAP, Segments: []net.IP{net.ParseIP("2001:db8:e::2")}}
			return netlink.RouteAdd(route)
		}
		if err := netlink.LinkAdd(link(attrs)); err != nil {
			return err
		}
		if l, err = netlink.LinkByName("tun"); err != nil {
			return err
		}
		route.LinkIndex = l.Attrs().Index
		return errors.Join(netlink.LinkSetUp(l), netlink.RouteAdd(route))
	})
	if err != nil {
		t.Skip("needs a tunnel of the kernel: ", err)
	}
	var rec taptest.Recorder
	if err := out.Start(rec.Receive); err != nil {
		t.Fatal(err)
	}
	room.Device.Write(0, tunnelInput(room, inner).Batch())
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var got [][]byte
	rec.Wait(ctx, func(f []taptest.Frame) bool {
		got = got[:0]
		for _, f := range f {
			if marked(f.Bytes) {
				got = append(got, f.Bytes)
			}
		}
		return len(got) >= 3
	})
	return got
}

// tunnelInput is a TCP super-frame with an IP header, to the kernel in room.
func tunnelInput(room *taptest.Room, inner []byte) *packet.Packet {
	b := slices.Concat(room.Device.Info().Addr, []byte{2, 0, 0, 0, 0, 9, 8, 0}, inner,
		[]byte{0x12, 0x34, 0x56, 0x78, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, 0x10, 9, 9, 0, 0, 0, 0}, make([]byte, 2980))
	p := packet.New(b)
	p.GSO = packet.GSO{Type: packet.GSOTCPv4, Size: 1000}
	ip := p.Head()[14 : 14+len(inner)]
	if inner[0]>>4 == 6 {
		p.GSO.Type = packet.GSOTCPv6
		copy(p.Head()[12:], []byte{0x86, 0xdd})
		ip[4], ip[5] = 0x0b, 0xb8
	} else {
		ip[2], ip[3] = 0x0b, 0xcc
		c := packet.Checksum(ip)
		ip[10], ip[11] = byte(c>>8), byte(c)
	}
	p.ParseLink()
	return p
}
