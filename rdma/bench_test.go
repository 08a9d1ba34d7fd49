package rdma_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

func BenchmarkPair(b *testing.B) {
	for _, mtu := range []roce.MTU{roce.MTU1024, roce.MTU4096} {
		for _, op := range []rdma.WROpcode{rdma.WRWrite, rdma.WRSend, rdma.WRRead} {
			for _, size := range []int{64, 4096, 65536, 1 << 20} {
				b.Run(fmt.Sprintf("%v/mtu%v/%d", op, mtu, size), func(b *testing.B) { benchPair(b, op, mtu, size, 16) })
			}
		}
	}
}

func benchPair(b *testing.B, op rdma.WROpcode, mtu roce.MTU, size, depth int) {
	pa, pb := memport.NewPair(memport.Config{})
	x, y := newSide(b, pa, rdma.Options{}, rdma.RC, 2<<20), newSide(b, pb, rdma.Options{}, rdma.RC, 2<<20)
	connect(b, x, y, rdma.QPAttr{PathMTU: mtu, MaxRdAtomic: 16})
	wrs := make([]rdma.SendWR, depth)
	rcv := make([]rdma.RecvWR, depth)
	for i := range wrs {
		wrs[i] = rdma.SendWR{ID: uint64(i), Opcode: op, SGList: []rdma.SGE{x.mr.SGE(0, size)}, RemoteAddr: (y.mr.Addr() + 7) &^ 7, RKey: y.mr.RKey()}
		rcv[i] = rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{y.mr.SGE(0, size)}}
	}
	wrs[depth-1].Flags = rdma.Signaled
	var wcs [64]rdma.WC
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	defer func() {
		// What the machine's other work does not change: bytes per second of
		// processor time, of both sides together.
		b.ReportMetric(float64(b.N)*float64(size)/1e9/(cpuTime()-cpu).Seconds(), "GB/cpu-s")
	}()
	for i := 0; i < b.N; i += depth {
		if op == rdma.WRSend {
			if _, err := y.qp.PostRecv(rcv...); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := x.qp.PostSend(wrs...); err != nil {
			b.Fatal(err)
		}
		n := 0
		for n == 0 { // the timer's goroutine may be at it
			n, _ = x.cq.Poll(wcs[:])
		}
		if n != 1 || wcs[0].Status != 0 {
			b.Fatalf("%d completions, %v", n, wcs[0].Err())
		}
		if op == rdma.WRSend {
			y.cq.Poll(wcs[:])
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoss: how much of the bandwidth is left when packets are lost. Each
// packet goes alone here, so that it can be lost alone.
func BenchmarkLoss(b *testing.B) {
	for _, loss := range []float64{0, 0.001, 0.01} {
		b.Run(fmt.Sprint(loss), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			pa, pb := memport.NewPair(memport.Config{Tap: func(int, []byte) bool { return loss == 0 || r.Float64() >= loss }})
			x, y := newSide(b, pa, rdma.Options{}, rdma.RC, 2<<20), newSide(b, pb, rdma.Options{}, rdma.RC, 2<<20)
			connect(b, x, y, rdma.QPAttr{PathMTU: roce.MTU4096})
			const size, depth = 64 << 10, 16
			b.SetBytes(size)
			wr := rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{x.mr.SGE(0, size)}, RemoteAddr: y.mr.Addr(), RKey: y.mr.RKey()}
			var wcs [64]rdma.WC
			under := 0
			for i := 0; i < b.N || under > 0; {
				for ; under < depth && i < b.N; i++ {
					if _, err := x.qp.PostSend(wr); err != nil {
						b.Fatal(err)
					}
					under++
				}
				n, _ := x.cq.Poll(wcs[:])
				under -= n
				for _, wc := range wcs[:n] {
					if wc.Err() != nil {
						b.Fatal(wc.Err())
					}
				}
			}
			c := x.qp.Counters()
			b.ReportMetric(float64(c.Timeouts), "timeouts")
			b.ReportMetric(float64(c.Probes), "probes")
		})
	}
}

// BenchmarkOne: messages posted one at a time, each waited for.
func BenchmarkOne(b *testing.B) {
	for _, op := range []rdma.WROpcode{rdma.WRWrite, rdma.WRRead, rdma.WRFetchAdd} {
		b.Run(op.String(), func(b *testing.B) { benchPair(b, op, roce.MTU1024, 8, 1) })
	}
}
