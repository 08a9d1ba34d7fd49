package wire

import (
	"slices"
	"testing"
	"time"

	"taproom/stack/packet"
)

// BenchmarkPlain is the cost of a frame on a wire without impairments.
func BenchmarkPlain(b *testing.B) {
	a, z, err := New(Config{})
	must(b, err)
	defer a.Close()
	var returned []*packet.Packet
	must(b, z.Start(func(_ int, batch []*packet.Packet) { returned = append(returned[:0], batch...) }))
	returned = append(returned, frame(1, 64))
	b.ReportAllocs()
	for b.Loop() {
		a.Write(0, returned[0].Batch())
	}
	releaseAll(returned)
}

// BenchmarkShaped is the cost of a frame that passes line, heap and alarm.
func BenchmarkShaped(b *testing.B) {
	var clock Virtual
	a, z, err := New(Config{Clock: &clock, AtoB: Impairment{
		Delay: time.Millisecond, Jitter: 100 * time.Microsecond, Loss: 0.001, Rate: 10e9,
	}})
	must(b, err)
	defer a.Close()
	must(b, z.Start(func(_ int, batch []*packet.Packet) { releaseAll(batch) }))
	b.ReportAllocs()
	for b.Loop() {
		a.Write(0, frame(1, 1500).Batch())
		clock.Advance(1200) // ns, the time of the frame at this rate
	}
}

// BenchmarkDelay shows how late frames are on the machine's clock: one frame
// each 2 ms over a wire with a delay of 10 ms.
func BenchmarkDelay(b *testing.B) {
	const delay = 10 * time.Millisecond
	a, z, err := New(Config{AtoB: Impairment{Delay: delay}})
	must(b, err)
	defer a.Close()
	late := make(chan time.Duration, b.N+1)
	sent := make([]time.Time, b.N)
	must(b, z.Start(func(_ int, batch []*packet.Packet) {
		for _, p := range batch {
			n := int(p.Head()[17]) | int(p.Head()[16])<<8 | int(p.Head()[15])<<16
			late <- time.Since(sent[n]) - delay
			p.Release()
		}
	}))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := range b.N {
		<-tick.C
		sent[n] = time.Now()
		a.Write(0, frame(uint32(n), 64).Batch())
	}
	all := make([]time.Duration, b.N)
	for i := range all {
		all[i] = <-late
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2])/1e3, "late-p50-us")
	b.ReportMetric(float64(all[len(all)*99/100])/1e3, "late-p99-us")
}

// BenchmarkRate shows how exact the speed of a line is: frames are offered
// as fast as the queue takes them, and the time between the first and the last
// arrival is compared with what they should take.
func BenchmarkRate(b *testing.B) {
	for _, r := range []struct {
		name string
		rate uint64
	}{{"1M", 1e6}, {"100M", 100e6}, {"1G", 1e9}} {
		b.Run(r.name, func(b *testing.B) {
			const size = 1500
			a, z, err := New(Config{AtoB: Impairment{Rate: r.rate}})
			must(b, err)
			defer a.Close()
			n, done := 0, make(chan time.Duration, 1)
			room := make(chan struct{}, DefaultQueue)
			var first time.Time
			total := max(b.N, 2)
			must(b, z.Start(func(_ int, batch []*packet.Packet) {
				for _, p := range batch {
					if n++; n == 1 {
						first = time.Now()
					}
					if n == total {
						done <- time.Since(first)
					}
					<-room
					p.Release()
				}
			}))
			for range total {
				room <- struct{}{}
				a.Write(0, frame(0, size).Batch())
			}
			took := <-done
			got := float64(total-1) * size * 8 / took.Seconds()
			b.ReportMetric(100*(got/float64(r.rate)-1), "error-%")
		})
	}
}
