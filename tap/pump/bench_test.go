package pump

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"taproom/tap"
	"taproom/tap/netns"
	"taproom/tap/taptest"
)

func TestMain(m *testing.M) {
	netns.Init()
	goleak.VerifyTestMain(m)
}

// joined makes two rooms and joins their devices.
func joined(b testing.TB, o tap.Options) (from, to *taptest.Room) {
	b.Helper()
	return joinedMixed(b, o, o)
}

func joinedMixed(b testing.TB, o, p tap.Options) (from, to *taptest.Room) {
	b.Helper()
	if err := Missing(); err != nil {
		b.Skip(err)
	}
	from, to = taptest.NewRoom(b, 1, o), taptest.NewRoom(b, 2, p)
	if err := Join(from.Device, to.Device); err != nil {
		b.Fatal(err)
	}
	return from, to
}

// BenchmarkTCP is the throughput of a TCP connection through two joined TAPs.
func BenchmarkTCP(b *testing.B) {
	for _, mtu := range []int{1500, 9000, 65520} {
		for _, bb := range []struct {
			name string
			o    tap.Options
			n    int
		}{
			{"vnet", tap.Options{}, 1},
			{"vnet-GRO", tap.Options{GRO: true}, 1},
			{"vnet-4streams", tap.Options{}, 4},
			{"vnet-2queues-4streams", tap.Options{Queues: 2}, 4},
			{"plain", tap.Options{Offloads: &tap.Offloads{}}, 1},
			{"plain-GRO", tap.Options{Offloads: &tap.Offloads{}, GRO: true}, 1},
		} {
			b.Run(fmt.Sprintf("mtu=%d/%s", mtu, bb.name), func(b *testing.B) {
				bb.o.MTU = mtu
				from, to := joined(b, bb.o)
				for b.Loop() {
					r, err := Load{From: from.Namespace, To: to.Namespace, Addr: to.Addr4, Streams: bb.n}.Run()
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(r.Gbps, "Gbit/s")
					b.ReportMetric(r.CPUPerGbit(), "CPU-s/Gbit")
				}
				s := from.Device.Stats().Rx
				b.ReportMetric(float64(s.Segments)/float64(s.Packets), "segs/pkt")
				b.ReportMetric(float64(s.Packets)/float64(s.Calls), "pkts/batch")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkUDP is the packet rate and the CPU a packet costs.
func BenchmarkUDP(b *testing.B) {
	for _, size := range []int{64, 1400} {
		for _, bb := range []struct {
			name string
			o    tap.Options
		}{
			{"vnet", tap.Options{}},
			{"vnet-GRO", tap.Options{GRO: true}},
			{"vnet-2queues", tap.Options{Queues: 2}},
			{"plain", tap.Options{Offloads: &tap.Offloads{}}},
		} {
			b.Run(fmt.Sprintf("size=%d/%s", size, bb.name), func(b *testing.B) {
				from, to := joined(b, bb.o)
				for b.Loop() {
					before := from.Device.Stats().Rx
					r, err := Load{From: from.Namespace, To: to.Namespace, Addr: to.Addr4, UDP: true, Size: size}.Run()
					if err != nil {
						b.Fatal(err)
					}
					s := from.Device.Stats().Rx
					n := float64(s.Packets - before.Packets)
					b.ReportMetric(n/r.Wall.Seconds()/1e3, "kpps")
					b.ReportMetric(float64(r.CPU.Microseconds())/n, "CPU-us/pkt")
					b.ReportMetric(n/float64(s.Calls-before.Calls), "pkts/batch")
					b.ReportMetric(float64(r.Sent)/r.Wall.Seconds()/1e3, "kpps-offered")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkFallback is TCP between a device with offloads and one without:
// segmentation in software one way, GRO the other.
func BenchmarkFallback(b *testing.B) {
	plain := tap.Options{Offloads: &tap.Offloads{}}
	joining := plain
	joining.GRO = true
	for _, bb := range []struct {
		name     string
		from, to tap.Options
	}{
		{"segmentation", tap.Options{}, joining},
		{"GRO", joining, tap.Options{}},
		{"no-GRO", plain, tap.Options{}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			from, to := joinedMixed(b, bb.from, bb.to)
			for b.Loop() {
				r, err := Load{From: from.Namespace, To: to.Namespace, Addr: to.Addr4}.Run()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(r.Gbps, "Gbit/s")
				b.ReportMetric(r.CPUPerGbit(), "CPU-s/Gbit")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
