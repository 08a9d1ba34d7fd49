package roce

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkICRC compares what the ICRC of a packet costs computed over all its
// headers and seeded from the flow's tables.
func BenchmarkICRC(b *testing.B) {
	for _, n := range []int{64, 256, 1024, 4096} {
		s := randomSpec(rand.New(rand.NewPCG(1, 1)), RCSendMiddle, false, n)
		p, err := s.Append(nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("whole/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				_ = ICRC(p)
			}
		})
		b.Run(fmt.Sprintf("flow/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			f := s.Path.Flow().Dest(s.BTH.PKey, s.BTH.DestQP).Length(len(p) - 28)
			bth, payload := BTH(p[28:]), p[40:len(p)-4]
			for b.Loop() {
				_ = f.SumTo(bth, s.ID).Add(payload)
			}
		})
		b.Run(fmt.Sprintf("run/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				r, _ := ParseRun(p, 0)
				_ = r.CheckICRC(0)
			}
		})
	}
}
