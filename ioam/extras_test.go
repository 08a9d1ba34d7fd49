package ioam_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"taproom/ioam"
	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

func allNodes(c ioam.Config) map[string]ioam.Config {
	return map[string]ioam.Config{"e1": c, "m": c, "e2": c}
}

// traceIn finds the trace in a frame that came out.
func traceIn(t *testing.T, frames [][]byte, k option.Kind) option.Trace {
	t.Helper()
	if len(frames) == 0 {
		t.Fatal("nothing came out")
	}
	f := frames[len(frames)-1]
	if f[14+6] != packet.ProtoHopByHop {
		t.Fatalf("no hop-by-hop header: %x", f)
	}
	o := option.Header(f[54:]).Find(k)
	if o == nil || !option.Trace(o).Valid() {
		t.Fatalf("no %v option in %x", k, f[54:])
	}
	return option.Trace(o)
}

func hopsOf(t *testing.T, tr option.Trace) []option.Hop {
	t.Helper()
	var hops []option.Hop
	for h, err := range tr.Hops() {
		if err != nil {
			t.Fatal(err)
		}
		hops = append(hops, *h)
	}
	return hops
}

func TestTransitDelay(t *testing.T) {
	tun := toReceiver
	tun.Type, tun.Size = option.HopNode|option.TransitDelay|option.Checksum, 60
	c := ioam.Config{Extras: ioam.Extras{TransitDelay: true, Checksum: true}}
	config := allNodes(c)
	c.Tunnels = []ioam.Tunnel{tun}
	config["e1"] = c
	l := newLine(t, config)
	sub := l.ioam["e2"].Subscribe(1)
	l.send(frame(9999, 50))
	hops := hopsOf(t, traceIn(t, l.out, option.Preallocated))
	if len(hops) != 3 {
		t.Fatalf("%d hops", len(hops))
	}
	// The nodes' clock advances by 10 us whenever it is read.
	for _, h := range hops {
		if h.TransitDelay == 0 || h.TransitDelay > 200_000 || h.TransitDelay%10_000 != 0 {
			t.Errorf("node %d: delay %d ns", h.NodeID, h.TransitDelay)
		}
	}
	<-sub.C
}

// TestChecksumComplement: the ones' complement sum of the option stays what it
// was, transit delay and all.
func TestChecksumComplement(t *testing.T) {
	for _, kind := range []option.Kind{option.Preallocated, option.Incremental} {
		for _, typ := range []option.Type{0x810000, 0xff0000, 0xf9e000, 0x810002} {
			h := newBench(t, ioam.Config{Extras: ioam.Extras{Checksum: true, TransitDelay: true, Incremental: true}})
			p := tracedPacket(typ, 30)
			p.Head()[47] = byte(kind)
			if kind == option.Incremental {
				p = incrementalPacket(typ, 30)
			}
			sum := onesSum(option.Trace(p.Head()[44:])[:p.Head()[45]+2], kind)
			if v := h.handlers[hook.Prerouting].Handle(hook.Prerouting, p); v != hook.Continue {
				t.Fatalf("%v: %v", typ, v)
			}
			h.handlers[hook.Egress].Handle(hook.Egress, p)
			tr := option.Trace(p.Head()[44:])
			hops := hopsOf(t, tr[:tr.Len()])
			if len(hops) != 1 && kind == option.Incremental || hops[0].Checksum == option.Unset32 {
				t.Errorf("%v %v: hops %+v", kind, typ, hops)
			}
			if got := onesSum(tr[:tr.Len()], kind); got != sum {
				t.Errorf("%v %v: sum %#x, was %#x", kind, typ, got, sum)
			}
		}
	}
}

// onesSum sums the trace header and data. An incremental trace's length octet
// is left out: it belongs to the encapsulation.
func onesSum(b []byte, k option.Kind) uint32 {
	var s uint32
	for i := 4; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return s % 0xffff
}

func incrementalPacket(typ option.Type, words int) *packet.Packet {
	p := tracedPacket(typ, 0)
	p.Head()[47], p.Head()[51] = byte(option.Incremental), byte(words)
	return p
}

func TestIncremental(t *testing.T) {
	for _, typ := range []option.Type{0x800000, 0xc00000, 0xe00000} {
		tun := toReceiver
		tun.Kind, tun.Type, tun.Size = option.Incremental, typ, 20
		c := ioam.Config{Extras: ioam.Extras{Incremental: true}}
		config := allNodes(c)
		c.Tunnels = []ioam.Tunnel{tun}
		config["e1"] = c
		l := newLine(t, config)
		f := frame(9999, 50)
		l.send(f)
		tr := traceIn(t, l.out, option.Incremental)
		hops := hopsOf(t, tr)
		fit := min(5/typ.NodeLen(), 3)
		if len(hops) != fit || tr.Remaining() != 5-fit*typ.NodeLen() || tr.Overflow() != (fit < 3) {
			t.Errorf("%v: %d hops, room %d, overflow %v", typ, len(hops), tr.Remaining(), tr.Overflow())
		}
		for i, h := range hops {
			if int(h.NodeID) != fit-i {
				t.Errorf("%v: hop %d is node %d", typ, i, h.NodeID)
			}
		}
		out := l.out[0][14:]
		if int(binary.BigEndian.Uint16(out[4:]))+40 != len(out) {
			t.Errorf("%v: length %d in a packet of %d", typ, binary.BigEndian.Uint16(out[4:]), len(out))
		}
	}
}

func TestDirectExport(t *testing.T) {
	tun := toReceiver
	tun.Kind, tun.FlowID = option.DirectExport, 77
	c := ioam.Config{Extras: ioam.Extras{DirectExport: true}}
	config := allNodes(c)
	c.Tunnels = []ioam.Tunnel{tun}
	config["e1"] = c
	l := newLine(t, config)
	subs := map[string]*ioam.Subscription{}
	for name, n := range l.ioam {
		subs[name] = n.Subscribe(4)
	}
	l.send(frame(9999, 50))
	l.send(frame(9999, 50))
	for name, id := range map[string]uint32{"e1": 1, "m": 2, "e2": 3} {
		for seq := range uint64(2) {
			e := <-subs[name].C
			hops, err := e.Hops()
			if err != nil || e.Kind != option.DirectExport || e.FlowID != 77 || e.Sequence != seq || len(hops) != 1 || hops[0].NodeID != id {
				t.Errorf("%s: %v %+v %v", name, &e, hops, err)
			}
		}
	}
}

// TestLoopback: every node on the way sends a copy back with what has been
// recorded so far, and the copies ask for no more.
func TestLoopback(t *testing.T) {
	tun := toReceiver
	tun.Loopback, tun.Active = true, true
	c := ioam.Config{Extras: ioam.Extras{Loopback: true}}
	config := allNodes(c)
	c.Tunnels = []ioam.Tunnel{tun}
	config["e1"] = c
	l := newLine(t, config)
	l.send(frame(9999, 2000-600))
	if len(l.out) != 1 || len(l.back) != 2 {
		t.Fatalf("%d came out, %d came back", len(l.out), len(l.back))
	}
	if !traceIn(t, l.out, option.Preallocated).Loopback() {
		t.Error("the packet itself lost its L flag")
	}
	seen := map[int]bool{}
	for _, b := range l.back {
		tr := traceIn(t, [][]byte{b}, option.Preallocated)
		hops := hopsOf(t, tr)
		seen[len(hops)] = true
		if tr.Loopback() || !tr.Active() || tr.Remaining() != 0 || len(b) > 1294 {
			t.Errorf("copy %x", tr)
		}
		if netip.AddrFrom16([16]byte(b[14+24:14+40])) != sender {
			t.Errorf("copy to %x", b[38:54])
		}
	}
	if !seen[2] || !seen[3] {
		t.Errorf("hops in the copies: %v", seen)
	}
}

// TestGSO: super-frames stay whole; TCP's are cut into smaller segments if
// the trace needs the room.
func TestGSO(t *testing.T) {
	h := newBench(t, ioam.Config{Tunnels: []ioam.Tunnel{{
		Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: 0xc00000, Size: 40,
	}}})
	b := frame(0, 20000)[14:]
	b[6] = packet.ProtoTCP
	b[40+12] = 5 << 4
	p := packet.New(b)
	p.In, p.Out, p.GSO = 1, 2, packet.GSO{Type: packet.GSOTCPv6, Size: 1440, Segs: 14}
	p.SetL3(0)
	p.SetL4(40)
	p.SetPartialChecksum(40, 16)
	if v := h.handlers[hook.Postrouting].Handle(hook.Postrouting, p); v != hook.Continue {
		t.Fatal(v)
	}
	grown := option.HeaderFor(option.TraceLen + 40)
	l4, _ := p.L4()
	start, _, _ := p.PartialChecksum()
	if p.Len() != len(b)+grown || int(p.GSO.Size) != 1440-grown || l4 != 40+grown || start != l4 {
		t.Errorf("length %d, segments %d of %d, transport at %d, checksum from %d", p.Len(), p.GSO.Segs, p.GSO.Size, l4, start)
	}
	if want := (20008 - 20 + int(p.GSO.Size) - 1) / int(p.GSO.Size); int(p.GSO.Segs) != want {
		t.Errorf("%d segments, want %d", p.GSO.Segs, want)
	}
	// A receiver fills one trace for all segments.
	p.In, p.Time = 1, 1
	h.handlers[hook.Prerouting].Handle(hook.Prerouting, p)
	if hops := hopsOf(t, option.Trace(p.Head()[44:])); len(hops) != 2 {
		t.Errorf("%d hops", len(hops))
	}
}
