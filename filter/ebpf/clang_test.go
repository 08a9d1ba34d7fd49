package ebpf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
)

// compile builds a C file from testdata/src, or skips without clang.
func compile(t *testing.T, name string, args ...string) string {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("clang is not installed")
	}
	out := filepath.Join(t.TempDir(), name+".o")
	args = append([]string{"-g", "-O2", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-Wno-everything",
		"-c", filepath.Join("testdata", "src", name), "-o", out}, args...)
	if b, err := exec.Command(clang, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

func collection(t *testing.T, file string) (*ebpf.CollectionSpec, *ebpf.Collection) {
	t.Helper()
	spec := load(t, file)
	c, err := ebpf.NewCollection(spec, ebpf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return spec, c
}

func TestFeatures(t *testing.T) {
	for _, cpu := range []string{"v2", "v3"} {
		t.Run(cpu, func(t *testing.T) { testFeatures(t, compile(t, "features.c", "-mcpu="+cpu)) })
	}
}

func testFeatures(t *testing.T, file string) {
	spec, c := collection(t, file)
	types := map[string]ebpf.ProgType{
		"main_prog": ebpf.SchedCLS, "target1": ebpf.SchedCLS, "x": ebpf.XDP, "s": ebpf.SocketFilter,
		"ti": ebpf.SchedCLS, "a": ebpf.SchedACT,
	}
	for name, want := range types {
		if p := c.Programs[name]; p == nil || p.Type != want || !p.GPL() {
			t.Errorf("%s: %+v, want %v under GPL", name, p, want)
		}
	}
	if got := c.Programs["ti"].AttachType; got != ebpf.AttachTCXIngress {
		t.Errorf("tcx/ingress: attach type %d", got)
	}
	key := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	if c.Maps["outer"].Inner(key(1)) != c.Maps["in1"] || c.Maps["outer"].Inner(key(3)) != c.Maps["in2"] || c.Maps["outer"].Inner(key(0)) != nil {
		t.Error("outer: inner maps are not where .values puts them")
	}
	s := c.Maps["locks"].Spec()
	if s.SpinLock != 8+1 || s.Timer != 16+1 || s.Flags != maps.NoPrealloc {
		t.Errorf("locks: %+v", s)
	}
	if !spec.Maps["locks"].PinByName || spec.Maps["in1"].PinByName {
		t.Error("pinning is not what the object says")
	}
	if got := c.Maps["perf"].MaxEntries(); got != maps.NumCPU() {
		t.Errorf("perf: %d entries", got)
	}
	if !c.Maps[".rodata"].Frozen() || c.Maps[".data"].Frozen() {
		t.Error("only .rodata is to be frozen")
	}
	if got := binary.NativeEndian.Uint64(c.Variables["custom"].Bytes()); got != 0x1122334455667788 {
		t.Errorf("custom = %#x", got)
	}
	if v := c.Variables["limit"]; !v.ReadOnly() || v.Bytes()[0] != 7 {
		t.Errorf("limit = %v", v.Bytes())
	}
	kconfig, _ := c.Maps[".kconfig"].Elem(key(0), 0)
	if len(kconfig) != 8 || binary.NativeEndian.Uint32(kconfig)>>8 != 6<<8|18 && binary.NativeEndian.Uint32(kconfig[4:])>>8 != 6<<8|18 {
		t.Errorf("kernel configuration: %x", kconfig)
	}
	p := c.Programs["main_prog"]
	var funcs []string
	for _, f := range p.Funcs {
		funcs = append(funcs, f.Name)
		if f.Type == nil || f.Global() == (f.Name == "twice" || f.Name == "each") {
			t.Errorf("%s: linkage or type is missing", f.Name)
		}
	}
	if len(funcs) != 4 || funcs[0] != "main_prog" {
		t.Errorf("functions: %v", funcs)
	}
	if len(p.Kfuncs) != 1 || !p.Kfuncs[0].Weak || p.Kfuncs[0].Proto == nil {
		t.Errorf("kfuncs: %+v", p.Kfuncs)
	}
	checkReferences(t, p)
	// The object's struct iphdr has protocol at 0; relocated it is at 9.
	if !slices.ContainsFunc(p.Insns, func(i ebpf.Insn) bool { return i.IsALU() && i.Imm == 9 }) {
		t.Error("the offset of iphdr.protocol was not relocated")
	}
	called := false
	if err := c.Link(func(name string) (maps.Prog, error) {
		called = name == "target1"
		return nil, errors.New("no runner")
	}); err == nil || !called {
		t.Errorf("program array was not to be filled: %v", err)
	}
}

// checkReferences follows calls, map loads and function pointers of a program.
func checkReferences(t *testing.T, p *ebpf.Program) {
	t.Helper()
	starts := map[int]bool{}
	for _, f := range p.Funcs {
		starts[f.Start] = true
	}
	loads, pointers, calls := 0, 0, 0
	for n := 0; n < len(p.Insns); n++ {
		i := p.Insns[n]
		switch {
		case i.IsLocalCall():
			calls++
			if !starts[n+1+int(i.Imm)] {
				t.Errorf("instruction %d calls %d, not a function", n, n+1+int(i.Imm))
			}
		case i.IsKfuncCall() && int(i.Imm) >= len(p.Kfuncs):
			t.Errorf("instruction %d calls kfunc %d", n, i.Imm)
		case i.IsWide():
			switch i.Src() {
			case ebpf.PseudoFunc:
				pointers++
				if !starts[n+1+int(i.Imm)] {
					t.Errorf("instruction %d points to %d, not a function", n, n+1+int(i.Imm))
				}
			case ebpf.PseudoMap, ebpf.PseudoMapValue:
				loads++
				if int(i.Imm) >= len(p.Maps) {
					t.Errorf("instruction %d loads map %d of %d", n, i.Imm, len(p.Maps))
				}
				if off := int(p.Insns[n+1].Imm); i.Src() == ebpf.PseudoMapValue && off >= p.Maps[i.Imm].ValueSize() {
					t.Errorf("instruction %d: offset %d in %s", n, off, p.Maps[i.Imm].Name())
				}
			}
			n++
		}
	}
	if loads < 5 || pointers != 1 || calls != 2 {
		t.Errorf("%d map loads, %d function pointers, %d calls", loads, pointers, calls)
	}
}

func TestLegacy(t *testing.T) {
	spec, c := collection(t, compile(t, "legacy.c", "-g0"))
	if !spec.Maps["counts"].PinByName {
		t.Error("counts is to be pinned")
	}
	key := binary.NativeEndian.AppendUint32(nil, 1)
	if c.Maps["out"].Inner(key) != c.Maps["in"] {
		t.Error("out: no inner map at 1")
	}
	if got := c.LinkNames(); len(got) != 1 || got[0] != "called" {
		t.Errorf("to link: %v", got)
	}
	for _, name := range []string{"cls", "called", "in_section"} {
		if p := c.Programs[name]; p == nil || p.Type != ebpf.SchedCLS {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestVariablesBeforeLoading(t *testing.T) {
	spec := load(t, compile(t, "features.c"))
	if err := spec.Variables["limit"].Set(uint32(99)); err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables["limit"].Set(uint64(99)); err == nil {
		t.Error("a value of another size was accepted")
	}
	c, err := ebpf.NewCollection(spec, ebpf.Options{Programs: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var counter uint64
	if err := c.Variables["counter"].Set(uint64(5)); err != nil || c.Variables["counter"].Get(&counter) != nil || counter != 5 {
		t.Errorf("counter = %d, %v", counter, err)
	}
	if err := c.Variables["limit"].Set(uint32(1)); err == nil {
		t.Error("a constant was changed")
	}
	if c.Variables["limit"].Bytes()[0] != 99 || len(c.Programs) != 1 {
		t.Errorf("limit = %v, %d programs", c.Variables["limit"].Bytes(), len(c.Programs))
	}
}

func TestReplaceMaps(t *testing.T) {
	spec := load(t, compile(t, "features.c"))
	_, first := collection(t, compile(t, "features.c"))
	c, err := ebpf.NewCollection(spec, ebpf.Options{Replace: map[string]*maps.Map{"in1": first.Maps["in1"]}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Maps["in1"] != first.Maps["in1"] {
		t.Error("in1 was not replaced")
	}
	_, err = ebpf.NewCollection(spec, ebpf.Options{Replace: map[string]*maps.Map{"in1": first.Maps["locks"]}})
	if err == nil {
		t.Error("a map of another shape was accepted")
	}
}

func TestRefused(t *testing.T) {
	raw, err := os.ReadFile(compile(t, "legacy.c", "-target", "bpfeb"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ebpf.LoadSpec(bytes.NewReader(raw)); !errors.Is(err, ebpf.ErrBigEndian) {
		t.Errorf("big-endian object: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("\x7fELF"), bytes.Repeat([]byte{0xff}, 64)} {
		if _, err := ebpf.LoadSpec(bytes.NewReader(b)); err == nil {
			t.Errorf("%q was accepted", b)
		}
	}
}

func FuzzLoadSpec(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("testdata", "vectors", "bpf", "corpus", "obj", "*.o"))
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		spec, err := ebpf.LoadSpec(bytes.NewReader(b))
		if err != nil {
			return
		}
		c, err := ebpf.NewCollection(spec, ebpf.Options{Budget: maps.NewBudget(16 << 20)})
		if err == nil {
			c.Close()
		}
	})
}
