package ioam_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// benchHost answers routes from one place, so that the cost of a routing
// table is not in the figures, and hands out its handlers.
type benchHost struct {
	*ioamtest.Node
	route    hook.Route
	handlers map[hook.Point]hook.Handler
	sent     int
}

func (h *benchHost) Route(hook.RouteQuery) hook.Route { return h.route }

func (h *benchHost) Send(p *packet.Packet) error {
	h.sent++
	p.Release()
	return nil
}

func (h *benchHost) Attach(pt hook.Point, f hook.Handler, o hook.Options) (*hook.Link, error) {
	h.handlers[pt] = f
	return h.Node.Attach(pt, f, o)
}

func newBench(tb testing.TB, c ioam.Config) *benchHost {
	h := &benchHost{Node: ioamtest.NewNode("R", time.Now), handlers: make(map[hook.Point]hook.Handler)}
	h.AddIface("in0", mac, netip.MustParsePrefix("2001:db8:a::2/64"))
	h.AddIface("out1", mac, netip.MustParsePrefix("2001:db8:1::1/64"))
	h.route = hook.Route{Kind: hook.Unicast, Out: 2, MTU: 1500, Src: netip.MustParseAddr("2001:db8:1::1")}
	c.NodeID = ioam.ID(0xa0b01)
	c.Namespaces = []ioam.Namespace{{ID: 123, Data: ioam.ID(1)}}
	c.Interfaces = map[int]ioam.Interface{1: {Enabled: true, ID: ioam.ID16(101)}, 2: {Enabled: true, ID: ioam.ID16(102)}}
	if _, err := ioam.Attach(h, c); err != nil {
		tb.Fatal(err)
	}
	return h
}

// tracedPacket is a received packet with room for nodes of a type.
func tracedPacket(typ option.Type, words int) *packet.Packet {
	f := option.TraceFields{Namespace: 123, Type: typ, Words: words}
	n := option.HeaderFor(f.OptionLen())
	p := packet.New(frame(9999, 64)[14:])
	b := p.Push(n)
	copy(b, b[n:n+40])
	binary.BigEndian.PutUint16(b[4:], uint16(72+n))
	b[6] = 0
	option.EncodeHeader(b[40:], packet.ProtoUDP, f.OptionLen())
	f.Encode(b[44:])
	p.SetL3(0)
	p.In, p.Time, p.Proto = 1, 1795212969568786000, packet.EtherIPv6
	return p
}

var benchTypes = []option.Type{0xc00000, 0xe00000, 0xf00000, 0xf40000, 0x00c000, 0xfff000}

// BenchmarkFill is the whole Prerouting handler on a traced packet: the walk,
// the lookup of namespace and route, the fields, the counters.
func BenchmarkFill(b *testing.B) {
	for _, typ := range benchTypes {
		b.Run(fmt.Sprintf("%06x", uint32(typ)), func(b *testing.B) {
			h := newBench(b, ioam.Config{})
			handler := h.handlers[hook.Prerouting]
			p := tracedPacket(typ, 60)
			b.ReportAllocs()
			for b.Loop() {
				p.Head()[44+7] = 60 // room again
				handler.Handle(hook.Prerouting, p)
			}
		})
	}
}

// BenchmarkPass is the handler on a packet without options.
func BenchmarkPass(b *testing.B) {
	h := newBench(b, ioam.Config{})
	handler := h.handlers[hook.Prerouting]
	p := packet.New(frame(9999, 64)[14:])
	p.In = 1
	b.ReportAllocs()
	for b.Loop() {
		handler.Handle(hook.Prerouting, p)
	}
}

// BenchmarkInsert is the Postrouting handler putting in a trace inline: the
// lookup of the tunnel, the header, this node's data.
func BenchmarkInsert(b *testing.B) {
	for _, typ := range benchTypes[:4] {
		b.Run(fmt.Sprintf("%06x", uint32(typ)), func(b *testing.B) {
			h := newBench(b, ioam.Config{Tunnels: []ioam.Tunnel{{
				Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: typ, Size: 96,
			}}})
			handler := h.handlers[hook.Postrouting]
			bare := frame(9999, 64)[14:]
			p := packet.New(bare)
			grown := option.HeaderFor(option.TraceLen + 96)
			b.ReportAllocs()
			for b.Loop() {
				p.In, p.Out, p.Time = 1, 2, 1795212969568786000
				handler.Handle(hook.Postrouting, p)
				copy(p.Trim(grown), bare[:40])
			}
		})
	}
}

// BenchmarkEncap puts packets into an outer header; the host releases them.
func BenchmarkEncap(b *testing.B) {
	h := newBench(b, ioam.Config{Tunnels: []ioam.Tunnel{{
		Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: 0xf00000, Size: 96,
		Mode: ioam.Encap, Dst: netip.MustParseAddr("2001:db8:c::1"),
	}}})
	handler := h.handlers[hook.Postrouting]
	bare := frame(9999, 64)[14:]
	b.ReportAllocs()
	for b.Loop() {
		p := packet.New(bare)
		p.In, p.Out, p.Time = 1, 2, 1795212969568786000
		handler.Handle(hook.Postrouting, p)
	}
}

// TestNoAllocations keeps the data path free of garbage, with a subscriber
// listening too.
func TestNoAllocations(t *testing.T) {
	h := newBench(t, ioam.Config{Tunnels: []ioam.Tunnel{{
		Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: 0xf00000, Size: 96,
	}}})
	n, err := ioam.Attach(h, ioam.Config{Namespaces: []ioam.Namespace{{ID: 123}}, Interfaces: map[int]ioam.Interface{1: {Enabled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	sub := n.Subscribe(1)
	for _, typ := range benchTypes {
		p := tracedPacket(typ, 60)
		if a := testing.AllocsPerRun(100, func() {
			p.Head()[44+7] = 60
			h.handlers[hook.Prerouting].Handle(hook.Prerouting, p)
			select {
			case <-sub.C:
			default:
				t.Fatal("no event")
			}
		}); a != 0 {
			t.Errorf("filling %v: %v allocations", typ, a)
		}
	}
	bare := frame(9999, 64)[14:]
	p := packet.New(bare)
	h2 := newBench(t, ioam.Config{Tunnels: []ioam.Tunnel{{
		Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: 0xf00000, Size: 96,
	}}})
	if a := testing.AllocsPerRun(100, func() {
		p.In, p.Out, p.Time = 1, 2, 1795212969568786000
		h2.handlers[hook.Postrouting].Handle(hook.Postrouting, p)
		copy(p.Trim(option.HeaderFor(option.TraceLen+96)), bare[:40])
	}); a != 0 {
		t.Errorf("inserting: %v allocations", a)
	}
}
