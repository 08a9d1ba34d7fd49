package tap_test

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/netns"
	"taproom/tap/pump"
	"taproom/tap/taptest"
)

// TestUserNamespace opens a device in a user namespace of its own, as an
// ordinary user does, and asks the kernel there for its MAC address.
func TestUserNamespace(t *testing.T) {
	r := taptest.NewRoomIn(t, netns.Options{User: true}, 1, tap.Options{Queues: 2, MTU: 1400})
	var rec taptest.Recorder
	if err := r.Device.Start(rec.Receive); err != nil {
		t.Fatal(err)
	}
	if i := r.Device.Info(); i.MTU != 1400 || i.Offloads == (tap.Offloads{}) || i.Netns != r.Namespace.String() {
		t.Errorf("info is %+v", i)
	}
	me := []byte{2, 0, 0, 0, 0, 9}
	arp := bytes.Join([][]byte{bytes.Repeat([]byte{0xff}, 6), me, {8, 6, 0, 1, 8, 0, 6, 4, 0, 1},
		me, {192, 0, 2, 9}, make([]byte, 6), r.Addr4.AsSlice()}, nil)
	r.Device.Write(tap.AnyQueue, packet.New(arp).Batch())
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := rec.Wait(ctx, func(f []taptest.Frame) bool {
		for _, f := range f {
			if bytes.HasPrefix(f.Bytes, me) && f.Meta.Proto == packet.EtherARP && bytes.Equal(f.Bytes[22:28], r.Device.Info().Addr) {
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Error("no answer: ", err)
	}
	if err := r.Device.SetMTU(1300); err != nil || r.Device.Info().MTU != 1300 {
		t.Error(err, r.Device.Info().MTU)
	}
}

// TestQueuesKeepOrder sends many UDP flows through two devices of two queues,
// faster than they are taken, and wants no flow to overtake itself.
func TestQueuesKeepOrder(t *testing.T) {
	a, b := taptest.NewRoom(t, 1, tap.Options{Queues: 2}), taptest.NewRoom(t, 2, tap.Options{Queues: 2})
	if err := pump.Join(a.Device, b.Device); err != nil {
		t.Fatal(err)
	}
	received, overtaken := countOrder(t, a, b, netip.AddrPortFrom(b.Addr4, 7000), 24, 1000)
	if overtaken > 0 || received == 0 {
		t.Errorf("%d of %d datagrams were overtaken", overtaken, received)
	}
	q0, q1 := a.Device.QueueStats(0).Rx.Packets, a.Device.QueueStats(1).Rx.Packets
	if q0 < 100 || q1 < 100 {
		t.Errorf("queues had %d and %d packets, want flows on both", q0, q1)
	}
}

// TestGROKeepsDatagrams joins datagrams that come fast, and wants each one to
// arrive by itself, in order.
func TestGROKeepsDatagrams(t *testing.T) {
	a, b := taptest.NewRoom(t, 1, tap.Options{GRO: true}), taptest.NewRoom(t, 2, tap.Options{GRO: true})
	if err := pump.Join(a.Device, b.Device); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{b.Addr4, b.Addr6} {
		received, overtaken := countOrder(t, a, b, netip.AddrPortFrom(to, 7000), 2, 10000)
		if overtaken > 0 || received == 0 {
			t.Errorf("to %v: %d of %d datagrams were overtaken", to, overtaken, received)
		}
	}
	s := b.Device.Stats().Tx
	if s.Segments == s.Packets {
		t.Errorf("nothing was joined in %d packets", s.Packets)
	}
	t.Logf("%d datagrams in %d packets", s.Segments, s.Packets)
}

// TestSteering: AnyQueue puts a flow on one queue, and flows on several.
func TestSteering(t *testing.T) {
	r := taptest.NewRoomIn(t, netns.Options{}, 1, tap.Options{Queues: 4})
	for port := range 64 {
		before := [4]uint64{}
		for q := range before {
			before[q] = r.Device.QueueStats(q).Tx.Packets
		}
		for range 3 {
			p := packet.New(make([]byte, 60))
			b := p.Head()
			b[12], b[14], b[17], b[22], b[23], b[35] = 8, 0x45, 46, 64, packet.ProtoUDP, byte(port)
			p.ParseLink()
			r.Device.Write(tap.AnyQueue, p.Batch())
		}
		for q, n := range before {
			if d := r.Device.QueueStats(q).Tx.Packets - n; d != 0 && d != 3 {
				t.Errorf("port %d: %d of 3 packets on queue %d", port, d, q)
			}
		}
	}
	for q := range 4 {
		if n := r.Device.QueueStats(q).Tx.Packets; n == 0 {
			t.Errorf("no flow on queue %d", q)
		}
	}
}

// TestNoAllocations lets a million bytes through and counts what was allocated
// meanwhile, with super-frames and with single frames that GRO joins.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget things")
	}
	for name, o := range map[string]tap.Options{
		"vnet": {}, "plain": {Offloads: noOffloads}, "plain with GRO": {Offloads: noOffloads, GRO: true},
	} {
		a, b := taptest.NewRoom(t, 1, o), taptest.NewRoom(t, 2, o)
		if err := pump.Join(a.Device, b.Device); err != nil {
			t.Fatal(err)
		}
		addr := netip.AddrPortFrom(b.Addr4, 5001)
		transferTCP(t, a.Namespace, b.Namespace, addr) // fills the pools
		send, done := openTCP(t, a, b, addr)
		var before, after runtime.MemStats
		packets := a.Device.Stats().Rx.Packets
		runtime.ReadMemStats(&before)
		send(16 << 20)
		runtime.ReadMemStats(&after)
		packets = a.Device.Stats().Rx.Packets - packets
		done()
		n := after.Mallocs - before.Mallocs
		t.Logf("%s: %d allocations for %d packets", name, n, packets)
		// A collection empties the pools, so not quite none.
		if float64(n) > 0.05*float64(packets)+200 {
			t.Errorf("%s: %d allocations for %d packets", name, n, packets)
		}
		a.Device.Close()
		b.Device.Close()
	}
}
