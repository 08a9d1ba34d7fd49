package stack

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

func TestRedirect(t *testing.T) {
	n := newTestNode(t)
	y0, y1 := n.InterfaceByName("y0").Index(), n.InterfaceByName("y1").Index()
	f := frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.0.2", payload: data(8)}))
	redirect := func(to int, flags uint32) hook.Handler {
		return hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
			p.RedirectTo, p.RedirectFlags = to, flags
			return hook.Redirect
		})
	}
	l, err := n.Attach(hook.Ingress, redirect(y1, 0), hook.Options{Interface: y0})
	must(t, err)
	n.y0.in(f)
	if got := n.y1.out(); len(got) != 1 || !bytes.Equal(got[0], f) {
		t.Errorf("out of y1: %x", got)
	}
	must(t, l.Update(redirect(99, 0)))
	n.y0.in(f)
	must(t, l.Update(redirect(y0, packet.RedirectIngress))) // for ever
	n.y0.in(f)
	d := n.Counters().Drops
	if d[packet.RedirectFailed.String()] != 1 || d[packet.RedirectLoop.String()] != 1 {
		t.Errorf("drops %v", d)
	}
}

func TestStolen(t *testing.T) {
	n := newTestNode(t)
	var held []*hook.Packet
	l, err := n.Attach(hook.Forward, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
		held = append(held, p)
		return hook.Stolen
	}), hook.Options{})
	must(t, err)
	f := frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: data(8)}))
	n.y0.in(f)
	must(t, l.Close())
	if got := n.y1.out(); len(got) != 0 || len(held) != 1 {
		t.Fatalf("sent %x, held %d", got, len(held))
	}
	must(t, n.Send(held[0])) // later, as the node's own
	if got := n.y1.out(); len(got) != 1 || !bytes.Equal(got[0], forwarded(f, macZ, macY1)) {
		t.Errorf("sent %x", got)
	}
}

// A handler that cannot take super-frames is given segments.
func TestNoGSO(t *testing.T) {
	n := newTestNode(t)
	sizes := map[int]int{}
	_, err := n.Attach(hook.Postrouting, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
		sizes[p.Len()]++
		if p.GSO.Type != packet.GSONone || p.CsumPartial {
			t.Error("not a finished segment")
		}
		return hook.Continue
	}), hook.Options{NoGSO: true})
	must(t, err)
	tcp := make([]byte, 20+4*1000+1)
	tcp[12] = 0x50
	p := packet.New(frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", df: true, proto: packet.ProtoTCP, payload: tcp})))
	p.GSO = packet.GSO{Type: packet.GSOTCPv4, Size: 1000}
	p.SetPartialChecksum(34, 16)
	n.y0.recv(0, []*packet.Packet{p})
	if got := n.y1.out(); len(got) != 5 || sizes[1040] != 4 || sizes[41] != 1 {
		t.Errorf("%d frames, sizes %v", len(got), sizes)
	}
}

func TestMulticastForwarding(t *testing.T) {
	n := newTestNode(t)
	group := netip.MustParseAddr("239.1.2.3")
	gmac := multicastMAC(group)
	f := frame(gmac[:], macX, ip(ipSpec{src: "10.9.0.1", dst: group.String(), ttl: 5, payload: data(8)}))
	n.y0.in(f)
	if got := n.y1.out(); len(got) != 0 {
		t.Errorf("forwarded without a route: %x", got)
	}
	r := MulticastRoute{Source: netip.MustParseAddr("10.9.0.1"), Group: group, In: "y0", Out: []string{"y1"}, MinTTL: 4}
	must(t, n.AddMulticastRoute(r))
	n.y0.in(f)
	if got := n.y1.out(); len(got) != 1 || !bytes.Equal(got[0], forwarded(f, gmac[:], macY1)) {
		t.Errorf("forwarded %x", got)
	}
	n.y0.in(frame(gmac[:], macX, ip(ipSpec{src: "10.9.0.1", dst: group.String(), ttl: 4, payload: data(8)})))
	if got := n.y1.out(); len(got) != 0 {
		t.Errorf("the TTL threshold was passed: %x", got)
	}
	must(t, n.DelMulticastRoute(r.Source, group))
	if err := n.DelMulticastRoute(r.Source, group); !errors.Is(err, ErrNoSuchRoute) {
		t.Errorf("removed twice: %v", err)
	}
}

// Routes follow their interfaces, metrics decide, equals share by flow.
func TestRouteChoice(t *testing.T) {
	n := newTestNode(t)
	dst := netip.MustParsePrefix("192.0.2.0/24")
	x, z := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.1.3")
	must(t, n.AddRoute(Route{Prefix: dst, Via: z, Metric: 10}))
	must(t, n.AddRoute(Route{Prefix: dst, Via: x, Metric: 20}))
	if err := n.AddRoute(Route{Prefix: dst, Via: z, Metric: 10}); !errors.Is(err, ErrRouteExists) {
		t.Errorf("added twice: %v", err)
	}
	out := func() string {
		r, _ := n.Lookup(netip.MustParseAddr("192.0.2.9"))
		return r.Interface
	}
	if out() != "y1" {
		t.Errorf("by metric: %s", out())
	}
	n.InterfaceByName("y1").SetUp(false)
	if out() != "y0" {
		t.Errorf("with y1 down: %s", out())
	}
	n.InterfaceByName("y1").SetUp(true)
	must(t, n.DelRoute(Route{Prefix: dst, Via: x}))
	must(t, n.AddRoute(Route{Prefix: dst, Via: x, Metric: 10}))
	hits := map[int]int{}
	for k := range 200 {
		r := n.Route(hook.RouteQuery{Dst: netip.AddrFrom4([4]byte{192, 0, 2, byte(k)}), Src: x})
		hits[r.Out]++
	}
	if len(hits) != 2 || hits[n.InterfaceByName("y0").Index()] < 60 || hits[n.InterfaceByName("y1").Index()] < 60 {
		t.Errorf("equal routes share %v", hits)
	}
	for _, bad := range []Route{
		{}, {Prefix: netip.MustParsePrefix("192.0.2.1/24"), Via: z}, {Prefix: dst}, {Prefix: dst, Via: netip.MustParseAddr("203.0.113.1")},
		{Prefix: dst, Interface: "nope"}, {Prefix: dst, Via: z, Kind: hook.LocalRoute},
	} {
		if err := n.AddRoute(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// Everything can come and go while packets pass.
func TestInterfacesComeAndGo(t *testing.T) {
	n := newTestNode(t)
	for k := range 20 {
		p := newPort("extra")
		i, err := n.AddInterface(p, InterfaceConfig{Addresses: []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24")}})
		must(t, err)
		must(t, n.AddRoute(Route{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("172.16.0.2")}))
		l, err := n.Attach(hook.Ingress, hook.HandlerFunc(func(hook.Point, *hook.Packet) hook.Verdict { return hook.Drop }), hook.Options{Interface: i.Index()})
		must(t, err)
		if k%2 == 0 {
			must(t, i.DelAddress(netip.MustParseAddr("172.16.0.1")))
		}
		must(t, n.RemoveInterface("extra"))
		if !l.Closed() {
			t.Error("a handler outlives its interface")
		}
	}
	if r := n.Routes(); len(r) != 4 {
		t.Errorf("routes left: %v", r)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: data(20)})))
	f.Add(frame(macY0, macX, ip(ipSpec{src: "fd09::1", dst: "fd09:0:0:1::3", ext: []byte{17, 0, 5, 2, 0, 0, 1, 0}, extNext: 0, payload: data(8)})))
	f.Add(frame(macY0, macX, echo("fd09::1", "fd09::2", data(10))))
	f.Add(arp(arpRequest, broadcastMAC[:], macX, "10.9.0.1", "10.9.0.2"))
	for _, part := range cut(echo("10.9.0.1", "10.9.0.2", data(3000)), 1480) {
		f.Add(frame(macY0, macX, part))
	}
	n := newTestNode(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		n.y0.in(b)
		n.y0.out()
		n.y1.out()
	})
}
