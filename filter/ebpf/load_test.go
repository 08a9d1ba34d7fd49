package ebpf_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf"

	cebpf "github.com/cilium/ebpf"
)

// vectorRoot is where recorded cases are.
func vectorRoot() string {
	if root := os.Getenv("TAPROOM_VECTORS"); root != "" {
		return root
	}
	return filepath.Join("testdata", "vectors")
}

func objects(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "corpus", "obj", "*.o"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects under %s: %v", vectorRoot(), err)
	}
	hooks, _ := filepath.Glob(filepath.Join(vectorRoot(), "hooks", "*.o"))
	return append(files, hooks...)
}

func load(t *testing.T, file string) *ebpf.CollectionSpec {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := ebpf.LoadSpec(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// TestVectorsObjects makes every recorded object live, and compares the programs'
// tags with the kernel's where it may be asked.
func TestVectorsObjects(t *testing.T) {
	total, good, tags := 0, 0, 0
	for _, file := range objects(t) {
		total++
		if t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := ebpf.NewCollection(load(t, file), ebpf.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if len(c.Programs) == 0 {
				t.Error("no programs")
			}
			for name, p := range c.Programs {
				if p.Type == ebpf.Unspec || len(p.Insns) == 0 || p.License == "" || len(p.Lines) == 0 || p.Funcs[0].Type == nil {
					t.Errorf("%s: incomplete: %v, %d instructions, license %q, %d lines", name, p.Type, len(p.Insns), p.License, len(p.Lines))
				}
			}
			tags += compareTags(t, file, c)
		}) {
			good++
		}
	}
	t.Logf("objects: %d of %d (%d program tags compared with the kernel's)", good, total, tags)
}

func compareTags(t *testing.T, file string, c *ebpf.Collection) int {
	kernel, err := cebpf.LoadCollection(file)
	if errors.Is(err, os.ErrPermission) {
		return 0
	}
	if err != nil {
		t.Logf("kernel does not load it: %v", err)
		return 0
	}
	defer kernel.Close()
	n := 0
	for name, p := range c.Programs {
		if len(p.Kfuncs) > 0 {
			continue // their numbers are the kernel's
		}
		info, err := kernel.Programs[name].Info()
		if err != nil {
			t.Fatal(err)
		}
		tag := p.Tag()
		if got := hex(tag[:]); got != info.Tag {
			t.Errorf("%s: tag %s, kernel %s", name, got, info.Tag)
			continue
		}
		n++
	}
	return n
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for _, c := range b {
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}
