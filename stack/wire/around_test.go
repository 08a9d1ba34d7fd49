package wire

import (
	"testing"
	"time"

	"taproom/stack/packet"
)

func TestShim(t *testing.T) {
	var clock Virtual
	dev, kernel, err := New(Config{Clock: &clock})
	must(t, err)
	s, err := Around(dev, Config{Name: "shim", Clock: &clock})
	must(t, err)
	var up, down, seen int
	must(t, s.Start(func(_ int, batch []*packet.Packet) { up += len(batch); releaseAll(batch) }))
	must(t, kernel.Start(func(_ int, batch []*packet.Packet) { down += len(batch); releaseAll(batch) }))
	cancel := s.Observe(func(_ bool, batch []*packet.Packet) { seen += len(batch) })
	both := func() {
		s.Write(0, frame(1, 64).Batch())
		kernel.Write(0, frame(2, 64).Batch())
	}
	both()
	if up != 1 || down != 1 || seen != 2 {
		t.Fatalf("plain: %d up, %d down, %d seen", up, down, seen)
	}
	if _, _, ok := s.Wire(); ok {
		t.Error("a plain shim has a wire")
	}
	must(t, s.Impair(Impairment{Delay: time.Second}, Impairment{Down: true}))
	both()
	clock.Advance(time.Second)
	if up != 1 || down != 2 {
		t.Errorf("impaired: %d up, %d down", up, down)
	}
	if _, from, ok := s.Wire(); !ok || from.Dropped[packet.DeviceDown] != 1 {
		t.Errorf("wire %v, dropped %v", ok, from.Dropped.Map())
	}
	must(t, s.Impair(Impairment{}, Impairment{}))
	cancel()
	both()
	if up != 2 || down != 3 || seen != 3 {
		t.Errorf("plain again: %d up, %d down, %d seen", up, down, seen)
	}
	must(t, s.Close())
	if s.Impair(Impairment{}, Impairment{}) == nil || s.Info().Name != "shim" {
		t.Error("closed shim")
	}
}
