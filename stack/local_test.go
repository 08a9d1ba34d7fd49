package stack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestEcho(t *testing.T) {
	n := newTestNode(t)
	for _, c := range []struct{ src, dst string }{{"10.9.0.1", "10.9.0.2"}, {"10.9.0.1", "10.9.1.2"}, {"fd09::1", "fd09::2"}, {"fd09::1", "fd09:0:0:1::2"}} {
		n.y0.in(frame(macY0, macX, echo(c.src, c.dst, data(3000)[:1400])))
		got := n.y0.out()
		if len(got) != 1 || !bytes.Equal(got[0][:6], macX) || !bytes.HasSuffix(got[0], data(1400)) {
			t.Errorf("%v: %d frames, drops %v", c, len(got), n.Counters().Drops)
		}
	}
	n.y0.in(frame(macY0, macX, echo("10.9.0.1", "10.9.0.77", nil)))
	if got := n.y0.out(); len(got) != 1 || got[0][12] != 8 || got[0][13] != 6 {
		t.Errorf("a dead address was answered: %x", got)
	}
}

// Fragments for the node are made whole, and Input sees the whole.
func TestReassembly(t *testing.T) {
	n := newTestNode(t)
	var seen []int
	_, err := n.Attach(hook.Input, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
		seen = append(seen, p.Len())
		return hook.Continue
	}), hook.Options{})
	must(t, err)
	whole := echo("10.9.0.1", "10.9.0.2", data(4000))
	parts := cut(whole, 1480)
	for _, k := range []int{2, 0, 0, 1} { // out of order, one twice
		n.y0.in(frame(macY0, macX, parts[k]))
	}
	got := n.y0.out()
	if len(seen) != 1 || seen[0] != len(whole) || len(got) != 3 {
		t.Fatalf("Input saw %v, %d frames came back; drops %v", seen, len(got), n.Counters().Drops)
	}
	// Overlap ends it, as in RFC 5722.
	bad := bytes.Clone(parts[1])
	bad[7] -= 1
	setIPv4Checksum(bad)
	for _, b := range [][]byte{parts[0], bad, parts[1], parts[2]} {
		n.y0.in(frame(macY0, macX, b))
	}
	if len(seen) != 1 {
		t.Errorf("overlapping fragments were delivered")
	}
	n.clock.Advance(31 * time.Second)
	if d := n.Counters().Drops[packet.ReassemblyTimeout.String()]; d == 0 {
		t.Errorf("drops %v", n.Counters().Drops)
	}
}

// cut fragments an IPv4 packet.
func cut(pkt []byte, size int) (out [][]byte) {
	body := pkt[20:]
	for at := 0; at < len(body); at += size {
		end := min(at+size, len(body))
		b := append(bytes.Clone(pkt[:20]), body[at:end]...)
		b[2], b[3] = byte(len(b)>>8), byte(len(b))
		b[6], b[7] = byte(at/8>>8), byte(at/8)
		if end < len(body) {
			b[6] |= 0x20
		}
		setIPv4Checksum(b)
		out = append(out, b)
	}
	return out
}

func TestReassemblyMemoryIsBounded(t *testing.T) {
	n := newTestNode(t)
	for id := range 20000 {
		b := cut(ip(ipSpec{src: "10.9.0.1", dst: "10.9.0.2", id: uint16(id), payload: data(2000)}), 1480)[0]
		n.y0.in(frame(macY0, macX, b))
	}
	if m := n.defrag.memory; m > n.opts.ReassemblyMemory {
		t.Errorf("%d bytes wait, limit %d", m, n.opts.ReassemblyMemory)
	}
	if n.Counters().Drops[packet.ReassemblyLimit.String()] == 0 {
		t.Error("nothing was counted as over the limit")
	}
}

// pair is two nodes on a wire, with neighbours to be found by themselves.
func pair(t *testing.T) (a, b *Node) {
	t.Helper()
	live := packet.Live()
	mk := func(name, v4, v6 string) (*Node, *port) {
		n, err := New(Options{Name: name})
		must(t, err)
		p := newPort("eth0")
		_, err = n.AddInterface(p, InterfaceConfig{Addresses: []netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}})
		must(t, err)
		return n, p
	}
	a, pa := mk("a", "10.0.0.1/24", "fd00::1/64")
	b, pb := mk("b", "10.0.0.2/24", "fd00::2/64")
	wire(pa, pb)
	t.Cleanup(func() {
		a.Close()
		b.Close()
		eventually(t, "all packets released", func() bool { return packet.Live() <= live })
	})
	return a, b
}

func TestTCPBetweenNodes(t *testing.T) {
	a, b := pair(t)
	for _, addr := range []string{"10.0.0.2:80", "[fd00::2]:80"} {
		to := netip.MustParseAddrPort(addr)
		l, err := b.ListenTCP(to)
		must(t, err)
		want := bytes.Repeat(data(256), 4096)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		c, err := a.DialTCP(ctx, netip.AddrPort{}, to)
		must(t, err)
		go func() { _, _ = c.Write(want) }()
		got := make([]byte, len(want))
		_, err = io.ReadFull(c, got)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Error("what came back is not what was sent")
		}
		_ = c.Close()
		_ = l.Close()
		cancel()
	}
}

func TestUDPBetweenNodes(t *testing.T) {
	a, b := pair(t)
	for _, addr := range []string{"10.0.0.2:53", "[fd00::2]:53"} {
		to := netip.MustParseAddrPort(addr)
		s, err := b.ListenUDP(to)
		must(t, err)
		c, err := a.DialUDP(netip.AddrPort{}, to)
		must(t, err)
		want := data(9000) // fragments both ways
		_, err = c.Write(want)
		must(t, err)
		buf := make([]byte, 16384)
		must(t, s.SetReadDeadline(time.Now().Add(10*time.Second)))
		k, from, err := s.ReadFrom(buf)
		must(t, err)
		if !bytes.Equal(buf[:k], want) {
			t.Errorf("%d bytes arrived", k)
		}
		_, err = s.WriteTo(want[:10], from)
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		if k, err = c.Read(buf); err != nil || k != 10 {
			t.Errorf("answer: %d bytes, %v", k, err)
		}
		_ = s.Close()
		_ = c.Close()
	}
}

// A drop at Output or Postrouting is the sender's error, as EPERM on Linux.
func TestDropTellsSender(t *testing.T) {
	n := newTestNode(t)
	for _, pt := range []hook.Point{hook.Output, hook.Postrouting} {
		l, err := n.Attach(pt, hook.HandlerFunc(func(hook.Point, *hook.Packet) hook.Verdict { return hook.Drop }), hook.Options{})
		must(t, err)
		c, err := n.DialUDP(netip.AddrPort{}, netip.MustParseAddrPort("10.9.0.1:9"))
		must(t, err)
		if _, err = c.Write([]byte("x")); err == nil {
			t.Errorf("%v: no error", pt)
		}
		p := packet.New(ip(ipSpec{src: "10.9.0.2", dst: "10.9.0.1", payload: data(8)}))
		if err := n.Send(p); !errors.Is(err, hook.ErrDropped) {
			t.Errorf("%v: Send: %v", pt, err)
		}
		_ = c.Close()
		must(t, l.Close())
	}
}

func TestPortUnreachable(t *testing.T) {
	n := newTestNode(t)
	for _, c := range []struct {
		src, dst string
		at       int
		kind     byte
		code     byte
	}{{"10.9.0.1", "10.9.0.2", 34, 3, 3}, {"fd09::1", "fd09::2", 54, 1, 4}} {
		n.y0.in(frame(macY0, macX, ip(ipSpec{src: c.src, dst: c.dst, payload: udpTo(c.src, c.dst, 5, 6, data(8))})))
		got := n.y0.out()
		if len(got) != 1 || got[0][c.at] != c.kind || got[0][c.at+1] != c.code {
			t.Errorf("%x", got)
		}
	}
}

func TestSelf(t *testing.T) {
	n := newTestNode(t)
	for _, addr := range []string{"127.0.0.1:7", "[::1]:7", "10.9.0.2:7", "[fd09:0:0:1::2]:7"} {
		to := netip.MustParseAddrPort(addr)
		s, err := n.ListenUDP(to)
		must(t, err)
		c, err := n.DialUDP(netip.AddrPort{}, to)
		must(t, err)
		_, err = c.Write([]byte("self"))
		must(t, err)
		buf := make([]byte, 16)
		must(t, s.SetReadDeadline(time.Now().Add(10*time.Second)))
		if k, _, err := s.ReadFrom(buf); err != nil || string(buf[:k]) != "self" {
			t.Errorf("%s: %q, %v", addr, buf[:k], err)
		}
		_ = s.Close()
		_ = c.Close()
	}
}
