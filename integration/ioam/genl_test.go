package ioam

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"taproom/tap/netns"
)

// kernelEvents hears the events of IOAM's generic netlink family in a
// namespace.
type kernelEvents struct {
	sock *nl.NetlinkSocket
	c    chan kernelEvent
}

// kernelEvent is a trace event (IOAM6_EVENT_TRACE) as the kernel sent it.
type kernelEvent struct {
	ns      uint16
	nodeLen uint8
	typ     uint32
	data    []byte
}

func listenEvents(ns *netns.Namespace) (*kernelEvents, error) {
	k := &kernelEvents{c: make(chan kernelEvent, 64)}
	err := ns.Do(func() error {
		f, err := netlink.GenlFamilyGet("IOAM6")
		if err != nil {
			return err
		}
		s, err := nl.Subscribe(unix.NETLINK_GENERIC)
		if err != nil {
			return err
		}
		k.sock = s
		for _, g := range f.Groups {
			if g.Name == "ioam6_events" {
				return unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(g.ID))
			}
		}
		return unix.ENOENT
	})
	if err != nil {
		return nil, err
	}
	tv := unix.NsecToTimeval(int64(100 * time.Millisecond))
	k.sock.SetReceiveTimeout(&tv)
	return k, nil
}

func (k *kernelEvents) close() { k.sock.Close() }

// next reads one event. The attributes' types are in the kernel's byte order.
func (k *kernelEvents) next(t *testing.T) kernelEvent {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		msgs, _, err := k.sock.Receive()
		if err != nil {
			continue // nothing yet
		}
		for _, m := range msgs {
			var e kernelEvent
			attrs, err := nl.ParseRouteAttr(m.Data[4:])
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range attrs {
				switch a.Attr.Type {
				case 1:
					e.ns = binary.NativeEndian.Uint16(a.Value)
				case 2:
					e.nodeLen = a.Value[0]
				case 3:
					e.typ = binary.NativeEndian.Uint32(a.Value)
				case 4:
					e.data = a.Value
				}
			}
			return e
		}
	}
	t.Fatal("the kernel sent no event")
	return kernelEvent{}
}
