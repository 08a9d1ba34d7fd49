package stack

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// arp builds an ARP frame.
func arp(op uint16, dst, srcMAC []byte, src, target string) []byte {
	f := append(append(append([]byte{}, dst...), srcMAC...), 8, 6, 0, 1, 8, 0, 6, 4, byte(op>>8), byte(op))
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(target).As4()
	f = append(append(f, srcMAC...), s[:]...)
	return append(append(f, 0, 0, 0, 0, 0, 0), d[:]...)
}

func TestARPAnswers(t *testing.T) {
	n := newTestNode(t)
	stranger := []byte{2, 9, 9, 9, 9, 9}
	n.y0.in(arp(arpRequest, broadcastMAC[:], stranger, "10.9.0.50", "10.9.0.2"))
	got := n.y0.out()
	if len(got) != 1 || !bytes.Equal(got[0][:6], stranger) || binary.BigEndian.Uint16(got[0][20:]) != arpReply || !bytes.Equal(got[0][22:28], macY0) {
		t.Fatalf("answer %x", got)
	}
	n.y0.in(arp(arpRequest, broadcastMAC[:], stranger, "10.9.0.50", "10.9.0.77"))
	if got := n.y0.out(); len(got) != 0 {
		t.Errorf("answered for somebody else: %x", got)
	}
	// What it learnt from the question it uses.
	n.y1.in(frame(macY1, macZ, ip(ipSpec{src: "10.9.1.3", dst: "10.9.0.50", payload: data(8)})))
	if got := n.y0.out(); len(got) != 1 || !bytes.Equal(got[0][:6], stranger) {
		t.Errorf("sent %x", got)
	}
}

// A next hop that must be asked for: packets wait, and go in order when it
// answers; one that never answers is host unreachable.
func TestResolution(t *testing.T) {
	n := newTestNode(t)
	send := func(dst string, id uint16) {
		n.y0.in(frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: dst, id: id, payload: data(8)})))
	}
	for id := range uint16(3) {
		send("10.9.1.40", id+1)
	}
	asked := n.y1.out()
	if len(asked) != 1 || !bytes.Equal(asked[0][:6], broadcastMAC[:]) || !bytes.Equal(asked[0][38:42], []byte{10, 9, 1, 40}) {
		t.Fatalf("asked %x", asked)
	}
	mac := []byte{2, 7, 7, 7, 7, 7}
	n.y1.in(arp(arpReply, macY1, mac, "10.9.1.40", "10.9.1.2"))
	got := n.y1.out()
	if len(got) != 3 {
		t.Fatalf("%d packets went out", len(got))
	}
	for k, f := range got {
		if !bytes.Equal(f[:6], mac) || binary.BigEndian.Uint16(f[18:]) != uint16(k+1) {
			t.Errorf("packet %d: %x", k, f[:24])
		}
	}
	send("10.9.1.41", 9)
	n.y1.out()
	n.clock.Advance(10 * time.Second)
	if again := n.y1.out(); len(again) != maxSolicits-1 {
		t.Errorf("asked %d times more, want %d", len(again), maxSolicits-1)
	}
	if got := n.y0.out(); len(got) != 1 || got[0][34] != icmp4Unreachable || got[0][35] != 1 {
		t.Errorf("the sender was told %x", got)
	}
	if d := n.Counters().Drops[packet.NoNeighbor.String()]; d != 1 {
		t.Errorf("drops %v", n.Counters().Drops)
	}
}

func TestQueueForNeighborIsBounded(t *testing.T) {
	n := newTestNode(t)
	for id := range maxPending + 50 {
		n.y0.in(frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.40", id: uint16(id), payload: data(8)})))
	}
	if d := n.Counters().Drops[packet.NeighborQueueFull.String()]; d != 50 {
		t.Errorf("drops %v", n.Counters().Drops)
	}
}

// A neighbour that is used is asked again, itself, before it is forgotten.
func TestReachability(t *testing.T) {
	n := newTestNode(t)
	mac := []byte{2, 7, 7, 7, 7, 7}
	use := func() {
		n.y0.in(frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.40", payload: data(8)})))
	}
	state := func() string {
		for _, e := range n.Neighbors() {
			if e.Addr == netip.MustParseAddr("10.9.1.40") {
				return e.State
			}
		}
		return "NONE"
	}
	use()
	n.y1.in(arp(arpReply, macY1, mac, "10.9.1.40", "10.9.1.2"))
	if state() != "REACHABLE" {
		t.Fatalf("after an answer: %s", state())
	}
	n.clock.Advance(31 * time.Second)
	if state() != "STALE" {
		t.Fatalf("after a quiet while: %s", state())
	}
	n.y1.out()
	use()
	if state() != "DELAY" || len(n.y1.out()) != 1 {
		t.Fatalf("used while stale: %s", state())
	}
	n.clock.Advance(5 * time.Second)
	if asked := n.y1.out(); state() != "PROBE" || len(asked) != 1 || !bytes.Equal(asked[0][:6], mac) {
		t.Fatalf("probe: %s %x", state(), asked)
	}
	n.y1.in(arp(arpReply, macY1, mac, "10.9.1.40", "10.9.1.2"))
	if state() != "REACHABLE" {
		t.Errorf("after the probe: %s", state())
	}
}

func TestNeighborTableIsBounded(t *testing.T) {
	n := newTestNode(t)
	for k := range 3000 {
		src := netip.AddrFrom4([4]byte{10, 9, 0, byte(k)})
		if k >= 256 {
			src = netip.AddrFrom4([4]byte{10, 9, byte(4 + k>>8), byte(k)})
		}
		n.y0.in(arp(arpRequest, broadcastMAC[:], []byte{2, 8, 0, 0, byte(k >> 8), byte(k)}, src.String(), "10.9.0.2"))
		n.y0.out()
	}
	if k := len(n.Neighbors()); k > n.opts.Neighbors+2 {
		t.Errorf("%d neighbours, limit %d an interface", k, n.opts.Neighbors)
	}
	// The permanent ones are still there.
	n.y1.in(frame(macY1, macZ, ip(ipSpec{src: "10.9.1.3", dst: "10.9.0.1", payload: data(8)})))
	if got := n.y0.out(); len(got) != 1 || !bytes.Equal(got[0][:6], macX) {
		t.Errorf("sent %x", got)
	}
}

func TestNeighborDiscovery(t *testing.T) {
	n := newTestNode(t)
	stranger := [6]byte{2, 9, 9, 9, 9, 9}
	solicit := func(target, src string, hops uint8) []byte {
		dst := solicitedNode(netip.MustParseAddr(target))
		h := make([]byte, 72)
		putIPv6(h, netip.MustParseAddr(src), dst, packet.ProtoICMPv6, 32, hops)
		h[40] = icmp6NeighborSolicit
		tg := netip.MustParseAddr(target).As16()
		copy(h[48:], tg[:])
		h[64], h[65] = optSourceLink, 1
		copy(h[66:], stranger[:])
		putICMP6Checksum(h)
		mac := multicastMAC(dst)
		return frame(mac[:], stranger[:], h)
	}
	n.y0.in(solicit("fd09::2", "fd09::50", 255))
	got := n.y0.out()
	if len(got) != 1 || got[0][54] != icmp6NeighborAdvertise || got[0][58]&0x60 != 0x60 || !bytes.Equal(got[0][:6], stranger[:]) || !bytes.Equal(got[0][80:86], macY0) {
		t.Fatalf("answer %x", got)
	}
	for name, f := range map[string][]byte{
		"of another hop limit": solicit("fd09::2", "fd09::51", 254),
		"for somebody else":    solicit("fd09::77", "fd09::52", 255),
	} {
		n.y0.in(f)
		if got := n.y0.out(); len(got) != 0 {
			t.Errorf("a solicitation %s was answered: %x", name, got)
		}
	}
	n.y1.in(frame(macY1, macZ, ip(ipSpec{src: "fd09:0:0:1::3", dst: "fd09::50", payload: data(8)})))
	if got := n.y0.out(); len(got) != 1 || !bytes.Equal(got[0][:6], stranger[:]) {
		t.Errorf("sent %x", got)
	}
}

// Neighbour discovery passes the hooks marked as what it is, so that routes'
// encapsulations leave it alone.
func TestDiscoveryIsOnLink(t *testing.T) {
	n := newTestNode(t)
	seen := 0
	_, err := n.Attach(hook.Postrouting, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
		if h := p.Head(); h[6] == packet.ProtoICMPv6 && h[40] == icmp6NeighborSolicit {
			seen++
			if !p.OnLink {
				t.Error("a solicitation is not marked")
			}
		}
		return hook.Continue
	}), hook.Options{Family: hook.IPv6})
	must(t, err)
	n.y0.in(frame(macY0, macX, ip(ipSpec{src: "fd09::1", dst: "fd09:0:0:1::77", payload: data(8)})))
	if seen != 1 {
		t.Errorf("%d solicitations", seen)
	}
}
