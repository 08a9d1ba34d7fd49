package ioam_test

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"taproom/ioam"
	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// TestConcurrentChanges changes everything while packets are filled: each
// packet sees one state or the other.
func TestConcurrentChanges(t *testing.T) {
	h := newBench(t, ioam.Config{})
	n, err := ioam.Attach(h, ioam.Config{Interfaces: map[int]ioam.Interface{1: {Enabled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	handler := h.handlers[hook.Prerouting]
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			p := tracedPacket(0xf00002, 40)
			defer p.Release()
			for {
				select {
				case <-done:
					return
				default:
				}
				p.In = 1
				p.Head()[51] = 40
				p.Head()[50] &^= 4
				handler.Handle(hook.Prerouting, p)
				tr := option.Trace(p.Head()[44:])
				used := 40 - tr.Remaining()
				if used != 0 && used != 5 && used != 7 {
					t.Errorf("%d words were written", used)
					return
				}
				for hop := range tr[:tr.Len()].Hops() {
					if hop != nil && used == 7 && string(hop.Opaque) != "schema-A" {
						t.Errorf("snapshot %q", hop.Opaque)
					}
					break
				}
			}
		})
	}
	schema := uint32(7)
	for range 300 {
		err := errors.Join(
			n.AddSchema(ioam.Schema{ID: 7, Data: []byte("schema-A")}), n.AddNamespace(ioam.Namespace{ID: 123, Schema: &schema}),
			n.SetInterface(1, ioam.Interface{Enabled: true, ID: ioam.ID16(5)}), n.SetNodeID(ioam.ID(9), ioam.ID64(9)),
			n.AddTunnel(toReceiver), n.SetSchema(123, nil), n.DelTunnel(toReceiver.Prefix),
			n.DelNamespace(123), n.DelSchema(7),
		)
		if err != nil {
			t.Fatal(err)
		}
		n.Subscribe(1).Close()
		n.Counters()
	}
	close(done)
	wg.Wait()
	wantErrno(t, "no such tunnel", n.DelTunnel(toReceiver.Prefix), syscall.ESRCH)
}

func TestTunnels(t *testing.T) {
	h := newBench(t, ioam.Config{})
	n, err := ioam.Attach(h, ioam.Config{})
	if err != nil {
		t.Fatal(err)
	}
	class := toReceiver
	class.Class = 1<<16 | 0x1f
	marked := toReceiver
	marked.Mark, marked.MarkMask = 5, 0xff
	for _, tun := range []ioam.Tunnel{class, marked} {
		if err := n.AddTunnel(tun); err != nil {
			t.Fatal(err)
		}
	}
	wantErrno(t, "the same again", n.AddTunnel(class), syscall.EEXIST)
	if got := n.Tunnels(); len(got) != 2 || got[0].Class != class.Class || got[0].Mode != ioam.Inline || got[0].N != 1 {
		t.Errorf("%+v", got)
	}
	for _, c := range []struct {
		class, mark uint32
		want        uint64
	}{{0, 0, 0}, {1<<16 | 0x1f, 0, 1}, {0, 0x105, 2}, {2 << 16, 0x6, 2}} {
		p := packet.New(frame(9999, 20)[14:])
		p.Out, p.ClassID, p.Mark = 2, c.class, c.mark
		h.handlers[hook.Postrouting].Handle(hook.Postrouting, p)
		if got := n.Count(ioam.Inserted); got != c.want {
			t.Errorf("class %#x mark %#x: %d inserted, want %d", c.class, c.mark, got, c.want)
		}
		p.Release()
	}
}

// TestSeed: the behaviour of the kernel that IOAM came from.
func TestSeed(t *testing.T) {
	seed := ioam.Config{Extras: ioam.Extras{Seed: true}, Tunnels: []ioam.Tunnel{{
		Prefix: netip.MustParsePrefix("2001:db8:b::/64"), Namespace: 123, Type: 0xb20000, Size: 40,
	}}}
	h := newBench(t, seed)
	fill := func(typ option.Type) option.Trace {
		p := tracedPacket(typ, 20)
		h.handlers[hook.Prerouting].Handle(hook.Prerouting, p)
		return option.Trace(p.Head()[44:])
	}
	if tr := fill(0xc00800); tr.Remaining() != 20 || tr.Overflow() {
		t.Error("a type with an undefined bit was filled")
	}
	if hops := hopsOf(t, fill(0x820000)); hops[0].QueueDepth != option.Unset32 {
		t.Errorf("queue depth %d", hops[0].QueueDepth)
	}
	p := packet.New(frame(9999, 20)[14:])
	p.In, p.Out, p.Time = 1, 2, 5e9
	h.handlers[hook.Postrouting].Handle(hook.Postrouting, p)
	if hops := hopsOf(t, option.Trace(p.Head()[44:])); hops[0].HopLimit != 63 || hops[0].Seconds != 5 {
		t.Errorf("encapsulating a forwarded packet: %+v", hops[0])
	}
	p = packet.New(frame(9999, 20)[14:])
	p.Out, p.Local = 2, true
	h.handlers[hook.Postrouting].Handle(hook.Postrouting, p)
	if hops := hopsOf(t, option.Trace(p.Head()[44:])); hops[0].HopLimit != 64 || hops[0].Seconds == option.Unset32 {
		t.Errorf("encapsulating a packet of its own: %+v", hops[0])
	}
}

// TestQueueDepth: the backlog of the egress interface, except for packets
// whose receive queue that interface does not have.
func TestQueueDepth(t *testing.T) {
	for _, c := range []struct {
		queue  uint16
		always bool
		want   uint32
	}{{0, false, 626}, {1, false, option.Unset32}, {1, true, 626}} {
		h := newBench(t, ioam.Config{
			Backlog: func(i int) uint32 { return uint32(624 + i) }, Extras: ioam.Extras{QueueAlways: c.always},
		})
		p := tracedPacket(option.HopNode|option.QueueDepth, 20)
		p.Queue = c.queue
		h.handlers[hook.Prerouting].Handle(hook.Prerouting, p)
		if hops := hopsOf(t, option.Trace(p.Head()[44:])); hops[0].QueueDepth != c.want {
			t.Errorf("queue %d, always %v: %d, want %d", c.queue, c.always, hops[0].QueueDepth, c.want)
		}
	}
}

// TestErrorLimit: a flood of bad options is answered a burst of times.
func TestErrorLimit(t *testing.T) {
	h := newBench(t, ioam.Config{})
	n, err := ioam.Attach(h, ioam.Config{ErrorRate: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		p := packet.New(append(frame(9999, 0)[14:54], 59, 0, 0x9e, 4, 0, 0, 0, 0))
		p.Head()[4], p.Head()[5], p.Head()[6] = 0, 8, 0
		p.In = 1
		if v := h.handlers[hook.Prerouting].Handle(hook.Prerouting, p); v != hook.Drop || p.Reason != packet.OptionUnknown {
			t.Fatalf("%v %v", v, p.Reason)
		}
		p.Release()
	}
	if sent, limited := n.Count(ioam.OutParmProblems), n.Count(ioam.ErrorsLimited); sent < 50 || sent > 52 || sent+limited != 200 || int(sent) != h.sent {
		t.Errorf("%d answered, %d not", sent, limited)
	}
}

// TestGroupErrors: an unknown option of class 10 is answered even to a group,
// one of class 11 is not (RFC 4443 section 2.4 (e.3)).
func TestGroupErrors(t *testing.T) {
	for kind, want := range map[byte]int{0x9e: 1, 0xde: 0, 0x5e: 0} {
		h := newBench(t, ioam.Config{})
		p := packet.New(append(frame(9999, 0)[14:54], 59, 0, kind, 4, 0, 0, 0, 0))
		b := p.Head()
		b[4], b[5], b[6], b[24], b[25] = 0, 8, 0, 0xff, 0x12
		p.In, p.Type = 1, packet.Multicast
		if v := h.handlers[hook.Prerouting].Handle(hook.Prerouting, p); v != hook.Drop || h.sent != want {
			t.Errorf("option %#x: %v, %d answers, want %d", kind, v, h.sent, want)
		}
		p.Release()
	}
}
