package ebpf_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
)

// TestMutatedObjects damages objects in a few bytes each: loading them may fail, but
// never harm.
func TestMutatedObjects(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	loaded, live := 0, 0
	for _, file := range objects(t) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for range rounds {
			b := bytes.Clone(raw)
			for range 1 + r.IntN(4) {
				b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
			}
			if r.IntN(8) == 0 {
				b = b[:r.IntN(len(b))]
			}
			spec, err := ebpf.LoadSpec(bytes.NewReader(b))
			if err != nil {
				continue
			}
			loaded++
			c, err := ebpf.NewCollection(spec, ebpf.Options{Budget: maps.NewBudget(64 << 20)})
			if err != nil {
				continue
			}
			live++
			c.Close()
		}
	}
	t.Logf("%d loaded, %d made live", loaded, live)
}
