package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cebpf "github.com/cilium/ebpf"
)

// TestFeatures runs the programs of testdata/src/features.c interpreted and compiled,
// twice each on the same maps, and compares with the kernel where that is possible.
func TestFeatures(t *testing.T) {
	file := filepath.Join("testdata", "features.o")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kernel *cebpf.Collection
	if os.Getuid() == 0 {
		spec, err := cebpf.LoadCollectionSpecFromReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if kernel, err = cebpf.NewCollection(spec); err != nil {
			t.Logf("not compared with the kernel: %v", err)
		} else {
			defer kernel.Close()
		}
	}
	in := skbFrames[0]
	want := map[string][2]uint32{}
	interp := loadObject(t, file, Options{NoJIT: true})
	defer interp.close()
	compiled := loadObject(t, file, Options{})
	defer compiled.close()
	// Compiled programs that call interpreted ones, and the other way round.
	out := loadObjectAs(t, file, func(name string) Options { return Options{NoJIT: strings.HasPrefix(name, "target")} })
	defer out.close()
	back := loadObjectAs(t, file, func(name string) Options { return Options{NoJIT: !strings.HasPrefix(name, "target")} })
	defer back.close()
	for name := range interp.progs {
		for round := range 2 {
			a, err := interp.progs[name].TestRun(TestOptions{Data: in})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			b, err := compiled.progs[name].TestRun(TestOptions{Data: in})
			if err != nil {
				t.Errorf("%s: compiled: %v", name, err)
				continue
			}
			if a.Return != b.Return || a.SKB != b.SKB {
				t.Errorf("%s, round %d: interpreted %#x, compiled %#x", name, round, a.Return, b.Return)
			}
			for i, mixed := range []*object{out, back} {
				m, err := mixed.progs[name].TestRun(TestOptions{Data: in})
				if err != nil || m.Return != a.Return || m.SKB != a.SKB {
					t.Errorf("%s, round %d, mixed %d: %#x %v, interpreted %#x", name, round, i, m.Return, err, a.Return)
				}
			}
			w := want[name]
			w[round] = a.Return
			want[name] = w
		}
	}
	if kernel == nil {
		return
	}
	for name, w := range want {
		for round := range 2 {
			ret, err := kernel.Programs[name].Run(&cebpf.RunOptions{Data: in, DataOut: make([]byte, 256)})
			if err != nil {
				t.Fatal(err)
			}
			if ret != w[round] {
				t.Errorf("%s, round %d: %#x (%d), kernel %#x (%d)", name, round, w[round], w[round], ret, ret)
			}
		}
	}
}
