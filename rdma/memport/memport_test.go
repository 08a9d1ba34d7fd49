package memport_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

func TestClock(t *testing.T) {
	c := memport.NewClock()
	start := c.Now()
	var log []string
	note := func(s string) func() {
		return func() { log = append(log, fmt.Sprintf("%s@%v", s, time.Duration(c.Now()-start))) }
	}
	a := c.NewAlarm(note("alarm"))
	a.Set(start + int64(5*time.Millisecond))
	a.Set(start + int64(2*time.Millisecond)) // the earlier Set is forgotten
	gone := c.NewAlarm(note("closed"))
	gone.Set(start + 1)
	gone.Close()
	c.After(2*time.Millisecond, note("after"))
	c.After(time.Millisecond, note("first"))
	c.After(time.Hour, note("late"))
	c.Advance(10 * time.Millisecond)
	if got, want := fmt.Sprint(log), "[first@1ms alarm@2ms after@2ms]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c.Now()-start != int64(10*time.Millisecond) || !c.Step() || c.Step() {
		t.Error("one event is left, an hour away")
	}
}

// sink counts what arrives.
type sink struct{ got []string }

func (s *sink) Receive(p *packet.Packet) { s.got = append(s.got, roce.Format(p.Head())) }
func (s *sink) Changed()                 {}

// TestSeed: the same seed does the same to the same packets, another another.
func TestSeed(t *testing.T) {
	run := func(seed uint64) string {
		clock := memport.NewClock()
		a, b := memport.NewPair(memport.Config{Clock: clock, Seed: seed, Loss: 0.2, Dup: 0.2, Reorder: 0.2, Corrupt: 0.2, Mark: 0.2, Delay: time.Microsecond, Jitter: time.Microsecond})
		var s sink
		if err := b.Open(&s); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			spec := roce.Spec{Path: roce.Path{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.2")}, BTH: roce.BTHFields{Opcode: roce.RCSendOnly, PSN: roce.PSN(i)}}
			p, err := spec.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Send(packet.New(p)); err != nil {
				t.Fatal(err)
			}
		}
		for clock.Step() {
		}
		if len(s.got) < 50 || len(s.got) > 150 {
			t.Errorf("%d of 100 arrived", len(s.got))
		}
		return fmt.Sprint(s.got)
	}
	first := run(1)
	if again := run(1); again != first {
		t.Error("the same seed, another outcome")
	}
	if run(2) == first {
		t.Error("another seed, the same outcome")
	}
}

var _ rdma.Port = (*memport.Port)(nil)
