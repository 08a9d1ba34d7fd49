package ioam_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"taproom/ioam"
	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// everything is a configuration in which any option is acted upon.
func everything() ioam.Config {
	return ioam.Config{
		Decapsulate: true, ErrorRate: -1,
		Extras: ioam.Extras{
			TransitDelay: true, Checksum: true, Incremental: true, DirectExport: true, EdgeToEdge: true, Loopback: true,
			LoopbackRate: -1, LocalTime: true, QueueAlways: true, Buffer: func() (uint32, bool) { return 7, true },
		},
		Schemas: []ioam.Schema{{ID: 7, Data: []byte("schema")}},
		Tunnels: []ioam.Tunnel{
			{Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: 0xf00002, Size: 64, E2E: option.Sequence64},
			{Prefix: netip.MustParsePrefix("2001:db8:c::/64"), Namespace: 123, Type: 0xffe000, Size: 128, Mode: ioam.Encap,
				Dst: netip.MustParseAddr("2001:db8:2::2")},
		},
	}
}

// FuzzPacket lets hostile packets come in, be forwarded and leave, at a node
// like Linux and at one with everything on. Nothing may panic, what goes on
// must be as long as it says, and what a tunnel puts in must come out again.
func FuzzPacket(f *testing.F) {
	for _, typ := range benchTypes {
		f.Add(tracedPacket(typ, 20).Head())
		f.Add(tracedPacket(typ|option.Opaque|option.TransitDelay, 61).Head())
	}
	inc := tracedPacket(0xf00000, 20).Head()
	inc[47] = byte(option.Incremental)
	f.Add(inc)
	f.Add(frame(4791, 40)[14:])
	f.Add(append(frame(9999, 0)[14:54], bytes.Repeat([]byte{0x11, 0}, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 40 || len(b) > 9000 {
			return
		}
		for _, c := range []ioam.Config{{}, everything()} {
			h := newBench(t, c)
			before := packet.Live()
			fuzzIn(t, h, b)
			fuzzOut(t, h, b)
			if n := packet.Live() - before; n != 0 {
				t.Fatalf("%d packets leaked", n)
			}
		}
	})
}

func fuzzIn(t *testing.T, h *benchHost, b []byte) {
	for _, kind := range []hook.RouteKind{hook.Unicast, hook.LocalRoute} {
		h.route.Kind = kind
		p := packet.New(b)
		p.Head()[0] = 6<<4 | p.Head()[0]&15
		p.In, p.Time, p.Proto = 1, 1795212969568786000, packet.EtherIPv6
		p.SetL3(0)
		v := h.handlers[hook.Prerouting].Handle(hook.Prerouting, p)
		if v == hook.Continue && whole(b) && !whole(p.Head()) {
			t.Fatalf("went on with a wrong length: %x", p.Head())
		}
		if v == hook.Continue && kind == hook.LocalRoute && h.handlers[hook.Input] != nil {
			h.handlers[hook.Input].Handle(hook.Input, p)
		}
		if v != hook.Stolen {
			p.Release()
		}
	}
	h.route.Kind = hook.Unicast
}

// fuzzOut sends the packet through a tunnel and takes it apart again.
func fuzzOut(t *testing.T, h *benchHost, b []byte) {
	p := packet.New(b)
	d := receiver.As16()
	copy(p.Head()[24:40], d[:])
	p.Head()[0] = 6<<4 | p.Head()[0]&15
	binary.BigEndian.PutUint16(p.Head()[4:], uint16(len(b)-40))
	p.Out, p.Proto, p.Local = 2, packet.EtherIPv6, true
	p.SetL3(0)
	was := bytes.Clone(p.Head())
	v := hook.Continue
	if f := h.handlers[hook.Postrouting]; f != nil {
		v = f.Handle(hook.Postrouting, p)
	}
	if v == hook.Stolen {
		return
	}
	if v == hook.Continue && !whole(p.Head()) {
		t.Fatalf("left with a wrong length: %x", p.Head())
	}
	if v == hook.Continue && p.Len() > len(was) {
		if !ioam.StripForTest(p) || !bytes.Equal(p.Head(), was) {
			t.Fatalf("stripped:\n%x, want\n%x", p.Head(), was)
		}
	}
	p.Release()
}

func whole(b []byte) bool {
	n := int(binary.BigEndian.Uint16(b[4:]))
	return n == 0 || 40+n <= len(b)
}
