package tap_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"taproom/tap/netns"
	"taproom/tap/taptest"
)

func deleteLink(n *netns.Namespace, name string) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
}

// sendSegmented sends b as one super-frame of datagrams of size bytes.
func sendSegmented(c *net.UDPConn, b []byte, size int) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	}); err != nil || inner != nil {
		return inner
	}
	_, err = c.Write(b)
	return err
}

func sysctl(r *taptest.Room, key, value string) error {
	return r.Namespace.Configure(netns.Config{Sysctls: map[string]string{key: value}})
}

// superUDP sends UDP super-frames of several sizes to addr.
func superUDP(addr netip.AddrPort) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, n := range []int{2000, 2001, 30000, 54321} {
		if err := sendSegmented(c, make([]byte, n), 1000); err != nil {
			return err
		}
	}
	return nil
}

// countOrder sends flows of n numbered datagrams at once, and counts those
// that arrive and those that arrive after a later one of their flow.
func countOrder(t *testing.T, from, to *taptest.Room, addr netip.AddrPort, flows, n int) (received, overtaken int) {
	t.Helper()
	var server *net.UDPConn
	err := to.Namespace.Do(func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range flows {
		var c *net.UDPConn
		err := from.Namespace.Do(func() (err error) {
			c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			// Resolve the address first: what waits for that may be overtaken
			// in the kernel.
			c.Write([]byte{0, 0, 0})
			server.Read(make([]byte, 3))
		}
		wg.Go(func() {
			defer c.Close()
			for k := range n {
				c.Write([]byte{byte(i), byte(k >> 8), byte(k)})
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := map[byte]int{}
		b := make([]byte, 100)
		for {
			if _, err := server.Read(b); err != nil {
				return
			}
			received++
			k := int(b[1])<<8 | int(b[2])
			if k < last[b[0]] {
				overtaken++
			}
			last[b[0]] = max(k, last[b[0]])
		}
	}()
	wg.Wait()
	server.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // what is still under way
	<-done
	server.Close()
	return received, overtaken
}

// openTCP connects from with to; send moves n bytes and returns when they have
// arrived.
func openTCP(t *testing.T, from, to *taptest.Room, addr netip.AddrPort) (send func(n int), done func()) {
	t.Helper()
	var l net.Listener
	err := to.Namespace.Do(func() (err error) { l, err = net.Listen("tcp", addr.String()); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var c net.Conn
	err = from.Namespace.Do(func() (err error) { c, err = net.Dial("tcp", addr.String()); return err })
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	out, in := make([]byte, 1<<16), make([]byte, 1<<16)
	work := make(chan int)
	go func() {
		for n := range work {
			for ; n > 0; n -= len(out) {
				c.Write(out)
			}
		}
	}()
	send = func(n int) {
		work <- n
		for n > 0 {
			k, err := s.Read(in)
			if err != nil {
				t.Error(err)
				return
			}
			n -= k
		}
	}
	return send, func() { close(work); c.Close(); s.Close() }
}

// roomOptions are for tests that ordinary users can run, too.
var roomOptions netns.Options
