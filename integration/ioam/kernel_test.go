package ioam

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/ioam"
	"taproom/ioam/option"
	"taproom/ioam/probe"
	"taproom/stack"
	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	os.Exit(m.Run())
}

// kernelRow is n1 - k - n2: two taproom nodes and a kernel's router between
// them. Frames come in at n1's "in" and leave at n2's "out", both in memory.
type kernelRow struct {
	n1, n2 *stack.Node
	i1, i2 *ioam.Node
	k      *room.Room
	events *kernelEvents
	in     *port
	out    chan []byte
	sub2   *ioam.Subscription
}

const (
	kernelNode = 0xabc
	traceNS    = 123
)

var memMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}

func newKernelRow(t *testing.T, c1, c2 ioam.Config) *kernelRow {
	t.Helper()
	room.Need(t, "root", "tun", "ip")
	if _, err := os.Stat("/proc/sys/net/ipv6/ioam6_id"); err != nil {
		t.Skipf("needs a kernel with CONFIG_IPV6 IOAM: %v", err)
	}
	r := &kernelRow{out: make(chan []byte, 64)}
	var err error
	r.k, err = room.New("k", room.Config{Addrs: []string{"fd10::2/64"}, Sysctls: map[string]string{
		"net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.default.accept_dad": "0", "net.ipv6.conf.all.accept_dad": "0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.k.Close() })
	second, err := tap.Open(tap.Options{Name: "eth1", Namespace: r.k.Ns, Up: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	for _, cmd := range []string{
		"ip addr add fd20::1/64 dev eth1 nodad", "ip -6 route add fd0b::/64 via fd20::2", "ip -6 route add fd0a::/64 via fd10::1",
		"sysctl -qw net.ipv6.ioam6_id=" + fmt.Sprint(kernelNode),
		"sysctl -qw net.ipv6.conf.eth0.ioam6_enabled=1", "sysctl -qw net.ipv6.conf.eth1.ioam6_enabled=1",
		"sysctl -qw net.ipv6.conf.eth0.ioam6_id=71", "sysctl -qw net.ipv6.conf.eth1.ioam6_id=72",
	} {
		r.k.Run(t, "sh", "-c", cmd)
	}
	r.k.Run(t, "ip", "ioam", "namespace", "add", fmt.Sprint(traceNS), "data", "0xdead0001")
	if r.events, err = listenEvents(r.k.Ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.events.close)
	r.n1 = r.node(t, "n1")
	r.n2 = r.node(t, "n2")
	r.in = r.memory(t, r.n1, "in", "fd0a::ff/64", nil)
	if _, err := r.k.Join(r.n1, "k", "fd10::1/64"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.n2.AddInterface(second, stack.InterfaceConfig{Name: "k", Addresses: []netip.Prefix{netip.MustParsePrefix("fd20::2/64")}}); err != nil {
		t.Fatal(err)
	}
	r.memory(t, r.n2, "out", "fd0b::ff/64", func(f []byte) {
		select {
		case r.out <- f:
		default:
		}
	})
	r.n2.AddNeighbor("out", netip.MustParseAddr("fd0b::1"), memMAC)
	r.route(t, r.n1, "fd0b::/64", "fd10::2")
	r.route(t, r.n1, "fd20::/64", "fd10::2")
	r.route(t, r.n2, "fd0a::/64", "fd20::1")
	r.route(t, r.n2, "fd10::/64", "fd20::1")
	r.i1, _ = r.attach(t, r.n1, 1, c1)
	r.i2, r.sub2 = r.attach(t, r.n2, 2, c2)
	return r
}

func (r *kernelRow) node(t *testing.T, name string) *stack.Node {
	n, err := stack.New(stack.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func (r *kernelRow) memory(t *testing.T, n *stack.Node, name, addr string, out func([]byte)) *port {
	p := &port{out: out, info: tap.Info{Name: name, MTU: 1500, Queues: 1, Inline: true}}
	if _, err := n.AddInterface(p, stack.InterfaceConfig{
		Addr: net.HardwareAddr{2, 0, 0, 0, 0, 8}, Addresses: []netip.Prefix{netip.MustParsePrefix(addr)},
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *kernelRow) route(t *testing.T, n *stack.Node, prefix, via string) {
	if err := n.AddRoute(stack.Route{Prefix: netip.MustParsePrefix(prefix), Via: netip.MustParseAddr(via)}); err != nil {
		t.Fatal(err)
	}
}

func (r *kernelRow) attach(t *testing.T, n *stack.Node, id uint32, c ioam.Config) (*ioam.Node, *ioam.Subscription) {
	c.NodeID = &id
	c.Namespaces = append(c.Namespaces, ioam.Namespace{ID: traceNS})
	c.Interfaces = make(map[int]ioam.Interface)
	for _, i := range n.Interfaces() {
		c.Interfaces[i.Index] = ioam.Interface{Enabled: true, ID: ioam.ID16(uint16(10*int(id) + i.Index))}
	}
	in, err := ioam.Attach(n, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in, in.Subscribe(64)
}

// send lets a datagram for fd0b::1 come in at n1.
func (r *kernelRow) send(port uint16, size int) []byte {
	f := udpFrame("fd0a::1", "fd0b::1", port, size)
	r.in.recv(0, []*packet.Packet{packet.New(f)})
	return f
}

// next waits for what comes out of n2.
func (r *kernelRow) next(t *testing.T) []byte {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case f := <-r.out:
			if f[14+6] != packet.ProtoICMPv6 && f[12] == 0x86 && !(f[14+6] == 0 && f[14+40] == packet.ProtoICMPv6) {
				return f
			}
		case <-deadline:
			t.Fatalf("nothing came out; n1 %v, n2 %v\n%v", r.n1.Counters().Drops, r.n2.Counters().Drops, r.i1.Counters())
		}
	}
}

func udpFrame(src, dst string, port uint16, size int) []byte {
	b := make([]byte, 14+48+size)
	copy(b, net.HardwareAddr{2, 0, 0, 0, 0, 8})
	copy(b[6:], memMAC)
	b[12], b[13] = 0x86, 0xdd
	ip := b[14:]
	ip[0], ip[4], ip[5], ip[6], ip[7] = 6<<4, byte((size+8)>>8), byte(size+8), packet.ProtoUDP, 64
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	u := ip[40:]
	u[0], u[1], u[2], u[3], u[4], u[5] = 0x9c, 0x41, byte(port>>8), byte(port), byte((size+8)>>8), byte(size+8)
	for i := range size {
		u[8+i] = byte(i)
	}
	sum := ^packet.Fold(packet.Sum(packet.PseudoSum(ip, packet.ProtoUDP, len(u)), u))
	u[6], u[7] = byte(sum>>8), byte(sum)
	return b
}

// TestKernelTransit: taproom puts traces in, a kernel's router fills them,
// taproom takes them out; the kernel's event and ours say the same, and the
// packet arrives as it was sent.
func TestKernelTransit(t *testing.T) {
	tunnel := ioam.Tunnel{
		Prefix: netip.MustParsePrefix("fd0b::/64"), Namespace: traceNS, Size: 96, Type: 0xf40000, // and namespace data
	}
	for name, mode := range map[string]ioam.Mode{"inline": ioam.Inline, "encap": ioam.Encap} {
		t.Run(name, func(t *testing.T) {
			tun := tunnel
			tun.Mode = mode
			hops := byte(3)
			if mode == ioam.Encap {
				tun.Dst, hops = netip.MustParseAddr("fd20::2"), 2
			}
			r := newKernelRow(t, ioam.Config{Tunnels: []ioam.Tunnel{tun}}, ioam.Config{Decapsulate: true})
			if mode == ioam.Inline {
				i := r.n2.InterfaceByName("out").Index()
				if err := r.i2.SetInterface(i, ioam.Interface{Edge: ioam.EdgeStrip}); err != nil {
					t.Fatal(err)
				}
			}
			for _, size := range []int{0, 100, 1200} {
				f := r.send(9999, size)
				got := r.next(t)
				f[14+7] -= hops
				if !bytes.Equal(got[14:], f[14:]) {
					t.Fatalf("arrived as\n%x, want\n%x", got[14:], f[14:])
				}
				ours := <-r.sub2.C
				theirs := r.events.next(t)
				h, err := ours.Hops()
				if err != nil || len(h) != 3 || h[0].NodeID != 2 || h[1].NodeID != kernelNode || h[2].NodeID != 1 {
					t.Fatalf("hops %+v, %v", h, err)
				}
				if h[1].Ingress != 71 || h[1].Egress != 72 || h[1].Data != 0xdead0001 {
					t.Errorf("the kernel recorded %+v", h[1])
				}
				if theirs.ns != traceNS || theirs.nodeLen != ours.NodeLen || theirs.typ != ours.Type ||
					!bytes.Equal(theirs.data, ours.Data()[4*int(ours.NodeLen):]) {
					t.Errorf("the kernel says %+v, we %v", theirs, &ours)
				}
			}
		})
	}
}

// TestKernelProbe asks a kernel that knows nothing of probes for the path.
func TestKernelProbe(t *testing.T) {
	r := newKernelRow(t, ioam.Config{}, ioam.Config{})
	p, err := probe.New(r.n2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r.k.Run(t, "sysctl", "-qw", "net.ipv6.icmp.ratelimit=0")
	// A forwarding kernel cannot ask for neighbours before its link-local
	// addresses have been checked; a sending one can.
	r.k.Run(t, "sh", "-c", "ping -c 1 -W 5 fd10::1 && ping -c 1 -W 5 fd20::2")
	for dst, want := range map[string][]uint64{"fd20::1": {kernelNode}, "fd10::1": {kernelNode, 1}} {
		res, err := p.Run(context.Background(), netip.MustParseAddr(dst), probe.Options{Namespace: traceNS, Interval: 10 * time.Millisecond})
		if err != nil || res.Answered != 3 {
			t.Fatalf("%s: %v\n%v\n%+v", dst, err, res, r.n1.Counters())
		}
		hops := res.Path.Flows[0].Paths[0].Hops
		var ids []uint64
		for _, h := range hops {
			ids = append(ids, h.ID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(want) {
			t.Errorf("%s: nodes %x, want %x\n%v", dst, ids, want, res)
		}
		t.Logf("%v", res)
	}
}

// TestKernelInject: a kernel's socket puts a trace in by hand, taproom's
// router fills it, and a socket of another kernel reads what arrived.
func TestKernelInject(t *testing.T) {
	room.Need(t, "root", "tun", "python3")
	two, err := room.NewTwo(room.Config{}, room.Config{Sysctls: map[string]string{"net.ipv6.conf.all.accept_dad": "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(two.Close)
	c := ioam.Config{NodeID: ioam.ID(7), Namespaces: []ioam.Namespace{{ID: traceNS}}, Interfaces: map[int]ioam.Interface{}}
	for _, i := range two.Node.Interfaces() {
		c.Interfaces[i.Index] = ioam.Interface{Enabled: true, ID: ioam.ID16(uint16(i.Index))}
	}
	n, err := ioam.Attach(two.Node, c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	recv := two.B.Command(ctx, "python3", "-c", `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPOPTS, 1)
s.bind(("::", 9999))
print("ready", flush=True)
data, anc, _, _ = s.recvmsg(2000, 2000)
for level, kind, value in anc:
    print(value.hex(), data.decode(), flush=True)
`)
	out, err := recv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	recv.Stderr = os.Stderr
	if err := recv.Start(); err != nil {
		t.Fatal(err)
	}
	defer recv.Wait()
	var b [4096]byte
	if k, err := out.Read(b[:]); err != nil || !strings.HasPrefix(string(b[:k]), "ready") {
		t.Fatalf("%q %v", b[:k], err)
	}
	f := option.TraceFields{Namespace: traceNS, Type: 0xc00000, Words: 6}
	h := make([]byte, option.HeaderFor(f.OptionLen()))
	option.EncodeHeader(h, 0, f.OptionLen())
	f.Encode(h[4:])
	two.A.Run(t, "python3", "-c", fmt.Sprintf(`
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes.fromhex("%x"))
s.sendto(b"hello", ("%s", 9999))
`, h, room.B6))
	k, err := out.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	opts, payload, _ := strings.Cut(strings.TrimSpace(string(b[:k])), " ")
	raw, err := hex.DecodeString(opts)
	if err != nil || payload != "hello" {
		t.Fatalf("%q %v", b[:k], err)
	}
	want := bytes.Clone(h)
	want[0] = packet.ProtoUDP
	want[4+7] = 4
	copy(want[len(want)-8:], []byte{63, 0, 0, 7, 0, byte(two.Node.InterfaceByName("eth0").Index()), 0, byte(two.Node.InterfaceByName("eth1").Index())})
	if !bytes.Equal(raw, want) {
		t.Errorf("the socket got\n%x, want\n%x", raw, want)
	}
}

// TestTshark lets Wireshark read every kind of trace we write.
func TestTshark(t *testing.T) {
	room.Need(t, "tshark", "text2pcap")
	var frames [][]byte
	types := []option.Type{0xc00000, 0xf00000, 0xfff000, 0x00e000, 0x800002, 0x01f000}
	for _, typ := range types {
		frames = append(frames, written(t, typ))
	}
	var dump bytes.Buffer
	for _, f := range frames {
		dump.WriteString("000000")
		for _, c := range f {
			fmt.Fprintf(&dump, " %02x", c)
		}
		dump.WriteString("\n\n")
	}
	file := t.TempDir() + "/trace.pcap"
	run(t, &dump, "text2pcap", "-q", "-", file)
	out := run(t, nil, "tshark", "-r", file, "-T", "fields", "-e", "ipv6.opt.ioam.trace.ns", "-e", "ipv6.opt.ioam.trace.node.id",
		"-e", "ipv6.opt.ioam.trace.node.id_wide", "-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "ipv6.opt.ioam.trace.node.oss.data")
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("%d lines:\n%s", len(lines), out)
	}
	for i, l := range lines {
		w := strings.Split(l, "\t")
		id := ""
		if types[i]&option.HopNode != 0 {
			id = w[1]
		} else if types[i]&option.HopNodeWide != 0 {
			id = w[2]
		}
		if w[0] != "0x007b" && w[0] != "123" || w[3] != "" || w[4] != "" || id != "" && !strings.Contains(id, "5") {
			t.Errorf("%v: tshark reads %q", types[i], l)
		}
	}
	t.Logf("tshark read %d traces", len(lines))
}

// written is a frame with a trace as our tunnel puts it in and fills it.
func written(t *testing.T, typ option.Type) []byte {
	t.Helper()
	n, err := stack.New(stack.Options{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var got []byte
	r := &kernelRow{}
	in := r.memory(t, n, "in", "fd0a::ff/64", nil)
	r.memory(t, n, "out", "fd0b::ff/64", func(f []byte) {
		if f[14+6] == 0 && f[14+40] == packet.ProtoUDP {
			got = f
		}
	})
	n.AddNeighbor("out", netip.MustParseAddr("fd0b::1"), memMAC)
	_, err = ioam.Attach(n, ioam.Config{
		NodeID: ioam.ID(5), NodeIDWide: ioam.ID64(5),
		Schemas:    []ioam.Schema{{ID: 9, Data: []byte("seen")}},
		Namespaces: []ioam.Namespace{{ID: traceNS, Data: ioam.ID(1), Wide: ioam.ID64(2), Schema: ioam.ID(9)}},
		Tunnels: []ioam.Tunnel{{
			Prefix: netip.MustParsePrefix("fd0b::/64"), Namespace: traceNS, Type: typ, Size: 200,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	in.recv(0, []*packet.Packet{packet.New(udpFrame("fd0a::1", "fd0b::1", 9999, 20))})
	if got == nil {
		t.Fatalf("%v: nothing came out: %v", typ, n.Counters().Drops)
	}
	return got
}

func run(t *testing.T, stdin *bytes.Buffer, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	if stdin != nil {
		c.Stdin = stdin
	}
	var e bytes.Buffer
	c.Stderr = &e
	out, err := c.Output()
	if err != nil {
		var x *exec.ExitError
		errors.As(err, &x)
		t.Fatalf("%s: %v\n%s", name, err, e.String())
	}
	return string(out)
}
