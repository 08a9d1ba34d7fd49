package tap_test

import (
	"net"
	"net/netip"

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
