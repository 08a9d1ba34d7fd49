package tap_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/taptest"
)

// kernelSegmenter is a namespace in which Linux bridges a device with offloads
// to one without: what goes in as a super-frame comes out as Linux cuts it.
type kernelSegmenter struct {
	in  *tap.TAP
	out *taptest.Recorder
}

func newKernelSegmenter(t testing.TB) *kernelSegmenter {
	t.Helper()
	room := taptest.NewRoom(t, 1, tap.Options{Name: "in"})
	plain, err := tap.Open(tap.Options{Name: "out", Namespace: room.Namespace, Offloads: noOffloads, QueueLen: 70000, Up: true, MTU: 65000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	err = room.Namespace.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br"
		noSnooping := false
		br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &noSnooping}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		for _, name := range []string{"in", "out"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetMaster(l, br); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(br)
	})
	if err != nil {
		t.Skip("needs a bridge in the kernel: ", err)
	}
	k := &kernelSegmenter{in: room.Device, out: &taptest.Recorder{}}
	if err := plain.Start(k.out.Receive); err != nil {
		t.Fatal(err)
	}
	if err := k.in.Start(func(_ int, b []*packet.Packet) {
		for _, p := range b {
			p.Release()
		}
	}); err != nil {
		t.Fatal(err)
	}
	return k
}

// marked tells frames of the test from what the kernel says by itself.
func marked(b []byte) bool { return len(b) > 12 && bytes.HasPrefix(b, []byte{2, 0, 0, 0, 0xee}) }

// cut has the kernel cut p, of which a clone is sent; it waits for n frames.
func (k *kernelSegmenter) cut(t testing.TB, p *packet.Packet, n int) [][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	k.out.Take()
	k.in.Write(0, p.Clone().Batch())
	var got [][]byte
	k.out.Wait(ctx, func(f []taptest.Frame) bool {
		got = got[:0]
		for _, f := range f {
			if marked(f.Bytes) {
				got = append(got, f.Bytes)
			}
		}
		return len(got) >= n
	})
	return got
}

// ours are the frames that we make of p.
func ours(p *packet.Packet) (frames [][]byte) {
	tap.Emit(p.Clone(), tap.Offloads{}, func(q *packet.Packet) {
		frames = append(frames, bytes.Clone(linear(q)))
		q.Release()
	}, func(q *packet.Packet, _ packet.Reason) { q.Release() })
	return frames
}

func linear(p *packet.Packet) []byte {
	p.Linearize()
	return p.Head()
}

func compare(t *testing.T, k *kernelSegmenter, what string, p *packet.Packet) bool {
	t.Helper()
	copy(p.Head(), []byte{2, 0, 0, 0, 0xee, 1})
	want := ours(p)
	got := k.cut(t, p, len(want))
	if slices.EqualFunc(got, want, bytes.Equal) {
		return true
	}
	t.Errorf("%s: Linux makes %d frames, we make %d", what, len(got), len(want))
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			n := min(len(got[i]), len(want[i]), 120)
			t.Errorf("frame %d, Linux (%d bytes) and ours (%d bytes):\n%x\n%x", i, len(got[i]), len(want[i]), got[i][:n], want[i][:n])
			break
		}
	}
	return false
}

// TestKernelSynthetic compares super-frames of every shape: sizes, options,
// ECN, tags, extension headers, all at random.
func TestKernelSynthetic(t *testing.T) {
	k := newKernelSegmenter(t)
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	ok := 0
	const total = 400
	for i := range total {
		what, p := randomSuper(r)
		if compare(t, k, fmt.Sprintf("%d: %s", i, what), p) {
			ok++
		}
		p.Release()
		if i-ok > 3 {
			t.Fatal("too many differences")
		}
	}
	t.Logf("%d of %d super-frames are cut as Linux does", ok, total)
}

// randomSuper makes a super-frame, or a single packet with a partial checksum.
func randomSuper(r *rand.Rand) (string, *packet.Packet) {
	be := binary.BigEndian
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	b := append([]byte{2, 0, 0, 0, 0xee, 1, 2, 0, 0, 0, 0, 1}, bytes.Repeat([]byte{0x81, 0, 0, 7}, r.IntN(5)/4)...)
	tagged := len(b) > 12
	v6, udp := r.IntN(2) == 0, r.IntN(3) == 0
	proto, field, offset := byte(packet.ProtoTCP), packet.GSOTCPv4, 16
	var l4 []byte
	flags := byte(0)
	if udp {
		proto, field, offset = packet.ProtoUDP, packet.GSOUDP, 6
		l4 = append(random(4), 0, 0, 0, 0)
	} else {
		if v6 {
			field = packet.GSOTCPv6
		}
		opts := r.IntN(11) * 4
		flags = 0x10 | byte(r.Uint32())&0xc9 // CWR, ECE, PSH, FIN
		l4 = append(append(random(12), byte(20+opts)<<2, flags), random(6+opts)...)
	}
	var ext []byte
	first := proto
	if v6 && r.IntN(2) == 0 {
		n := r.IntN(3)
		first = packet.ProtoHopByHop
		ext = append([]byte{packet.ProtoDestOpts, byte(n), 1, byte(4 + 8*n)}, make([]byte, 4+8*n)...)
		ext = append(ext, proto, 0, 1, 4, 9, 9, 9, 9)
	}
	mss := 8 + r.IntN(3000)
	payload := 1 + r.IntN(min(65535-60-len(l4)-len(ext), mss*60))
	size := len(l4) + payload
	if udp {
		be.PutUint16(l4[4:], uint16(size))
	}
	var ip []byte
	if v6 {
		b = append(b, 0x86, 0xdd)
		ip = be.AppendUint16([]byte{0x60 | byte(r.IntN(16)), byte(r.Uint32()), 1, 2}, uint16(size+len(ext)))
		ip = append(ip, first, 64)
		ip = append(ip, netip.MustParseAddr("2001:db8::77").AsSlice()...)
		ip = append(append(ip, netip.MustParseAddr("2001:db8::88").AsSlice()...), ext...)
	} else {
		b = append(b, 8, 0)
		ip = be.AppendUint16([]byte{0x45, byte(r.Uint32())}, uint16(size+20))
		ip = append(ip, random(2)...)
		ip = append(ip, byte(r.IntN(2))<<6, 0, 64, proto, 0, 0, 192, 0, 2, 77, 192, 0, 2, 88)
		be.PutUint16(ip[10:], packet.Checksum(ip[:20]))
	}
	be.PutUint16(l4[offset:], packet.Fold(packet.PseudoSum(ip, proto, size)))
	start := len(b) + len(ip)
	b = append(append(append(b, ip...), l4...), random(payload)...)
	p := packet.New(b)
	p.ParseLink()
	p.SetPartialChecksum(start, offset)
	if payload > mss {
		p.GSO = packet.GSO{Type: field, Size: uint16(mss), ECN: flags&0x80 != 0}
	}
	return fmt.Sprintf("v6 %v, UDP %v, tagged %v, %d bytes of extension headers, %d of transport header, flags %#x, payload %d by %d",
		v6, udp, tagged, len(ext), len(l4), flags, payload, mss), p
}

// TestKernelTraffic compares what a kernel really sends: TCP both ways with
// its options and ECN, and UDP super-frames.
func TestKernelTraffic(t *testing.T) {
	k := newKernelSegmenter(t)
	a, b := taptest.NewRoom(t, 2, tap.Options{}), taptest.NewRoom(t, 3, tap.Options{})
	for _, r := range []*taptest.Room{a, b} {
		if err := sysctl(r, "net.ipv4.tcp_ecn", "1"); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(chan *packet.Packet, 4096)
	tee := func(to *tap.TAP) tap.Receiver {
		return func(q int, batch []*packet.Packet) {
			for _, p := range batch {
				if p.GSO.Type != packet.GSONone || p.CsumPartial {
					select {
					case seen <- p.Clone():
					default: // enough
					}
				}
			}
			to.Write(q, batch)
		}
	}
	if err := a.Device.Start(tee(b.Device)); err != nil {
		t.Fatal(err)
	}
	if err := b.Device.Start(tee(a.Device)); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{b.Addr4, b.Addr6} {
		transferTCP(t, a.Namespace, b.Namespace, netip.AddrPortFrom(to, 5001))
		transferUDP(t, a.Namespace, b.Namespace, netip.AddrPortFrom(to, 5002))
		if err := a.Namespace.Do(func() error { return superUDP(netip.AddrPortFrom(to, 9)) }); err != nil {
			t.Log("no UDP super-frames: ", err)
		}
	}
	a.Device.Close()
	b.Device.Close()
	close(seen)
	ok, total, kinds := 0, 0, map[packet.GSOType]int{}
	for p := range seen {
		kinds[p.GSO.Type]++
		if total-ok < 4 && kinds[p.GSO.Type] <= 150 {
			total++
			if compare(t, k, fmt.Sprintf("%+v of %d bytes", p.GSO, p.Len()), p) {
				ok++
			}
		}
		p.Release()
	}
	for _, kind := range []packet.GSOType{packet.GSOTCPv4, packet.GSOTCPv6, packet.GSOUDP, packet.GSONone} {
		if kinds[kind] == 0 {
			t.Errorf("the kernel sent nothing of GSO type %d", kind)
		}
	}
	t.Logf("%d of %d packets of the kernel are finished as Linux does; seen by GSO type: %v", ok, total, kinds)
}
