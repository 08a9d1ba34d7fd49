package ioam

import (
	"net"
	"net/netip"
	"testing"

	"taproom/ioam"
	"taproom/ioam/option"
	"taproom/stack"
	"taproom/stack/packet"
	"taproom/tap"
)

// sink is a device that throws frames away.
type sink struct{ port }

func (s *sink) Write(_ int, batch []*packet.Packet) {
	for _, p := range batch {
		p.Release()
	}
}

// BenchmarkForward is the whole way of a packet through a taproom node, from
// one device to the other: without IOAM, with a trace that is passed on
// untouched, with one that is filled, and with one that is put in.
func BenchmarkForward(b *testing.B) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 8}
	for _, c := range []struct {
		name  string
		frame []byte
		on    bool
		tun   []ioam.Tunnel
	}{
		{"plain, no IOAM on the node", udpFrame("fd0a::1", "fd0b::1", 9999, 64), false, nil},
		{"plain", udpFrame("fd0a::1", "fd0b::1", 9999, 64), true, nil},
		{"traced, no IOAM on the node", tracedFrame(0xc00000), false, nil},
		{"fill c00000", tracedFrame(0xc00000), true, nil},
		{"fill f00000", tracedFrame(0xf00000), true, nil},
		{"insert f00000", udpFrame("fd0a::1", "fd0b::1", 9999, 64), true, []ioam.Tunnel{{
			Prefix: netip.MustParsePrefix("fd0b::/64"), Namespace: traceNS, Type: 0xf00000, Size: 96,
		}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n, err := stack.New(stack.Options{Name: "r"})
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			in := &sink{port{info: tap.Info{Name: "in", MTU: 1500, Queues: 1}}}
			out := &sink{port{info: tap.Info{Name: "out", MTU: 1500, Queues: 1}}}
			for i, d := range []*sink{in, out} {
				if _, err := n.AddInterface(d, stack.InterfaceConfig{
					Addr: mac, Addresses: []netip.Prefix{netip.MustParsePrefix([]string{"fd0a::ff/64", "fd0b::ff/64"}[i])},
				}); err != nil {
					b.Fatal(err)
				}
			}
			n.AddNeighbor("out", netip.MustParseAddr("fd0b::1"), memMAC)
			if c.on {
				conf := ioam.Config{
					NodeID: ioam.ID(1), Namespaces: []ioam.Namespace{{ID: traceNS}}, Tunnels: c.tun, Interfaces: map[int]ioam.Interface{},
				}
				for _, i := range n.Interfaces() {
					conf.Interfaces[i.Index] = ioam.Interface{Enabled: true}
				}
				if _, err := ioam.Attach(n, conf); err != nil {
					b.Fatal(err)
				}
			}
			batch := make([]*packet.Packet, 1)
			b.ReportAllocs()
			for b.Loop() {
				p := packet.New(c.frame)
				p.Time = 1795212969568786000
				batch[0] = p
				in.recv(0, batch)
			}
		})
	}
}

// tracedFrame is a datagram with room for a few nodes' records.
func tracedFrame(typ option.Type) []byte {
	f := option.TraceFields{Namespace: traceNS, Type: typ, Words: 24}
	n := option.HeaderFor(f.OptionLen())
	plain := udpFrame("fd0a::1", "fd0b::1", 9999, 64)
	h := make([]byte, n)
	option.EncodeHeader(h, packet.ProtoUDP, f.OptionLen())
	f.Encode(h[4:])
	out := append(append(append([]byte{}, plain[:54]...), h...), plain[54:]...)
	out[14+5] += byte(n)
	out[14+6] = 0
	return out
}
