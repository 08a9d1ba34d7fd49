package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// What is forwarded leaves as it came, but for link addresses and hop limit.
func TestForwardByteIdentical(t *testing.T) {
	const a4, b4, a6, b6 = "10.9.0.1", "10.9.1.3", "fd09::1", "fd09:0:0:1::3"
	u4, u6 := udpTo(a4, b4, 4000, 9999, data(100)), udpTo(a6, b6, 4000, 9999, data(100))
	zero4, zero6, bad6 := bytes.Clone(u4), bytes.Clone(u6), bytes.Clone(u6)
	zero4[6], zero4[7], zero6[6], zero6[7] = 0, 0, 0, 0
	bad6[7] ^= 0x55
	hbh := []byte{packet.ProtoUDP, 0, 5, 2, 0, 0, 1, 0}
	ioam := []byte{packet.ProtoUDP, 1, 1, 0, 0x31, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	dst := []byte{packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}
	frag6 := []byte{packet.ProtoUDP, 0, 0, 1, 0, 0, 0, 0x77}
	for _, c := range []struct {
		name string
		pkt  []byte
	}{
		{"udp4", ip(ipSpec{src: a4, dst: b4, id: 7, payload: u4})},
		{"udp6", ip(ipSpec{src: a6, dst: b6, payload: u6})},
		{"udp4, no checksum", ip(ipSpec{src: a4, dst: b4, payload: zero4})},
		{"udp6, no checksum", ip(ipSpec{src: a6, dst: b6, payload: zero6})},
		{"udp6, wrong checksum", ip(ipSpec{src: a6, dst: b6, payload: bad6})},
		{"options", ip(ipSpec{src: a4, dst: b4, options: []byte{1, 1, 1, 0}, payload: u4})},
		{"first fragment", func() []byte {
			p := ip(ipSpec{src: a4, dst: b4, id: 9, payload: u4[:64]})
			p[6] = 0x20
			setIPv4Checksum(p)
			return p
		}()},
		{"later fragment", func() []byte {
			p := ip(ipSpec{src: a4, dst: b4, id: 9, payload: data(33)})
			p[7] = 8
			setIPv4Checksum(p)
			return p
		}()},
		{"hop-by-hop", ip(ipSpec{src: a6, dst: b6, ext: hbh, extNext: 0, payload: u6})},
		{"ioam, not ours to fill", ip(ipSpec{src: a6, dst: b6, ext: ioam, extNext: 0, payload: u6})},
		{"destination options", ip(ipSpec{src: a6, dst: b6, ext: dst, extNext: 60, payload: u6})},
		{"fragment header", ip(ipSpec{src: a6, dst: b6, ext: frag6, extNext: 44, payload: u6[:64]})},
		{"unknown protocol", ip(ipSpec{src: a4, dst: b4, proto: 253, payload: data(7)})},
		{"full size", ip(ipSpec{src: a4, dst: b4, df: true, payload: data(1480)})},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newTestNode(t)
			f := frame(macY0, macX, c.pkt)
			n.y0.in(f)
			got := n.y1.out()
			if len(got) != 1 || !bytes.Equal(got[0], forwarded(f, macZ, macY1)) {
				t.Fatalf("sent %x\nwant %x\ndrops %v", got, forwarded(f, macZ, macY1), n.Counters().Drops)
			}
		})
	}
}

// Padding of short frames is not forwarded.
func TestForwardCutsPadding(t *testing.T) {
	n := newTestNode(t)
	f := frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: udpTo("10.9.0.1", "10.9.1.3", 1, 2, nil)}))
	n.y0.in(append(bytes.Clone(f), make([]byte, 18)...))
	if got := n.y1.out(); len(got) != 1 || !bytes.Equal(got[0], forwarded(f, macZ, macY1)) {
		t.Fatalf("sent %x", got)
	}
}

// Errors are those of the RFCs, and carry what they must.
func TestForwardErrors(t *testing.T) {
	const x4, x6 = "10.9.0.1", "fd09::1"
	for _, c := range []struct {
		name       string
		pkt        []byte
		kind, code byte
		info       uint32
		reason     packet.Reason
	}{
		{"TTL 1", ip(ipSpec{src: x4, dst: "10.9.1.3", ttl: 1, payload: data(8)}), 11, 0, 0, packet.TTLExceeded},
		{"hop limit 1", ip(ipSpec{src: x6, dst: "fd09:0:0:1::3", ttl: 1, payload: data(8)}), 3, 0, 0, packet.TTLExceeded},
		{"too big, DF", ip(ipSpec{src: x4, dst: "10.9.1.3", df: true, payload: data(1300)}), 3, 4, 1280, packet.TooBig},
		{"too big", ip(ipSpec{src: x6, dst: "fd09:0:0:1::3", payload: data(1300)}), 2, 0, 1280, packet.TooBig},
		{"no route", ip(ipSpec{src: x4, dst: "192.0.2.1", payload: data(8)}), 3, 0, 0, packet.NoRoute},
		{"no route 6", ip(ipSpec{src: x6, dst: "2001:db8::1", payload: data(8)}), 1, 0, 0, packet.NoRoute},
		{"prohibited", ip(ipSpec{src: x4, dst: "198.51.100.1", payload: data(8)}), 3, 13, 0, packet.Prohibited},
		{"unreachable", ip(ipSpec{src: x4, dst: "198.51.101.1", payload: data(8)}), 3, 1, 0, packet.Prohibited},
		{"option says so", ip(ipSpec{src: x6, dst: "fd09:0:0:1::3", ext: []byte{17, 0, 0x91, 4, 0, 0, 0, 0}, extNext: 0, payload: data(8)}), 4, 2, 42, packet.OptionUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newTestNode(t)
			must(t, n.InterfaceByName("y1").SetMTU(1280))
			must(t, n.AddRoute(Route{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Kind: hook.Prohibit}))
			must(t, n.AddRoute(Route{Prefix: netip.MustParsePrefix("198.51.101.0/24"), Kind: hook.Unreachable}))
			n.y0.in(frame(macY0, macX, c.pkt))
			if got := n.y1.out(); len(got) != 0 {
				t.Errorf("forwarded %x", got)
			}
			got := n.y0.out()
			if len(got) != 1 {
				t.Fatalf("%d frames came back, drops %v", len(got), n.Counters().Drops)
			}
			icmp, quote := got[0][34:], got[0][42:]
			if c.pkt[0]>>4 == 6 {
				icmp, quote = got[0][54:], got[0][62:]
			}
			if icmp[0] != c.kind || icmp[1] != c.code || binary.BigEndian.Uint32(icmp[4:]) != c.info {
				t.Errorf("ICMP type %d code %d info %d, want %d %d %d", icmp[0], icmp[1], binary.BigEndian.Uint32(icmp[4:]), c.kind, c.code, c.info)
			}
			if !bytes.HasPrefix(c.pkt, quote) {
				t.Errorf("quote %x is not of the packet", quote)
			}
			if !bytes.Equal(got[0][:6], macX) {
				t.Errorf("sent to %x", got[0][:6])
			}
			if d := n.Counters().Drops[c.reason.String()]; d != 1 {
				t.Errorf("drops %v", n.Counters().Drops)
			}
		})
	}
}

// What may be cut is cut, and the parts make the whole again.
func TestForwardFragments(t *testing.T) {
	n := newTestNode(t)
	must(t, n.InterfaceByName("y1").SetMTU(600))
	payload := data(1400)
	n.y0.in(frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", id: 77, proto: 253, payload: payload})))
	got := n.y1.out()
	if len(got) != 3 {
		t.Fatalf("%d fragments", len(got))
	}
	var whole []byte
	for k, f := range got {
		b := f[14:]
		if headerSum(b[:20]) != 0xffff || binary.BigEndian.Uint16(b[4:]) != 77 || int(binary.BigEndian.Uint16(b[6:])&0x1fff)*8 != len(whole) {
			t.Errorf("fragment %d: %x", k, b[:20])
		}
		if more := b[6]&0x20 != 0; more != (k < 2) {
			t.Errorf("fragment %d: more fragments %v", k, more)
		}
		whole = append(whole, b[20:]...)
	}
	if !bytes.Equal(whole, payload) {
		t.Error("the parts are not the whole")
	}
}

// A super-frame passes whole when its segments fit, and is refused as one
// packet when they do not.
func TestForwardSuperFrame(t *testing.T) {
	n := newTestNode(t)
	tcp := make([]byte, 20+40000)
	tcp[12] = 0x50
	pkt := ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", df: true, proto: packet.ProtoTCP, payload: tcp})
	send := func(size uint16) {
		p := packet.New(frame(macY0, macX, pkt))
		p.GSO = packet.GSO{Type: packet.GSOTCPv4, Size: size}
		p.SetPartialChecksum(34, 16)
		n.y0.recv(0, []*packet.Packet{p})
	}
	send(1460)
	if got := n.y1.out(); len(got) != 1 || len(got[0]) != 14+len(pkt) {
		t.Errorf("%d frames, drops %v", len(got), n.Counters().Drops)
	}
	send(1461)
	if got := n.y1.out(); len(got) != 0 {
		t.Errorf("a super-frame of segments over the MTU passed")
	}
	if got := n.y0.out(); len(got) != 1 || got[0][34] != 3 || got[0][35] != 4 || binary.BigEndian.Uint16(got[0][40:]) != 1500 {
		t.Errorf("answer %x", got)
	}
}

// Nothing answers for what does not exist, and nobody answers errors.
func TestSilence(t *testing.T) {
	n := newTestNode(t)
	icmpError := ip(ipSpec{src: "10.9.0.1", dst: "192.0.2.1", proto: packet.ProtoICMP, payload: append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, data(28)...)})
	later := ip(ipSpec{src: "10.9.0.1", dst: "192.0.2.1", payload: data(16)})
	later[7] = 1
	setIPv4Checksum(later)
	badSum := ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: data(8)})
	badSum[10] ^= 1
	for name, pkt := range map[string][]byte{
		"an error about nowhere": icmpError,
		"a later fragment":       later,
		"a wrong checksum":       badSum,
		"source is broadcast":    ip(ipSpec{src: "255.255.255.255", dst: "10.9.1.3", payload: data(8)}),
		"source is loopback":     ip(ipSpec{src: "127.0.0.1", dst: "10.9.1.3", payload: data(8)}),
		"link-local destination": ip(ipSpec{src: "fd09::1", dst: "fe80::99", payload: data(8)}),
		"multicast source":       ip(ipSpec{src: "ff02::5", dst: "fd09:0:0:1::3", payload: data(8)}),
	} {
		n.y0.in(frame(macY0, macX, pkt))
		if a, b := n.y0.out(), n.y1.out(); len(a)+len(b) != 0 {
			t.Errorf("%s: %x %x", name, a, b)
		}
	}
}

func TestForwardDoesNotAllocate(t *testing.T) {
	n := newTestNode(t)
	n.y0.keep, n.y1.keep = false, false
	for _, pkt := range [][]byte{
		ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: udpTo("10.9.0.1", "10.9.1.3", 1, 2, data(18))}),
		ip(ipSpec{src: "fd09::1", dst: "fd09:0:0:1::3", payload: udpTo("fd09::1", "fd09:0:0:1::3", 1, 2, data(18))}),
	} {
		f := frame(macY0, macX, pkt)
		got := testing.AllocsPerRun(1000, func() {
			p := packet.Alloc(len(f))
			copy(p.Head(), f)
			n.y0.recv(0, p.Batch())
		})
		if got != 0 {
			t.Errorf("IPv%d: %v allocations a packet", pkt[0]>>4, got)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	n := newTestNode(b)
	n.y0.keep, n.y1.keep = false, false
	for name, pkt := range map[string][]byte{
		"v4": ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: udpTo("10.9.0.1", "10.9.1.3", 1, 2, data(18))}),
		"v6": ip(ipSpec{src: "fd09::1", dst: "fd09:0:0:1::3", payload: udpTo("fd09::1", "fd09:0:0:1::3", 1, 2, data(18))}),
	} {
		f := frame(macY0, macX, pkt)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := packet.Alloc(len(f))
				copy(p.Head(), f)
				n.y0.recv(0, p.Batch())
			}
		})
	}
}

// BenchmarkForwardHooks is the same with an empty handler at every point.
func BenchmarkForwardHooks(b *testing.B) {
	n := newTestNode(b)
	n.y0.keep, n.y1.keep = false, false
	f := frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "10.9.1.3", payload: udpTo("10.9.0.1", "10.9.1.3", 1, 2, data(18))}))
	run := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := packet.Alloc(len(f))
			copy(p.Head(), f)
			n.y0.recv(0, p.Batch())
		}
	}
	b.Run("none", run)
	for pt := range hook.NumPoints {
		_, err := n.Attach(pt, hook.HandlerFunc(func(hook.Point, *hook.Packet) hook.Verdict { return hook.Continue }), hook.Options{})
		must(b, err)
	}
	b.Run("seven", run)
}

// BenchmarkForwardScale is the same with 1,000 interfaces and 100,000 routes.
func BenchmarkForwardScale(b *testing.B) {
	n := newTestNode(b)
	n.y0.keep, n.y1.keep = false, false
	for k := range 1000 {
		_, err := n.AddInterface(newPort(fmt.Sprintf("p%d", k)), InterfaceConfig{NoLinkLocal: true})
		must(b, err)
	}
	routes := make([]Route, 100000)
	for k := range routes {
		routes[k] = Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(k >> 16), byte(k >> 8), byte(k)}), 32), Via: netip.MustParseAddr("10.9.1.3")}
	}
	must(b, n.AddRoutes(routes))
	f := frame(macY0, macX, ip(ipSpec{src: "10.9.0.1", dst: "11.0.70.7", payload: udpTo("10.9.0.1", "11.0.70.7", 1, 2, data(18))}))
	b.ReportAllocs()
	for b.Loop() {
		p := packet.Alloc(len(f))
		copy(p.Head(), f)
		n.y0.recv(0, p.Batch())
	}
}
