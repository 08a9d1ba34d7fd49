package verifier_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/verifier"
)

func vectorRoot() string {
	if root := os.Getenv("TAPROOM_VECTORS"); root != "" {
		return root
	}
	return "testdata/vectors"
}

// collection makes an object file live.
func collection(t testing.TB, file string) *ebpf.Collection {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := ebpf.LoadSpec(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ebpf.NewCollection(spec, ebpf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestVectorsObjects verifies every program of every recorded object: the kernel
// loaded them all.
func TestVectorsObjects(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "corpus", "obj", "*.o"))
	hooks, _ := filepath.Glob(filepath.Join(vectorRoot(), "hooks", "*.o"))
	files = append(files, hooks...)
	if len(files) == 0 {
		t.Skip("no objects under " + vectorRoot())
	}
	ok, total := 0, 0
	for _, file := range files {
		for name, p := range collection(t, file).Programs {
			total++
			res, err := verifier.Verify(p, verifier.Options{})
			if err != nil {
				t.Errorf("%s: %s: %+v", filepath.Base(file), name, err)
				continue
			}
			ok++
			t.Logf("%s: %s: %d instructions visited of %d, %d states", filepath.Base(file), name,
				res.Processed, len(p.Insns), res.TotalStates)
		}
	}
	t.Logf("objects: %d of %d", ok, total)
}

func BenchmarkObjects(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "corpus", "obj", "*.o"))
	var progs []*ebpf.Program
	for _, file := range files {
		for _, p := range collection(b, file).Programs {
			progs = append(progs, p)
		}
	}
	visited := 0
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range progs {
			res, err := verifier.Verify(p, verifier.Options{})
			if err != nil {
				b.Fatal(err)
			}
			visited += res.Processed
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(visited), "ns/insn")
}
