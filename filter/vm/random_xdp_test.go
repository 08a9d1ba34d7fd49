package vm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"taproom/filter/ebpf"
)

// TestRandomXDPHelpers does for XDP what TestRandomPacketHelpers does for classifiers.
func TestRandomXDPHelpers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to run programs in the kernel")
	}
	seed := uint64(setting("TAPROOM_RANDOM_SEED", 1))
	limit := time.Duration(setting("TAPROOM_RANDOM_SECONDS", 1)) * time.Second
	n, wrong := 0, 0
	for begin := time.Now(); time.Since(begin) < limit && wrong < 10; seed++ {
		g := &generator{r: rand.New(rand.NewPCG(seed, 13))}
		in := skbFrames[g.r.IntN(len(skbFrames))]
		g.emit(0xbf, 6, 1, 0, 0)
		g.emit(0xb7, 9, 0, 0, 0)
		g.wide(2, g.value())
		g.emit(0x7b, 10, 2, -16, 0)
		g.emit(0x7b, 10, 2, -8, 0)
		var calls []string
		for range g.r.IntN(5) + 1 {
			pick := func(v ...int32) int32 { return v[g.r.IntN(len(v))] }
			id := pick(44, 54, 65, 188, 189, 190)
			a := pick(-4, 4, -8, 8, -16, 20, -64, 14, 60, 0, -252, -256, -260, -32, 3, 100, 4000, -1000)
			g.emit(0xbf, 1, 6, 0, 0)
			g.emit(0xb7, 2, 0, 0, a)
			if id >= 189 {
				g.emit(0xbf, 3, 10, 0, 0)
				g.emit(0x07, 3, 0, 0, -16)
				g.emit(0xb7, 4, 0, 0, pick(1, 4, 16))
			}
			g.emit(0x85, 0, 0, 0, id)
			g.emit(0x27, 9, 0, 0, 31)
			g.emit(0x0f, 9, 0, 0, 0)
			// length of the packet and of the metadata
			g.emit(0x61, 1, 6, 4, 0)
			g.emit(0x61, 2, 6, 0, 0)
			g.emit(0x61, 3, 6, 8, 0)
			g.emit(0x1f, 1, 2, 0, 0)
			g.emit(0x1f, 2, 3, 0, 0)
			g.emit(0x27, 9, 0, 0, 31)
			g.emit(0x0f, 9, 1, 0, 0)
			g.emit(0x27, 9, 0, 0, 31)
			g.emit(0x0f, 9, 2, 0, 0)
			calls = append(calls, fmt.Sprint(id, a))
		}
		g.emit(0x79, 1, 10, -16, 0)
		g.emit(0x0f, 9, 1, 0, 0)
		g.emit(0xbf, 0, 9, 0, 0)
		g.emit(0x95, 0, 0, 0, 0)
		k, err := loadKernel(ebpf.XDP, g.out)
		if errors.Is(err, errNoKernel) {
			t.Skip("no bpf(2) here to compare with")
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		ret, out := k.run(t, in)
		k.close()
		src := &ebpf.Program{Name: "xdp", License: "GPL", Type: ebpf.XDP, Insns: g.out, Funcs: []ebpf.Func{{}}}
		for _, o := range []Options{{NoJIT: true}, {}} {
			p, err := load(src, o)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			res, err := p.TestRun(TestOptions{Data: in})
			p.Release()
			if err != nil || res.Return != ret || !bytes.Equal(res.Data, out) {
				wrong++
				t.Errorf("seed %d, %v (jit %v): %#x %v, kernel %#x\n%x\n%x\n%x", seed, calls, !o.NoJIT, res.Return, err, ret, in, res.Data, out)
				break
			}
		}
		n++
	}
	t.Logf("%d sequences", n)
}
