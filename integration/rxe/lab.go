package rxe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Lab is a network namespace with one bridge in it, on which a guest's TAP and
// those of our side meet. It takes CAP_NET_ADMIN.
type Lab struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	bridge *netlink.Bridge
}

// NewLab makes a namespace without a name, which ends with the lab, and the
// bridge. The bridge forwards groups everywhere, and the namespace has no IPv6,
// so that nothing but the guests and we talk.
func NewLab() (*Lab, error) {
	l := &Lab{}
	err := inThread(func() (err error) {
		l.ns, err = netns.New() // moves this thread, which goes back below
		if err != nil {
			return err
		}
		// /proc/sys/net is that of the thread that opens it.
		for _, k := range []string{"all", "default"} {
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+k+"/disable_ipv6", []byte("1"), 0)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: a network namespace: %w", ErrUnavailable, err)
	}
	if l.handle, err = netlink.NewHandleAt(l.ns); err != nil {
		l.ns.Close()
		return nil, err
	}
	off := false
	l.bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}, MulticastSnooping: &off}
	l.bridge.MTU = maxMTU
	l.bridge.HardwareAddr = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 3} // or it changes as TAPs come and go
	if err := l.handle.LinkAdd(l.bridge); err != nil {
		l.Close()
		return nil, fmt.Errorf("%w: a bridge: %w", ErrUnavailable, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, 3), Mask: net.CIDRMask(24, 32)}}
	if err := errors.Join(l.handle.AddrAdd(l.bridge, addr), l.handle.LinkSetUp(l.bridge)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

const maxMTU = 9000

// Close ends the lab once the TAPs are closed.
func (l *Lab) Close() error {
	if l.handle != nil {
		l.handle.Close()
	}
	return l.ns.Close()
}

// Namespace returns the lab's namespace, for devices and programs of a test's
// own. It belongs to the lab.
func (l *Lab) Namespace() netns.NsHandle { return l.ns }

// TAP makes a TAP device of whole frames on the bridge. With vnet its frames
// have a virtio-net header of ten bytes in front. The file is the caller's;
// closing it removes the device.
func (l *Lab) TAP(name string, mtu int, vnet bool) (*os.File, error) {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if vnet {
		flags |= unix.IFF_VNET_HDR
	}
	var fd int
	err := l.In(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		req.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: TAP %s: %w", ErrUnavailable, name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := l.Enslave(name, mtu); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Enslave makes a device of the namespace a port of the bridge, and brings it up.
func (l *Lab) Enslave(name string, mtu int) error {
	link, err := l.handle.LinkByName(name)
	if err == nil {
		err = errors.Join(l.handle.LinkSetMTU(link, mtu), l.handle.LinkSetMaster(link, l.bridge), l.handle.LinkSetUp(link))
	}
	if err != nil {
		return fmt.Errorf("rxe: device %s: %w", name, err)
	}
	return nil
}

// BridgeAddr is the bridge's own address: what the kernel on our side of the
// segment is called, for the TCP talks of RDMA programs.
const BridgeAddr = "10.9.0.3"

// Dial opens a TCP connection from the bridge's address.
func (l *Lab) Dial(addr string) (c net.Conn, err error) {
	err = l.In(func() (err error) { c, err = net.DialTimeout("tcp4", addr, 5*time.Second); return err })
	return c, err
}

// Listen listens for TCP connections to the bridge's address.
func (l *Lab) Listen(port string) (c net.Listener, err error) {
	err = l.In(func() (err error) { c, err = net.Listen("tcp4", BridgeAddr+":"+port); return err })
	return c, err
}

// In calls f on a thread in the lab's namespace.
func (l *Lab) In(f func() error) error {
	return inThread(func() error {
		if err := netns.Set(l.ns); err != nil {
			return err
		}
		return f()
	})
}

// inThread calls f on a thread of its own. If the thread cannot come back to
// where it was, it is thrown away: no other code will run in a wrong namespace.
func inThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err == nil {
			err = f()
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}
		done <- err
	}()
	return <-done
}

// StartTAP boots a guest on the bridge of a new lab, for a test that also wants
// TAPs of its own there. It skips where that cannot be had.
func StartTAP(tb testing.TB, o Options) (*Guest, *Lab) {
	tb.Helper()
	if testing.Short() && !required("rxe-tap") {
		tb.Skip("rxe-tap: boots a guest, left out with -short")
	}
	l, err := NewLab()
	if err != nil {
		Missing(tb, "rxe-tap", err)
	}
	tb.Cleanup(func() { l.Close() })
	if o.MTU == 0 {
		o.MTU = 1500
	}
	name := "t-" + strings.TrimPrefix(o.Name, "t-")
	if o.Name == "" {
		name = "t-a"
	}
	tap, err := l.TAP(name, o.MTU, false)
	if err != nil {
		Missing(tb, "rxe-tap", err)
	}
	o.TAP = tap
	g := Start(tb, o)
	tap.Close() // QEMU has it
	return g, l
}
