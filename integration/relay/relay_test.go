// Package relay tests a container's way out through the host's sockets: a
// namespace behind a TAP, and servers in the namespace of the test.
package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"taproom/integration/room"
	"taproom/stack"
	"taproom/stack/packet"
	"taproom/stack/relay"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// container is a room behind a relay. 10.0.2.2 and fd00::2 lead to the host's
// loopback, where the test's servers are.
type container struct {
	*room.Room
	node  *stack.Node
	relay *relay.Relay
}

var (
	gw4, gw6 = netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("fd00::2")
	lo4, lo6 = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
)

func newContainer(t testing.TB, mtu int, c relay.Config) *container {
	t.Helper()
	room.Need(t, "root", "tun")
	live := packet.Live()
	r, err := room.New("c", room.Config{Addrs: []string{"10.0.2.100/24", "fd00::100/64"}, Via: []string{"10.0.2.1", "fd00::1"}, MTU: mtu})
	must(t, err)
	n, err := stack.New(stack.Options{Name: "gw"})
	must(t, err)
	i, err := r.Join(n, "tap0", "10.0.2.1/24", "fd00::1/64")
	must(t, err)
	c.Interface = i.Index()
	if c.HostLoopback == nil {
		c.HostLoopback = map[netip.Addr]netip.Addr{gw4: lo4, gw6: lo6}
	}
	for a := range c.HostLoopback { // answered for on the link
		bits := 24
		if a.Is6() {
			bits = 64
		}
		must(t, i.AddAddress(netip.PrefixFrom(a, bits)))
	}
	rl, err := relay.New(n, c)
	must(t, err)
	t.Cleanup(func() {
		rl.Close()
		n.Close()
		_ = r.Close()
		for end := time.Now().Add(5 * time.Second); packet.Live() > live; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%d packets leaked", packet.Live()-live)
				break
			}
		}
	})
	return &container{r, n, rl}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// both runs a test over IPv4 and IPv6.
func both(t *testing.T, f func(t *testing.T, gw, lo netip.Addr)) {
	t.Run("v4", func(t *testing.T) { f(t, gw4, lo4) })
	t.Run("v6", func(t *testing.T) { f(t, gw6, lo6) })
}

func TestTCPOut(t *testing.T) {
	room.Need(t, "nc")
	c := newContainer(t, 1500, relay.Config{})
	both(t, func(t *testing.T, gw, lo netip.Addr) {
		l, err := net.Listen("tcp", netip.AddrPortFrom(lo, 0).String())
		must(t, err)
		defer l.Close()
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			b, _ := io.ReadAll(conn) // until the client's half-close
			_, _ = conn.Write(b)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		cmd := c.Command(ctx, "nc", "-N", gw.String(), port)
		cmd.Stdin = bytes.NewReader(want)
		got, err := cmd.Output()
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes came back", len(got), len(want))
		}
	})
}

func TestRefusedIsRefused(t *testing.T) {
	room.Need(t, "nc")
	c := newContainer(t, 1500, relay.Config{})
	both(t, func(t *testing.T, gw, lo netip.Addr) {
		start := time.Now()
		out, err := c.Output("nc", "-v", "-w", "5", gw.String(), "9")
		if err == nil || !strings.Contains(out, "refused") || time.Since(start) > 3*time.Second {
			t.Errorf("after %v: %v %s", time.Since(start), err, out)
		}
	})
}

func TestHostLoopbackIsClosedByDefault(t *testing.T) {
	room.Need(t, "nc")
	c := newContainer(t, 1500, relay.Config{HostLoopback: map[netip.Addr]netip.Addr{}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, to := range []string{"10.0.2.1", "127.0.0.1"} {
		if out, err := c.Output("nc", "-z", "-v", "-w", "2", to, port); err == nil {
			t.Errorf("%s: %s", to, out)
		}
	}
}

func TestUDPOut(t *testing.T) {
	room.Need(t, "nc")
	c := newContainer(t, 1500, relay.Config{})
	both(t, func(t *testing.T, gw, lo netip.Addr) {
		s, err := net.ListenPacket("udp", netip.AddrPortFrom(lo, 0).String())
		must(t, err)
		defer s.Close()
		go func() {
			b := make([]byte, 65536)
			for {
				n, from, err := s.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = s.WriteTo(b[:n], from)
			}
		}()
		_, port, _ := net.SplitHostPort(s.LocalAddr().String())
		for _, size := range []int{5, 1400, 4000} {
			want := strings.Repeat("x", size)
			out := c.Run(t, "sh", "-c", fmt.Sprintf("printf %s | nc -u -w 1 %s %s", want, gw, port))
			if out != want {
				t.Errorf("%d bytes: %d came back", size, len(out))
			}
		}
	})
}

// Only one peer of ours passes on that a UDP port is closed.
func TestUDPPortUnreachable(t *testing.T) {
	room.Need(t, "traceroute")
	c := newContainer(t, 1500, relay.Config{})
	both(t, func(t *testing.T, gw, lo netip.Addr) {
		// nc -u -z sends twice: the second write reports the error of the first.
		out, err := c.Output("nc", "-u", "-z", "-v", "-w", "3", gw.String(), "9")
		if err == nil {
			t.Errorf("a closed port looks open: %s", out)
		}
	})
}

func TestEcho(t *testing.T) {
	room.Need(t, "ping")
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range"); err != nil || strings.HasPrefix(string(b), "1\t0") {
		must(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0o644))
	}
	c := newContainer(t, 1500, relay.Config{})
	both(t, func(t *testing.T, gw, lo netip.Addr) {
		c.Run(t, "ping", "-c", "2", "-i", "0.05", "-W", "3", gw.String())
		if out, err := c.Output("ping", "-c", "1", "-t", "1", "-W", "2", gw.String()); err == nil || !strings.Contains(out, "xceeded") {
			t.Errorf("TTL 1: %s", out)
		}
	})
}

func TestForwardTCP(t *testing.T) {
	room.Need(t, "nc")
	c := newContainer(t, 1500, relay.Config{})
	f, err := c.relay.AddForward(relay.Forward{Proto: "tcp", Host: netip.MustParseAddrPort("127.0.0.1:0"), Guest: netip.MustParseAddrPort("10.0.2.100:8080"), Gateway: gw4})
	must(t, err)
	// Nobody listens inside: a reset, not a silence.
	conn, err := net.Dial("tcp", f.Host.String())
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a port without a listener: %v", err)
		}
		_ = conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	srv := c.Command(ctx, "nc", "-v", "-l", "-N", "8080")
	srv.Stdin = strings.NewReader("hello from inside")
	var said bytes.Buffer
	srv.Stderr = &said
	must(t, srv.Start())
	var got []byte
	for end := time.Now().Add(10 * time.Second); len(got) == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", f.Host.String())
		if err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, _ = io.ReadAll(conn)
		_ = conn.Close()
	}
	if string(got) != "hello from inside" {
		t.Errorf("got %q; the server said %s", got, said.String())
	}
	_ = srv.Wait()
	if !strings.Contains(said.String(), "10.0.2.2") {
		t.Errorf("the client's address is not the gateway: %s", said.String())
	}
	must(t, c.relay.RemoveForward(f.ID))
	if conn, err := net.Dial("tcp", f.Host.String()); err == nil {
		_ = conn.Close()
		t.Error("the forward is still there")
	}
}
