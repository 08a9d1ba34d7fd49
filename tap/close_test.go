package tap_test

import (
	"os"
	"sync"
	"testing"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/taptest"
)

// TestCloseUnderLoad closes a device while several goroutines write to it and
// the kernel sends: no packet may be left behind, and no descriptor be used
// after it was closed.
func TestCloseUnderLoad(t *testing.T) {
	live := packet.Live()
	for range 10 {
		r := taptest.NewRoomIn(t, roomOptions, 1, tap.Options{Queues: 2})
		d := r.Device
		if err := d.Start(func(q int, batch []*packet.Packet) { d.Write(q, batch) }); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for k := 0; d.Stats().Tx.Drops[packet.DeviceDown] < 10; k++ {
					p := packet.New(make([]byte, 60))
					p.Head()[12] = 0x88 // nobody's protocol
					if k%2 == 0 {
						d.Write(i%2, p.Batch())
					} else {
						d.Write(tap.AnyQueue, p.Batch())
					}
				}
			})
		}
		for d.Stats().Tx.Packets < 100 {
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
	if n := packet.Live() - live; n != 0 {
		t.Errorf("%d packets have not been released", n)
	}
}

// TestNoDescriptorsLeft opens and closes, and fails to open, in every way.
func TestNoDescriptorsLeft(t *testing.T) {
	r := taptest.NewRoomIn(t, roomOptions, 1, tap.Options{Name: "taken"})
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("needs /proc/self/fd: ", err)
		}
		return len(d)
	}
	before := count()
	for _, o := range []tap.Options{
		{}, {Queues: 3}, {Backend: tap.BackendWater}, {Backend: tap.BackendPlain, Kind: tap.IP},
		{Name: "taken"}, {Name: "taken", Backend: tap.BackendWater}, {MTU: 65535}, {Name: "taken", Kind: tap.IP},
	} {
		o.Namespace = r.Namespace
		d, err := tap.Open(o)
		if err == nil {
			err = d.Close()
		} else {
			t.Log(err)
		}
		if after := count(); after != before {
			t.Errorf("%+v: %d descriptors open, %d before (%v)", o, after, before, err)
		}
	}
}
