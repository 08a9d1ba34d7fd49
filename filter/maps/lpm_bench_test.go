package maps

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkLPM looks addresses up among 210 rules, most of which have children.
func BenchmarkLPM(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	m := mustNew(b, Spec{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 1024, Flags: NoPrealloc})
	var keys [][]byte
	for range 210 {
		key := append(k4(uint32(8+r.IntN(25))), 10, byte(r.IntN(16)), byte(r.Uint32()), byte(r.Uint32()))
		m.Set(key, make([]byte, 8), 0, 0)
		look := append(k4(32), key[4:]...)
		look[7] ^= byte(r.IntN(4))
		keys = append(keys, look)
	}
	for _, n := range []int{1, len(keys)} {
		b.Run(map[bool]string{true: "same", false: "many"}[n == 1], func(b *testing.B) {
			i := 0
			for b.Loop() {
				m.Elem(keys[i], 0)
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}
