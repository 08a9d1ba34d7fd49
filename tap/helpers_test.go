package tap_test

import (
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"taproom/tap/netns"
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
