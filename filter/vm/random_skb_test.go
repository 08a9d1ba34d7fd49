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

// skbFrames are what the packet helpers are tried on.
var skbFrames = [][]byte{
	append([]byte{
		2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
		0x45, 1, 0, 60, 0, 1, 0, 0, 64, 6, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2,
		0x9c, 0x40, 0, 80, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0xdb, 0x67, 0, 0,
	}, make([]byte, 20)...),
	append([]byte{
		2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
		0x60, 0x20, 0, 0, 0, 20, 17, 64,
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
		0x9c, 0x40, 0, 53, 0, 20, 0x12, 0x34,
	}, make([]byte, 12)...),
	append([]byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0x20, 0x64, 0x08, 0x00,
		0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 20, 0, 0,
	}, make([]byte, 12)...),
	append([]byte{
		0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x88, 0xa8, 0x20, 0x64, 0x81, 0, 0, 5, 0x08, 0x00,
	}, make([]byte, 40)...),
	append([]byte{1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x08, 0x06}, make([]byte, 28)...),
}

// skbCall emits a call of a packet helper with random arguments, mostly sensible ones.
func (g *generator) skbCall() string {
	r := g.r
	pick := func(v ...int32) int32 { return v[r.IntN(len(v))] }
	arg := func(reg uint8, v int32) { g.emit(0xb7, reg, 0, 0, v) }
	buffer := func(reg uint8) { // 16 bytes of the stack
		g.emit(0xbf, reg, 10, 0, 0)
		g.emit(0x07, reg, 0, 0, -16)
	}
	var id int32
	var a [4]int32
	n := 0
	switch r.IntN(18) {
	case 0:
		id, n = 26, 3
		a = [4]int32{pick(0, 12, 14, 30, 60, 70, 80, -1), 0, pick(1, 4, 16)}
	case 1:
		id, n = 68, 4
		a = [4]int32{pick(0, 2, 12, 40, 70, -1), 0, pick(1, 8, 16), pick(0, 1, 2)}
	case 2:
		id, n = 9, 4
		a = [4]int32{pick(0, 14, 26, 50, 64, 72, -1), 0, pick(1, 2, 4, 16), pick(0, 1, 2, 3, 4)}
	case 3:
		id, n = 10, 4
		a = [4]int32{pick(24, 24, 25, 50, 200), int32(r.Uint32()), int32(r.Uint32()), pick(0, 2, 4, 2, 4, 3, 16)}
	case 4:
		id, n = 11, 4
		a = [4]int32{pick(50, 50, 60, 61, 200), pick(0, int32(r.Uint32())), int32(r.Uint32()), pick(0, 2, 4, 18, 20, 16, 34, 36, 52, 98, 144, 256)}
	case 5:
		id, n = 39, 1
		a[0] = pick(0, 14, 40, 60, 200)
	case 6:
		id, n = 38, 2
		a = [4]int32{pick(14, 13, 40, 60, 80, 200, 2000, 20000, -1), pick(0, 0, 0, 1)}
		g.sub = g.sub || a[0] < 60
	case 7:
		id, n = 43, 2
		a = [4]int32{pick(0, 4, 14, 40, 16000, -1), pick(0, 0, 0, 1)}
	case 8:
		id, n = 31, 2
		a = [4]int32{pick(0x0008, 0xdd86, 0x0608), pick(0, 0, 0, 1)}
	case 9:
		id, n = 32, 1
		a[0] = pick(0, 1, 2, 3, 4, 7)
	case 10, 11:
		if g.sub {
			break // the IP header was cut short: Linux would move bytes from beyond the packet
		}
		id, n = 50, 3
		a = [4]int32{pick(20, 40, 28, 8, -8, -20, -40, 4, 0, 5000), pick(0, 1, 1, 2), pick(0, 0, 2, 4, 6, 10, 18, 26, 64, 128, 256, 32, 1, 512)}
	case 12:
		id, n = 18, 2
		a = [4]int32{pick(0x0081, 0xa888, 0), pick(5, 0x2064, 0xffff)}
	case 13:
		id = 19
	case 14:
		id, n = 135, 1
		a[0] = pick(0, 1, 2, 4)
	case 15:
		id = 97
	case 16:
		id, n = 192, 2
		a = [4]int32{pick(0, 5), pick(0, 1, 2, 3)}
	default:
		id = 41
	}
	if id == 0 {
		id = 41
	}
	g.emit(0xbf, 1, 6, 0, 0)
	for i := range n {
		arg(uint8(2+i), a[i])
	}
	switch id {
	case 26, 68, 9:
		buffer(3)
	}
	g.emit(0x85, 0, 0, 0, id)
	g.emit(0x27, 9, 0, 0, 31)
	g.emit(0x0f, 9, 0, 0, 0)
	// What the context says now counts, too.
	for _, off := range []int16{0, 4, 16, 20, 24, 28} {
		g.emit(0x61, 1, 6, off, 0)
		g.emit(0x27, 9, 0, 0, 31)
		g.emit(0x0f, 9, 1, 0, 0)
	}
	return fmt.Sprintf("%d%v", id, a[:n])
}

// TestRandomPacketHelpers compares what sequences of packet helpers return, and make of
// the packet and the context, with the running kernel's. The environment variables of
// TestRandomPrograms apply.
func TestRandomPacketHelpers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to run programs in the kernel")
	}
	seed := uint64(setting("TAPROOM_RANDOM_SEED", 1))
	limit := time.Duration(setting("TAPROOM_RANDOM_SECONDS", 2)) * time.Second
	n, wrong := 0, 0
	for begin := time.Now(); time.Since(begin) < limit && wrong < 10; seed++ {
		g := &generator{r: rand.New(rand.NewPCG(seed, 11))}
		in := skbFrames[g.r.IntN(len(skbFrames))]
		g.emit(0xbf, 6, 1, 0, 0)
		g.emit(0xb7, 9, 0, 0, 0)
		g.wide(2, g.value())
		g.wide(3, g.value())
		g.emit(0x7b, 10, 2, -16, 0)
		g.emit(0x7b, 10, 3, -8, 0)
		var calls []string
		for range g.r.IntN(4) + 1 {
			calls = append(calls, g.skbCall())
		}
		g.emit(0x79, 1, 10, -16, 0)
		g.emit(0x0f, 9, 1, 0, 0)
		g.emit(0xbf, 0, 9, 0, 0)
		g.emit(0x77, 9, 0, 0, 32)
		g.emit(0xaf, 0, 9, 0, 0)
		g.emit(0x95, 0, 0, 0, 0)
		k, err := loadKernel(ebpf.SchedCLS, g.out)
		if errors.Is(err, errNoKernel) {
			t.Skip("no bpf(2) here to compare with")
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		ret, out := k.run(t, in)
		k.close()
		src := &ebpf.Program{Name: "helpers", License: "GPL", Type: ebpf.SchedCLS, Insns: g.out, Funcs: []ebpf.Func{{}}}
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
