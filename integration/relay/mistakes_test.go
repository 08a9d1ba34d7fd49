package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/stack/packet"
	"taproom/stack/relay"
)

// What other programs of this kind get wrong, as far as relay_test.go has not
// got it already.

// dial connects from inside the container to a port of the gateway's.
func (c *container) dial(to string) (net.Conn, error) {
	var conn net.Conn
	err := c.Ns.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", to, 10*time.Second)
		return err
	})
	return conn, err
}

func listener(t testing.TB, lo netip.Addr) (*net.TCPListener, string) {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(lo, 0).String())
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l.(*net.TCPListener), port
}

func TestResetIsReset(t *testing.T) {
	c := newContainer(t, 1500, relay.Config{})
	both(t, func(t *testing.T, gw, lo netip.Addr) {
		l, port := listener(t, lo)
		for _, way := range []string{"server", "client"} {
			in, err := c.dial(net.JoinHostPort(gw.String(), port))
			must(t, err)
			out, err := l.AcceptTCP()
			must(t, err)
			breaks, sees := out, in.(*net.TCPConn)
			if way == "client" {
				breaks, sees = sees, breaks
			}
			must(t, breaks.SetLinger(0))
			must(t, breaks.Close())
			_ = sees.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := sees.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the %s reset the connection, the other side saw %v", way, err)
			}
			_ = sees.Close()
		}
	})
}

func TestShortReplyThenClose(t *testing.T) {
	c := newContainer(t, 65520, relay.Config{})
	l, port := listener(t, lo4)
	go func() {
		for {
			s, err := l.AcceptTCP()
			if err != nil {
				return
			}
			_, _ = s.Write([]byte("short"))
			_ = s.Close()
		}
	}()
	for k := range 200 {
		in, err := c.dial(net.JoinHostPort(gw4.String(), port))
		must(t, err)
		_ = in.SetReadDeadline(time.Now().Add(5 * time.Second))
		b, err := io.ReadAll(in)
		_ = in.Close()
		if err != nil || string(b) != "short" {
			t.Fatalf("connection %d: %q, %v", k, b, err)
		}
	}
}

func TestDeadAddressIsSilent(t *testing.T) {
	room.Need(t, "ping")
	c := newContainer(t, 1500, relay.Config{})
	for _, to := range []string{"10.0.2.77", "198.18.255.254", "fd00::77"} {
		if out, err := c.Output("ping", "-c", "1", "-W", "1", to); err == nil {
			t.Errorf("%s answers: %s", to, out)
		}
	}
}

// IPv4-mapped addresses would lead to the host's loopback.
func TestMappedAddressIsNoWayIn(t *testing.T) {
	c := newContainer(t, 1500, relay.Config{HostLoopback: map[netip.Addr]netip.Addr{}})
	l, port := listener(t, lo4)
	_ = l
	p := packet.Alloc(60)
	h := p.Head()
	clear(h)
	h[0], h[5], h[6], h[7] = 0x60, 20, packet.ProtoTCP, 64
	copy(h[8:], netip.MustParseAddr("fd00::100").AsSlice())
	to := netip.MustParseAddr("::ffff:127.0.0.1").As16()
	copy(h[24:], to[:])
	var n int
	_, _ = fmt.Sscan(port, &n)
	h[40], h[41], h[42], h[43], h[52], h[53] = 0x80, 1, byte(n>>8), byte(n), 0x50, 2
	must(t, c.node.Deliver(c.node.InterfaceByName("tap0").Index(), p))
	_ = l.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if s, err := l.Accept(); err == nil {
		_ = s.Close()
		t.Error("the host's loopback was reached")
	}
}

func TestForwardKeepsSource(t *testing.T) {
	c := newContainer(t, 1500, relay.Config{})
	addrs, err := net.InterfaceAddrs()
	must(t, err)
	var own netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			own = p.Addr()
		}
	}
	if !own.IsValid() {
		t.Skip("needs an IPv4 address that is not loopback")
	}
	var inside net.Listener
	var udp net.PacketConn
	must(t, c.Ns.Do(func() (err error) {
		if inside, err = net.Listen("tcp", "10.0.2.100:80"); err == nil {
			udp, err = net.ListenPacket("udp", "10.0.2.100:53")
		}
		return err
	}))
	defer inside.Close()
	defer udp.Close()
	f, err := c.relay.AddForward(relay.Forward{Proto: "tcp", Host: netip.AddrPortFrom(own, 0), Guest: netip.MustParseAddrPort("10.0.2.100:80"), Gateway: gw4})
	must(t, err)
	out, err := net.Dial("tcp", f.Host.String())
	must(t, err)
	defer out.Close()
	in, err := inside.Accept()
	must(t, err)
	defer in.Close()
	if in.RemoteAddr().String() != out.LocalAddr().String() {
		t.Errorf("TCP: %v came as %v", out.LocalAddr(), in.RemoteAddr())
	}
	f, err = c.relay.AddForward(relay.Forward{Proto: "udp", Host: netip.AddrPortFrom(own, 0), Guest: netip.MustParseAddrPort("10.0.2.100:53"), Gateway: gw4})
	must(t, err)
	u, err := net.Dial("udp", f.Host.String())
	must(t, err)
	defer u.Close()
	_, _ = u.Write([]byte("q"))
	b := make([]byte, 10)
	_ = udp.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, from, err := udp.ReadFrom(b)
	must(t, err)
	if from.String() != u.LocalAddr().String() {
		t.Errorf("UDP: %v came as %v", u.LocalAddr(), from)
	}
	_, _ = udp.WriteTo([]byte("a"), from)
	_ = u.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := u.Read(b); err != nil || string(b[:n]) != "a" {
		t.Errorf("no answer: %v", err)
	}
}

func TestShutForwardRefuses(t *testing.T) {
	c := newContainer(t, 1500, relay.Config{})
	f, err := c.relay.AddForward(relay.Forward{Proto: "tcp", Host: netip.MustParseAddrPort("127.0.0.1:0"), Guest: netip.MustParseAddrPort("10.0.2.100:80"), Shut: true})
	must(t, err)
	if _, err := net.Dial("tcp", f.Host.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("shut: %v", err)
	}
	must(t, c.relay.ShutForward(f.ID, false))
	conn, err := net.Dial("tcp", f.Host.String())
	must(t, err)
	_ = conn.Close()
	must(t, c.relay.ShutForward(f.ID, true))
	if _, err := net.Dial("tcp", f.Host.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("shut again: %v", err)
	}
}

// Flows come and go, and nothing of them stays.
func TestChurn(t *testing.T) {
	count := 20000
	if testing.Short() {
		count = 1000
	}
	c := newContainer(t, 1500, relay.Config{})
	l, port := listener(t, lo4)
	go func() {
		for {
			s, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(s, s); _ = s.Close() }()
		}
	}()
	goroutines, fds := runtime.NumGoroutine(), openFiles(t)
	deadline := time.Now().Add(40 * time.Second)
	done := make(chan error, 8)
	for range 8 {
		go func() {
			done <- c.Ns.Do(func() error {
				for range count / 8 {
					if time.Now().After(deadline) {
						return nil
					}
					conn, err := net.Dial("tcp", net.JoinHostPort(gw4.String(), port))
					if err != nil {
						return err
					}
					_, _ = conn.Write([]byte("x"))
					_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
					_, err = conn.Read(make([]byte, 1))
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
					if err != nil {
						return err
					}
					u, err := net.Dial("udp", net.JoinHostPort(gw4.String(), "9"))
					if err != nil {
						return err
					}
					_, _ = u.Write([]byte("x"))
					_ = u.Close()
				}
				return nil
			})
		}()
	}
	for range 8 {
		must(t, <-done)
	}
	opened := c.relay.Stats()
	for end := time.Now().Add(10 * time.Second); c.relay.Stats().TCP > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	s := c.relay.Stats()
	if s.TCP != 0 || s.UDP > 4096 {
		t.Errorf("left over: %+v", s)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines+5 && openFiles(t)-s.UDP <= fds+5 {
			break
		}
	}
	if g, f := runtime.NumGoroutine(), openFiles(t)-s.UDP; g > goroutines+5 || f > fds+5 {
		t.Errorf("goroutines %d to %d, descriptors but for UDP flows %d to %d", goroutines, g, fds, f)
	}
	t.Logf("%d TCP connections, %d UDP flows, %d of them evicted", opened.TCPOpened, opened.UDPOpened, opened.Evicted)
}

func openFiles(t testing.TB) int {
	e, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(e)
}

// Idle connections hold no buffers.
func TestIdleConnections(t *testing.T) {
	count := 2000
	if testing.Short() {
		count = 200
	}
	c := newContainer(t, 1500, relay.Config{})
	l, port := listener(t, lo4)
	go func() {
		for {
			s, err := l.AcceptTCP()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = s.Close() })
		}
	}()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := heap()
	must(t, c.Ns.Do(func() error {
		for range count {
			conn, err := net.Dial("tcp", net.JoinHostPort(gw4.String(), port))
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
		return nil
	}))
	// The test's own ends of the connections are in it too.
	if each := int(heap()-before) / count; each > 24<<10 {
		t.Errorf("%d bytes for each idle connection", each)
	} else {
		t.Logf("%d bytes for each of %d idle connections", each, count)
	}
}
