package ioam_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// line is three routers in a row, e1 - m - e2, with an end on either side:
// frames go in at e1's "a" and come out of e2's "b".
type line struct {
	host map[string]*ioamtest.Node
	ioam map[string]*ioam.Node
	out  [][]byte // towards the receiver, behind e2
	back [][]byte // towards the sender, before e1
}

var (
	sender   = netip.MustParseAddr("2001:db8:a::1")
	receiver = netip.MustParseAddr("2001:db8:b::1")
	mac      = net.HardwareAddr{2, 0, 0, 0, 0, 9}
)

func newLine(t *testing.T, config map[string]ioam.Config) *line {
	t.Helper()
	l := &line{host: make(map[string]*ioamtest.Node), ioam: make(map[string]*ioam.Node)}
	now := time.Unix(1795212969, 568786000)
	add := func(name string, ifs ...string) *ioamtest.Node {
		n := ioamtest.NewNode(name, func() time.Time { now = now.Add(10 * time.Microsecond); return now })
		for i := 0; i < len(ifs); i += 2 {
			n.AddIface(ifs[i], mac, netip.MustParsePrefix(ifs[i+1]))
		}
		l.host[name] = n
		return n
	}
	e1 := add("e1", "a", "2001:db8:a::ff/64", "m", "2001:db8:1::1/64")
	m := add("m", "e1", "2001:db8:1::2/64", "e2", "2001:db8:2::1/64")
	e2 := add("e2", "m", "2001:db8:2::2/64", "b", "2001:db8:b::ff/64")
	route := func(n *ioamtest.Node, prefix, via string) {
		a := netip.MustParseAddr(via)
		n.Routes = append(n.Routes, ioamtest.Route{Prefix: netip.MustParsePrefix(prefix), Via: a, Out: n.Route(hook.RouteQuery{Dst: a}).Out})
	}
	route(e1, "2001:db8:b::/64", "2001:db8:1::2")
	route(e1, "2001:db8:2::/64", "2001:db8:1::2")
	route(m, "2001:db8:a::/64", "2001:db8:1::1")
	route(m, "2001:db8:b::/64", "2001:db8:2::2")
	route(e2, "2001:db8:a::/64", "2001:db8:2::1")
	route(e2, "2001:db8:1::/64", "2001:db8:2::1")
	ioamtest.Link(e1, e1.IfaceByName("m"), m, m.IfaceByName("e1"))
	ioamtest.Link(m, m.IfaceByName("e2"), e2, e2.IfaceByName("m"))
	e1.IfaceByName("a").Wire = func(f []byte) { l.back = append(l.back, f) }
	e2.IfaceByName("b").Wire = func(f []byte) { l.out = append(l.out, f) }
	for i, name := range []string{"e1", "m", "e2"} {
		c := config[name]
		c.NodeID = ioam.ID(uint32(i + 1))
		c.Namespaces = append(c.Namespaces, ioam.Namespace{ID: 123})
		c.ErrorRate = -1
		if c.Interfaces == nil {
			c.Interfaces = map[int]ioam.Interface{1: {Enabled: true, ID: ioam.ID16(1)}, 2: {Enabled: true, ID: ioam.ID16(2)}}
		}
		n, err := ioam.Attach(l.host[name], c)
		if err != nil {
			t.Fatal(err)
		}
		l.ioam[name] = n
	}
	return l
}

// frame makes a UDP datagram from the sender to the receiver.
func frame(port uint16, size int) []byte {
	b := make([]byte, 14+48+size)
	binary.BigEndian.PutUint16(b[12:], packet.EtherIPv6)
	ip := b[14:]
	ip[0], ip[6], ip[7] = 6<<4, packet.ProtoUDP, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(8+size))
	s, d := sender.As16(), receiver.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	binary.BigEndian.PutUint16(ip[40:], 40001)
	binary.BigEndian.PutUint16(ip[42:], port)
	binary.BigEndian.PutUint16(ip[44:], uint16(8+size))
	for i := range size {
		ip[48+i] = byte(i)
	}
	return b
}

func (l *line) send(f []byte) { l.host["e1"].Input(1, f) }

// arrived is what the receiver must get: the frame with its hop limit
// counted down hops times.
func arrived(f []byte, hops byte) []byte {
	w := bytes.Clone(f)
	copy(w[6:], mac)
	w[14+7] -= hops
	return w
}

func (l *line) wantOut(t *testing.T, want []byte) {
	t.Helper()
	if len(l.out) != 1 {
		t.Fatalf("%d frames came out, want 1", len(l.out))
	}
	got := bytes.Clone(l.out[0])
	copy(got[:6], want[:6])
	if !bytes.Equal(got, want) {
		t.Fatalf("came out as\n%x, want\n%x", got, want)
	}
}

var toReceiver = ioam.Tunnel{
	Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: option.HopNode | option.Interfaces, Size: 32,
}

// TestEncapDecap sends through a tunnel that ends at e2: the receiver gets the
// packet as it was, and e2 reports the whole path.
func TestEncapDecap(t *testing.T) {
	tun := toReceiver
	tun.Mode, tun.Dst, tun.E2E = ioam.Encap, netip.MustParseAddr("2001:db8:2::2"), option.Sequence32
	l := newLine(t, map[string]ioam.Config{
		"e1": {Tunnels: []ioam.Tunnel{tun}},
		"e2": {Decapsulate: true, Extras: ioam.Extras{EdgeToEdge: true}},
	})
	sub := l.ioam["e2"].Subscribe(4)
	f := frame(9999, 100)
	l.send(f)
	l.wantOut(t, arrived(f, 2)) // m only sees the outer header
	e := <-sub.C
	hops, err := e.Hops()
	if err != nil || len(hops) != 3 || hops[0].NodeID != 3 || hops[1].NodeID != 2 || hops[2].NodeID != 1 || !e.Local {
		t.Errorf("trace event %v: %+v, %v", &e, hops, err)
	}
	if e = <-sub.C; e.Kind != option.EdgeToEdge || !e.HasSequence || e.Sequence != 0 {
		t.Errorf("edge-to-edge event %+v", e)
	}
}

// TestInlineStrip puts a trace in at e1 and takes it out at e2's outside.
func TestInlineStrip(t *testing.T) {
	for name, size := range map[string]int{"odd": 28, "even": 32} {
		t.Run(name, func(t *testing.T) {
			tun := toReceiver
			tun.Size, tun.E2E = size, option.Sequence64|option.E2ESeconds
			l := newLine(t, map[string]ioam.Config{
				"e1": {Tunnels: []ioam.Tunnel{tun}},
				"e2": {Interfaces: map[int]ioam.Interface{1: {Enabled: true}, 2: {Edge: ioam.EdgeStrip}}},
			})
			f := frame(9999, 100)
			l.send(f)
			l.wantOut(t, arrived(f, 3))
			if n := l.ioam["e2"].Count(ioam.Stripped); n != 1 {
				t.Errorf("stripped %d", n)
			}
		})
	}
}

// TestEdgeIn meets packets that bring options from outside.
func TestEdgeIn(t *testing.T) {
	trace := []byte{0x31, 0x12, 0, 0, 0, 123, 0x10, 2, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	alert := []byte{5, 2, 0, 0}
	hbh := append([]byte{packet.ProtoUDP, 3, 1, 0}, append(append(trace, alert...), 1, 2, 0, 0)...)
	plain := frame(9999, 20)
	traced := func() []byte {
		f := append(bytes.Clone(plain[:14+40]), append(bytes.Clone(hbh), plain[14+40:]...)...)
		f[14+6] = 0
		binary.BigEndian.PutUint16(f[14+4:], uint16(len(f)-54))
		return f
	}
	for _, c := range []struct {
		edge ioam.Edge
		want []byte // options header that comes out; nil: nothing comes out
	}{
		{ioam.EdgeDrop, nil},
		{ioam.EdgeStrip, []byte{packet.ProtoUDP, 0, 5, 2, 0, 0, 1, 0}},
	} {
		l := newLine(t, map[string]ioam.Config{"e1": {Interfaces: map[int]ioam.Interface{1: {Edge: c.edge}, 2: {}}}})
		l.send(traced())
		if c.want == nil {
			if len(l.out) != 0 || l.ioam["e1"].Count(ioam.DropEdge) != 1 {
				t.Errorf("%v: %d frames came out", c.edge, len(l.out))
			}
			continue
		}
		// The router alert stays, at its place modulo 8.
		if len(l.out) != 1 {
			t.Fatalf("%v: nothing came out", c.edge)
		}
		h := option.Header(l.out[0][54:])
		var opts [][]byte
		for off, o := range h.Options() {
			opts = append(opts, o)
			if off%8 != 24%8 {
				t.Errorf("the router alert moved to %d", off)
			}
		}
		if len(opts) != 1 || !bytes.Equal(opts[0], alert) || h.HasIOAM() {
			t.Errorf("%v: options %x", c.edge, opts)
		}
		if !bytes.Equal(l.out[0][54+h.Len():], plain[54:]) {
			t.Errorf("%v: payload changed", c.edge)
		}
	}
}

// TestRoCE: a hop-by-hop header that stays breaks RoCE's checksum, so inline
// insertion is refused unless somebody takes it out; auto and encap go on.
func TestRoCE(t *testing.T) {
	f := frame(4791, 64)
	t.Run("inline is refused", func(t *testing.T) {
		l := newLine(t, map[string]ioam.Config{"e1": {Tunnels: []ioam.Tunnel{toReceiver}}})
		l.send(f)
		l.wantOut(t, arrived(f, 3))
		if why := l.ioam["e1"].Refused()["refused_roce"]; !strings.Contains(why, "1: UDP port 4791") {
			t.Errorf("reason %q", why)
		}
		if l.ioam["e1"].Count(ioam.RefusedRoCE) != 1 || l.ioam["e1"].Count(ioam.Inserted) != 0 {
			t.Errorf("counters %v", l.ioam["e1"].Counters())
		}
	})
	t.Run("inline with a promise to strip", func(t *testing.T) {
		tun := toReceiver
		tun.Stripped = true
		l := newLine(t, map[string]ioam.Config{
			"e1": {Tunnels: []ioam.Tunnel{tun}},
			"e2": {Interfaces: map[int]ioam.Interface{1: {Enabled: true}, 2: {Edge: ioam.EdgeStrip}}},
		})
		l.send(f)
		l.wantOut(t, arrived(f, 3))
		if l.ioam["e1"].Count(ioam.Inserted) != 1 {
			t.Errorf("counters %v", l.ioam["e1"].Counters())
		}
	})
	t.Run("encap", func(t *testing.T) {
		tun := toReceiver
		tun.Mode, tun.Dst = ioam.Encap, netip.MustParseAddr("2001:db8:2::2")
		l := newLine(t, map[string]ioam.Config{"e1": {Tunnels: []ioam.Tunnel{tun}}, "e2": {Decapsulate: true}})
		l.send(f)
		l.wantOut(t, arrived(f, 2))
	})
	t.Run("a local receiver gets it bare", func(t *testing.T) {
		tun := toReceiver
		tun.Stripped = true
		l := newLine(t, map[string]ioam.Config{"e1": {Tunnels: []ioam.Tunnel{tun}}})
		e2 := l.host["e2"]
		e2.Routes = append(e2.Routes, ioamtest.Route{Prefix: netip.PrefixFrom(receiver, 128), Kind: hook.LocalRoute, Out: 2})
		var got []byte
		e2.Attach(hook.Input, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
			got = bytes.Clone(p.Head())
			return hook.Drop
		}), hook.Options{})
		l.send(f)
		if want := arrived(f, 2)[14:]; !bytes.Equal(got, want) {
			t.Errorf("input saw\n%x, want\n%x", got, want)
		}
	})
}

// TestPacketTooBig: the sender learns the MTU that leaves room for the trace,
// and what fits that gets through.
func TestPacketTooBig(t *testing.T) {
	for _, mode := range []ioam.Mode{ioam.Inline, ioam.Encap} {
		t.Run(mode.String(), func(t *testing.T) {
			tun := toReceiver
			tun.Mode = mode
			if mode == ioam.Encap {
				tun.Dst = netip.MustParseAddr("2001:db8:2::2")
			}
			l := newLine(t, map[string]ioam.Config{"e1": {Tunnels: []ioam.Tunnel{tun}}, "e2": {Decapsulate: true}})
			f := frame(9999, 1452)
			l.send(f)
			if len(l.out) != 0 || len(l.back) != 1 {
				t.Fatalf("%d came out, %d came back", len(l.out), len(l.back))
			}
			e := l.back[0][14+40:]
			mtu := int(binary.BigEndian.Uint32(e[4:]))
			if e[0] != 2 || e[1] != 0 || !ioamtest.ValidICMP(l.back[0]) {
				t.Fatalf("came back as %x", l.back[0])
			}
			quoted := bytes.Clone(f[14:][:1232])
			quoted[7]-- // it was being forwarded
			if !bytes.Equal(e[8:], quoted) {
				t.Errorf("quotes %x..., want the packet without a trace", e[8:88])
			}
			l.send(frame(9999, mtu-48))
			l.send(frame(9999, mtu-47))
			if len(l.out) != 1 || len(l.back) != 2 {
				t.Errorf("with MTU %d: %d came out, %d came back", mtu, len(l.out), len(l.back))
			}
		})
	}
	tun := toReceiver
	tun.MTU = ioam.MTUSkip
	l := newLine(t, map[string]ioam.Config{"e1": {Tunnels: []ioam.Tunnel{tun}}})
	f := frame(9999, 1452)
	l.send(f)
	l.wantOut(t, arrived(f, 3))
}

// TestECN: congestion on the way of the outer header is the packet's.
func TestECN(t *testing.T) {
	tun := toReceiver
	tun.Mode, tun.Dst = ioam.Encap, netip.MustParseAddr("2001:db8:2::2")
	for _, ect := range []byte{0, 2} {
		l := newLine(t, map[string]ioam.Config{"e1": {Tunnels: []ioam.Tunnel{tun}}, "e2": {Decapsulate: true}})
		l.host["m"].Attach(hook.Forward, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
			p.Head()[1] |= 3 << 4
			return hook.Continue
		}), hook.Options{})
		f := frame(9999, 100)
		f[14+1] |= ect << 4
		l.send(f)
		if ect == 0 {
			if len(l.out) != 0 {
				t.Error("a mark was lost")
			}
			continue
		}
		want := arrived(f, 2)
		want[14+1] |= 3 << 4
		l.wantOut(t, want)
	}
}
