package tap_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"taproom/tap"
	"taproom/tap/netns"
	"taproom/tap/pump"
	"taproom/tap/taptest"
)

// TestTaggedTransfer sends super-frames with a VLAN tag to a device without
// offloads, and back through GRO.
func TestTaggedTransfer(t *testing.T) {
	a := taptest.NewRoom(t, 1, tap.Options{Name: "trunk"})
	b := taptest.NewRoom(t, 2, tap.Options{Name: "trunk", Offloads: noOffloads, GRO: true})
	if err := pump.Join(a.Device, b.Device); err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")}
	for i, r := range []*taptest.Room{a, b} {
		err := r.Namespace.Do(func() error {
			l, err := netlink.LinkByName("trunk")
			if err != nil {
				return err
			}
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.ParentIndex = "tagged", l.Attrs().Index
			return netlink.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
		})
		if err != nil {
			t.Skip("needs VLAN devices of the kernel: ", err)
		}
		if err := r.Namespace.Configure(netns.Config{Links: []netns.Link{{Name: "tagged", Up: true, Addrs: addrs[i : i+1]}}}); err != nil {
			t.Fatal(err)
		}
	}
	to := netip.AddrPortFrom(addrs[1].Addr(), 5001)
	transferTCP(t, a.Namespace, b.Namespace, to)
	transferUDP(t, a.Namespace, b.Namespace, to)
	for _, r := range []*taptest.Room{a, b} {
		s := r.Device.Stats()
		t.Logf("%d packets for %d segments read, %d written, %d dropped", s.Rx.Packets, s.Rx.Segments, s.Tx.Packets, s.Tx.Dropped())
		if s.Tx.Dropped()+s.Rx.Dropped() > 0 {
			t.Errorf("dropped: %v", s)
		}
	}
}
