package filter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"taproom/integration/room"
	"taproom/stack/packet"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	m.Run()
}

// attachment is a program in its place: at an interface ("a" is the one that
// frames come in at, "b" the one they leave by), or at netfilter's forward.
type attachment struct {
	program string
	dev     string
	egress  bool
	clsact  bool // not tcx
	pf      uint8
}

// router is one of the two: frames go in, frames come out.
type router interface {
	attach(t *testing.T, object string, at []attachment)
	send(dev string, p *packet.Packet)
	received(dev string) [][]byte
	dump(t *testing.T, name string) []string
}

var (
	hostA, hostB = net.HardwareAddr{2, 9, 0, 0, 0, 1}, net.HardwareAddr{2, 9, 0, 0, 1, 3}
	macA, macB   = net.HardwareAddr{2, 9, 0, 0, 0, 2}, net.HardwareAddr{2, 9, 0, 0, 1, 2}
	addresses    = map[string][]string{"a": {"10.0.1.1/24", "fd00:1::1/64"}, "b": {"192.0.2.1/24", "2001:db8::1/64"}}
	neighbours   = []struct {
		dev, ip string
		mac     net.HardwareAddr
	}{{"a", "10.0.1.2", hostA}, {"a", "fd00:1::2", hostA}, {"b", "192.0.2.2", hostB}, {"b", "2001:db8::2", hostB}}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entry writes one of a map's; counters per CPU, on whichever CPU, are summed.
func entry(name string, key, v []byte) string {
	if name == "packets" {
		n := uint64(0)
		for ; len(v) >= 8; v = v[8:] {
			n += binary.NativeEndian.Uint64(v)
		}
		return fmt.Sprintf("%x: %d", key, n)
	}
	return fmt.Sprintf("%x: %x", key, v)
}

// unfinished makes a packet of a frame. Its checksum is left to the device, as
// a sender's own kernel does: only the pseudo-header is summed.
func unfinished(frame []byte) *packet.Packet {
	p := packet.New(bytes.Clone(frame))
	f := p.Head()
	start, addrs, proto := 34, f[26:34], f[23]
	if f[12] == 0x86 {
		start, addrs, proto = 54, f[22:54], f[20]
	}
	sum := uint32(proto) + uint32(len(f)-start)
	for ; len(addrs) > 0; addrs = addrs[2:] {
		sum += uint32(binary.BigEndian.Uint16(addrs))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	off := 6
	if proto == 6 {
		off = 16
	}
	binary.BigEndian.PutUint16(f[start+off:], uint16(sum))
	p.SetPartialChecksum(start, off)
	return p
}

// frame makes one: a datagram, a segment or an echo request.
func frame(kind, src, dst string, sport, dport int, payload string) []byte {
	mac := [2]net.HardwareAddr{hostA, macA}
	if src == "192.0.2.2" || src == "2001:db8::2" {
		mac = [2]net.HardwareAddr{hostB, macB}
	}
	from, to := net.ParseIP(src), net.ParseIP(dst)
	v4 := from.To4() != nil
	proto := map[string]layers.IPProtocol{"udp": layers.IPProtocolUDP, "tcp": layers.IPProtocolTCP}[kind]
	eth := &layers.Ethernet{SrcMAC: mac[0], DstMAC: mac[1], EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer
	var n gopacket.NetworkLayer
	if v4 {
		l := &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: from, DstIP: to}
		ip, n = l, l
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: from, DstIP: to}
		ip, n = l, l
	}
	var l4 gopacket.SerializableLayer
	if kind == "udp" {
		u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
		_ = u.SetNetworkLayerForChecksum(n)
		l4 = u
	} else {
		s := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), SYN: true, Window: 1000, Seq: 5}
		_ = s.SetNetworkLayerForChecksum(n)
		l4 = s
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, l4, gopacket.Payload(payload)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// compile makes an object of one of the examples.
func compile(t *testing.T, source string) string {
	t.Helper()
	object := filepath.Join(t.TempDir(), "prog.o")
	out, err := exec.Command("clang", "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-I/usr/include/aarch64-linux-gnu", "-c", source, "-o", object).CombinedOutput()
	switch {
	case bytes.Contains(out, []byte("file not found")):
		t.Skipf("needs the headers of libbpf: %s", out)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	return object
}

const dnsQuery = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"

// TestSame runs the examples on both.
func TestSame(t *testing.T) {
	room.Need(t, "root", "tun", "clang")
	type step struct {
		dev   string
		frame []byte
	}
	out := []step{
		{"a", frame("udp", "10.0.1.2", "192.0.2.2", 1000, 53, dnsQuery+"\x03www\x07example\x00\x00\x01\x00\x01")},
		{"a", frame("udp", "10.0.1.2", "192.0.2.2", 1001, 53, dnsQuery+"\x03ADS\x07example\x00\x00\x01\x00\x01")},
		{"a", frame("tcp", "10.0.1.2", "192.0.2.2", 2000, 80, "")},
		{"a", frame("udp", "fd00:1::2", "2001:db8::2", 1000, 53, dnsQuery+"\x01x\x03ads\x07example\x00\x00\x01\x00\x01")},
		{"a", frame("tcp", "fd00:1::2", "2001:db8::2", 2000, 80, "odd")},
		{"b", frame("tcp", "192.0.2.2", "10.0.1.2", 80, 2000, "")},
		{"b", frame("tcp", "192.0.2.2", "10.0.1.2", 80, 2001, "")},
		{"b", frame("tcp", "2001:db8::2", "fd00:1::2", 9, 8080, "")},
		{"b", frame("udp", "192.0.2.2", "192.0.2.1", 53, 1000, "back")},
		{"b", frame("udp", "2001:db8::2", "2001:db8::1", 53, 1000, "back!")},
	}
	for _, c := range []struct {
		name, source string
		at           []attachment
		maps         []string
		partial      bool // unfinished checksums come in
	}{
		{"firewall", "firewall.c", []attachment{{program: "inside", dev: "a"}, {program: "outside", dev: "b"}}, []string{"packets"}, false},
		{"firewall/clsact", "firewall.c", []attachment{{program: "inside", dev: "a", clsact: true}, {program: "outside", dev: "b", clsact: true}}, []string{"packets"}, false},
		{"nat", "nat.c", []attachment{{program: "out", dev: "b", egress: true}, {program: "in", dev: "b"}}, []string{"inward", "outward"}, false},
		{"nat/clsact", "nat.c", []attachment{{program: "out", dev: "b", egress: true, clsact: true}, {program: "in", dev: "b", clsact: true}}, []string{"inward", "outward"}, false},
		{"dnsfilter", "dnsfilter.c", []attachment{{program: "filter_dns", dev: "a"}}, []string{"questions"}, false},
		{"ratelimit", "ratelimit.c", []attachment{{program: "limit", dev: "a"}}, nil, false},
		{"balancer", "balancer.c", []attachment{{program: "request", dev: "a"}, {program: "reply", dev: "a", egress: true}}, []string{"packets"}, false},
		{"nat/partial", "nat.c", []attachment{{program: "out", dev: "b", egress: true}, {program: "in", dev: "b"}}, []string{"inward", "outward"}, true},
		{"dnsfilter/partial", "dnsfilter.c", []attachment{{program: "filter_dns", dev: "a"}}, []string{"questions"}, true},
		{"balancer/partial", "balancer.c", []attachment{{program: "request", dev: "a"}, {program: "reply", dev: "a", egress: true}}, []string{"packets"}, true},
		{"netfilter", "testdata/forward.c", []attachment{{program: "no_udp", pf: 2}, {program: "no_udp", pf: 10}}, []string{"seen"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := filepath.Join("../../examples/bpf", c.source)
			if filepath.Dir(c.source) != "." {
				source = c.source
			}
			object := compile(t, source)
			var results [2]map[string][]string
			for k, r := range []router{newKernels(t), newOurs(t)} {
				r.attach(t, object, c.at)
				result := make(map[string][]string)
				r.received("a")
				r.received("b")
				for n, s := range out {
					if c.partial {
						r.send(s.dev, unfinished(s.frame))
					} else {
						r.send(s.dev, packet.New(bytes.Clone(s.frame)))
					}
					for _, dev := range []string{"a", "b"} {
						for _, f := range r.received(dev) {
							if !own(f) {
								result[dev] = append(result[dev], fmt.Sprintf("%d: %x", n, f))
							}
						}
					}
				}
				for _, m := range c.maps {
					result[m] = r.dump(t, m)
				}
				results[k] = result
			}
			if diff := cmp.Diff(results[0], results[1]); diff != "" {
				t.Errorf("kernel and taproom differ (-kernel +taproom):\n%s", diff)
			}
			if len(results[0]["a"])+len(results[0]["b"]) == 0 {
				t.Error("nothing came out of either")
			}
		})
	}
}

// own says that a router sent the frame of its own accord: ICMP, IGMP and
// whatever else is no answer to the frames sent here.
func own(f []byte) bool {
	switch {
	case len(f) < 54:
		return true
	case f[12] == 8 && f[13] == 0:
		return f[23] != 6 && f[23] != 17
	case f[12] == 0x86:
		return f[20] != 6 && f[20] != 17
	}
	return true
}
