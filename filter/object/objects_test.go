package object

import (
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf"

	"github.com/google/go-cmp/cmp"
)

// TestObjectsSurvive pins the programs of real objects and opens them again.
func TestObjectsSurvive(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "ebpf", "testdata", "vectors", "bpf", "corpus", "obj", "*.o"))
	if len(files) == 0 {
		t.Fatal("no objects")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			spec, err := ebpf.LoadSpec(f)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ebpf.NewCollection(spec, ebpf.Options{})
			if err != nil {
				t.Fatal(err)
			}
			path := t.TempDir()
			reg := registry()
			d := openDir(t, path, reg)
			loaded, err := reg.Load(c, newRunner)
			if err != nil {
				t.Fatal(err)
			}
			programs := map[string]*ebpf.Program{}
			for name, p := range loaded {
				if err := d.PinProgram(name, p); err != nil {
					t.Fatal(err)
				}
				programs[name] = p.Source()
				p.Close()
			}
			linked := c.LinkNames()
			for _, m := range c.Maps {
				m.Close()
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}

			reg = registry()
			d = openDir(t, path, reg)
			defer d.Close()
			for name, before := range programs {
				p, err := d.OpenProgram(name)
				if err != nil {
					t.Error(err)
					continue
				}
				compare(t, name, before, p.Source())
				programs[name] = p.Source()
				p.Close()
			}
			if len(linked) > 0 && !filled(programs) {
				t.Error("the program array lost its programs")
			}
		})
	}
}

// filled reports whether a program array of the programs has anything in it.
func filled(programs map[string]*ebpf.Program) bool {
	for _, p := range programs {
		for _, m := range p.Maps {
			for i := range m.MaxEntries() {
				if m.Prog(uint32(i)) != nil {
					return true
				}
			}
		}
	}
	return false
}

func compare(t *testing.T, name string, a, b *ebpf.Program) {
	t.Helper()
	if diff := cmp.Diff(a.Insns, b.Insns); diff != "" {
		t.Errorf("%s: instructions: %s", name, diff)
	}
	if diff := cmp.Diff(a.Lines, b.Lines); diff != "" {
		t.Errorf("%s: lines: %s", name, diff)
	}
	if a.Type != b.Type || a.AttachType != b.AttachType || a.License != b.License || len(a.Funcs) != len(b.Funcs) || len(a.Kfuncs) != len(b.Kfuncs) {
		t.Errorf("%s: %+v, %+v", name, a, b)
	}
	for n, f := range a.Funcs {
		if g := b.Funcs[n]; f.Start != g.Start || f.Name != g.Name || f.Type.Name != g.Type.Name || f.Global() != g.Global() {
			t.Errorf("%s: function %+v, %+v", name, f, g)
		}
	}
	for n, k := range a.Kfuncs {
		if g := b.Kfuncs[n]; k.Name != g.Name || len(k.Proto.Params) != len(g.Proto.Params) {
			t.Errorf("%s: kfunc %+v, %+v", name, k, g)
		}
	}
	for n, m := range a.Maps {
		g := b.Maps[n]
		if m.Name() != g.Name() || m.Type() != g.Type() || m.Frozen() != g.Frozen() {
			t.Errorf("%s: map %v, %v", name, m.Spec(), g.Spec())
		}
		if diff := cmp.Diff(elements(t, m), elements(t, g)); diff != "" {
			t.Errorf("%s: map %s: %s", name, m.Name(), diff)
		}
		before, after := m.Spec().ValueType, g.Spec().ValueType
		if (before == nil) != (after == nil) || before != nil && before.TypeName() != after.TypeName() {
			t.Errorf("%s: map %s: value type %v, %v", name, m.Name(), before, after)
		}
	}
}
