package object

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"taproom/filter/ebpf"
	bpfmaps "taproom/filter/maps"

	"github.com/google/go-cmp/cmp"
)

// runner stands for a runnable program.
type runner struct {
	id   uint32
	refs atomic.Int32
}

var lastRunner atomic.Uint32

func newRunner(*ebpf.Program) (bpfmaps.Prog, error) {
	r := &runner{id: lastRunner.Add(1)}
	r.refs.Store(1)
	return r, nil
}

func (r *runner) ID() uint32       { return r.id }
func (r *runner) TailType() uint64 { return 3 }
func (r *runner) Entry() uintptr   { return 0 }
func (r *runner) Hold()            { r.refs.Add(1) }
func (r *runner) Release()         { r.refs.Add(-1) }

func clock() time.Time { return time.Unix(1_700_000_000, 0) }

func registry() *Registry { return NewRegistry(Options{Now: clock}) }

func key(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func newMap(t *testing.T, s bpfmaps.Spec) *bpfmaps.Map {
	t.Helper()
	m, err := bpfmaps.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// program is one that loads two maps' addresses and returns.
func program(t *testing.T, r *Registry, name string, ms ...*bpfmaps.Map) *Program {
	t.Helper()
	src := &ebpf.Program{
		Name: name, License: "GPL", Type: ebpf.SchedCLS, Funcs: []ebpf.Func{{Name: name}},
		Lines: []ebpf.Line{{Insn: 0, File: "x.c", Line: 7, Text: "return 0;"}},
	}
	for n, m := range ms {
		src.Maps = append(src.Maps, m.Retain())
		src.Insns = append(src.Insns, ebpf.Insn{Op: ebpf.OpLoadImm64, Regs: ebpf.Regs(1, ebpf.PseudoMap), Imm: int32(n)}, ebpf.Insn{})
	}
	src.Insns = append(src.Insns, ebpf.Insn{Op: ebpf.ClassALU64 | ebpf.ALUMov}, ebpf.Insn{Op: ebpf.OpExit})
	run, err := newRunner(src)
	if err != nil {
		t.Fatal(err)
	}
	return r.AddProgram(src, run)
}

func openDir(t *testing.T, path string, r *Registry) *Dir {
	t.Helper()
	d, err := OpenDir(path, r, DirOptions{Load: newRunner})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// elements returns what Save shows.
func elements(t *testing.T, m *bpfmaps.Map) map[string]string {
	t.Helper()
	all := map[string]string{}
	n := 0
	err := m.Save(func(key, value []byte) error {
		k := string(key)
		if key == nil {
			k = string(rune('a' + n)) // queues: by order
		}
		n++
		all[k] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestMapsSurvive pins maps of all kinds, and opens them as another process would.
func TestMapsSurvive(t *testing.T) {
	specs := map[string]bpfmaps.Spec{
		"hash":        {Type: bpfmaps.Hash, KeySize: 4, ValueSize: 6, MaxEntries: 20},
		"array":       {Type: bpfmaps.Array, KeySize: 4, ValueSize: 8, MaxEntries: 9, Flags: bpfmaps.Mmapable},
		"lru":         {Type: bpfmaps.LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 20},
		"percpu/hash": {Type: bpfmaps.PerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 20},
		"percpu/arr":  {Type: bpfmaps.PerCPUArray, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		"lpm":         {Type: bpfmaps.LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: 20, Flags: bpfmaps.NoPrealloc},
		"queue":       {Type: bpfmaps.Queue, ValueSize: 4, MaxEntries: 20},
		"stack":       {Type: bpfmaps.Stack, ValueSize: 4, MaxEntries: 20},
		"bloom":       {Type: bpfmaps.BloomFilter, ValueSize: 4, MaxEntries: 20, Extra: 3},
		"dev":         {Type: bpfmaps.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 9},
		"rdonly":      {Type: bpfmaps.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 9, Flags: bpfmaps.RdOnly},
	}
	path := t.TempDir()
	d := openDir(t, path, registry())
	want := map[string]map[string]string{}
	for name, s := range specs {
		m := newMap(t, s)
		for n := range uint32(8) {
			k := key(n)
			switch {
			case s.Type == bpfmaps.LPMTrie:
				k = append(key(n+8), byte(n*37), 5, 6, 7)
			case s.KeySize == 0:
				k = nil
			case s.Type == bpfmaps.PerCPUArray && n >= 4:
				continue
			}
			v := make([]byte, m.UserValueSize())
			v[0] = byte(n + 1)
			store := m.Restore
			if s.Type == bpfmaps.BloomFilter {
				store = func(k, v []byte) error { return m.Update(k, v, 0) }
			}
			if err := store(k, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.PinMap(name, m); err != nil {
			t.Fatal(err)
		}
		want[name] = elements(t, m)
		m.Close()
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	d = openDir(t, path, registry())
	defer d.Close()
	pins, err := d.List()
	if err != nil || len(pins) != len(specs) {
		t.Fatalf("%d pins, %v", len(pins), err)
	}
	for name, s := range specs {
		m, err := d.OpenMap(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(want[name], elements(t, m)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if m.Type() != s.Type || m.Flags() != s.Flags {
			t.Errorf("%s: %v, flags %#x", name, m.Type(), m.Flags())
		}
		m.Close()
	}
}

// TestProgramsSurvive pins a program that shares maps with another and is in the
// program array that it uses.
func TestProgramsSurvive(t *testing.T) {
	path := t.TempDir()
	reg := registry()
	d := openDir(t, path, reg)
	counts := newMap(t, bpfmaps.Spec{Name: "counts", Type: bpfmaps.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	calls := newMap(t, bpfmaps.Spec{Name: "calls", Type: bpfmaps.ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 3})
	outer := newMap(t, bpfmaps.Spec{
		Name: "outer", Type: bpfmaps.HashOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 3,
		Inner: &bpfmaps.Spec{Type: bpfmaps.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
	})
	a, b := program(t, reg, "a", counts, calls), program(t, reg, "b", counts, outer)
	for n, p := range []*Program{a, b} {
		if err := calls.PutProg(key(uint32(n)), p.Runnable(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := outer.PutMap(key(9), counts, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.PinProgram("progs/a", a); err != nil {
		t.Fatal(err)
	}
	if err := d.PinMap("outer", outer); err != nil {
		t.Fatal(err)
	}
	if err := counts.Update(key(0), []byte("12345678"), 0); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Program{a, b} {
		p.Close()
	}
	for _, m := range []*bpfmaps.Map{counts, calls, outer} {
		m.Close()
	}
	if n := len(reg.Programs()); n != 2 {
		t.Errorf("%d programs while pinned, want 2", n)
	}
	tag := a.Tag()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(reg.Programs()); n != 0 {
		t.Errorf("%d programs after closing, want 0", n)
	}

	reg = registry()
	d = openDir(t, path, reg)
	defer d.Close()
	p, err := d.OpenProgram("progs/a")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Tag() != tag || p.Info().LoadedAt != clock().Unix() || p.Source().Lines[0].Text != "return 0;" {
		t.Errorf("%+v", p.Info())
	}
	o, err := d.OpenMap("outer")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	shared := p.Source().Maps[0]
	if o.Inner(key(9)) != shared {
		t.Error("counts is not shared any more")
	}
	if v, err := shared.Lookup(key(0), 0); err != nil || string(v) != "12345678" {
		t.Errorf("counts: %q, %v", v, err)
	}
	in := p.Source().Maps[1]
	if in.Prog(0) != p.Runnable() || in.Prog(1) == nil || in.Prog(2) != nil {
		t.Error("calls does not hold a and b")
	}
	if got := reg.Find("b"); len(got) != 1 || got[0].Source().Maps[0] != shared {
		t.Errorf("b: %v", got)
	}
	again, err := d.OpenProgram("progs/a")
	if err != nil || again != p {
		t.Errorf("opened again: %v, %v", again, err)
	}
	again.Close()
}

// TestProgArrayEmpties follows Linux: the last user reference empties the array,
// although a program uses it.
func TestProgArrayEmpties(t *testing.T) {
	reg := registry()
	calls := newMap(t, bpfmaps.Spec{Type: bpfmaps.ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	user, callee := program(t, reg, "user", calls), program(t, reg, "callee")
	if err := calls.PutProg(key(0), callee.Runnable(), 0); err != nil {
		t.Fatal(err)
	}
	callee.Close()
	if len(reg.Programs()) != 2 {
		t.Error("a program in an array must stay")
	}
	id := callee.ID()
	if p, ok := reg.Program(id); !ok {
		t.Error("a program in an array must be found")
	} else {
		p.Close()
	}
	d := openDir(t, t.TempDir(), reg)
	if err := d.PinMap("calls", calls); err != nil {
		t.Fatal(err)
	}
	calls.Close()
	if calls.Prog(0) == nil {
		t.Error("a pin must keep the array filled")
	}
	if err := d.Unpin("calls"); err != nil {
		t.Fatal(err)
	}
	if calls.Prog(0) != nil {
		t.Error("the array must be empty")
	}
	if got := reg.Programs(); len(got) != 1 || got[0] != user {
		t.Errorf("%d programs left", len(got))
	}
	user.Close()
	if _, ok := bpfmaps.ByID(calls.ID()); ok {
		t.Error("the array must be gone")
	}
}

func TestNames(t *testing.T) {
	d := openDir(t, t.TempDir(), registry())
	m := newMap(t, bpfmaps.Spec{Type: bpfmaps.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	defer m.Close()
	for _, bad := range []string{"", ".", "..", "../x", "/x", "a//b", "a/../b", "x.tmp-1"} {
		if err := d.PinMap(bad, m); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if err := d.PinMap("a", m); err != nil {
		t.Fatal(err)
	}
	if err := d.PinMap("a", m); !errors.Is(err, ErrPinned) {
		t.Errorf("pinned twice: %v", err)
	}
	if err := d.PinMap("b", m); err != nil {
		t.Fatal(err)
	}
	if err := d.Unpin("a"); err != nil {
		t.Fatal(err)
	}
	if got, err := d.OpenMap("b"); err != nil || got != m {
		t.Errorf("b: %v, %v", got, err)
	} else {
		got.Close()
	}
	if _, err := d.Open("a"); !errors.Is(err, ErrNotPinned) {
		t.Errorf("a: %v", err)
	}
	if err := d.Unpin("a"); !errors.Is(err, ErrNotPinned) {
		t.Errorf("unpinned twice: %v", err)
	}
}

// TestCrash leaves what a crash could leave at each step of a pin, and damaged files.
func TestCrash(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, registry())
	m := newMap(t, bpfmaps.Spec{Type: bpfmaps.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	defer m.Close()
	for _, name := range []string{"good", "other"} {
		if err := d.PinMap(name, m); err != nil {
			t.Fatal(err)
		}
	}
	objects := filepath.Join(path, objectDir)
	orphan := filepath.Join(objects, newIdentity())
	for _, file := range []string{
		orphan, filepath.Join(objects, newIdentity()+tempMark+"1"), filepath.Join(path, pinDir, "half"+tempMark+"2"),
	} {
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pins, err := d.List()
	if err != nil || len(pins) != 2 {
		t.Fatalf("%v, %v", pins, err)
	}
	if err := d.Unpin("other"); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(objects)
	if len(left) != 1 {
		t.Errorf("%d objects left, want 1", len(left))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(objects, left[0].Name())
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for n := range raw {
		bad := append([]byte(nil), raw...)
		bad[n] ^= 0x10
		if _, _, err := decode(bad); !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
		if _, _, err := decode(raw[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	if err := os.WriteFile(file, raw[:len(raw)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDir(t, path, registry()).Open("good"); !errors.Is(err, ErrFormat) {
		t.Errorf("damaged object: %v", err)
	}
}

func TestLinks(t *testing.T) {
	reg := registry()
	closed := 0
	l := reg.AddLink(LinkInfo{Type: "tcx", ProgID: 4, Attrs: map[string]any{"devname": "eth0"}}, func() error { closed++; return nil })
	l.SetProgram(5)
	if got := reg.Links(); len(got) != 1 || got[0].Info().ProgID != 5 || got[0].ID() == 0 {
		t.Errorf("%+v", got)
	}
	for range 2 {
		if err := l.Detach(); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := reg.Link(l.ID()); !ok {
		t.Error("a detached link is to stay until it is closed")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := reg.Link(l.ID()); ok || closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}

// TestLinksSurvive pins an attachment, lets it go, and has it made again.
func TestLinksSurvive(t *testing.T) {
	path := t.TempDir()
	reg := registry()
	d := openDir(t, path, reg)
	p := program(t, reg, "p")
	closed := 0
	attrs := map[string]any{"devname": "eth0", "attach_type": "tcx_ingress"}
	l := reg.AddLink(LinkInfo{Type: "tcx", ProgID: p.ID(), Attrs: attrs}, func() error { closed++; return nil })
	if err := d.PinLink("link", l); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := l.Close(); err != nil || closed != 0 {
		t.Errorf("a pinned link was detached: %v", err)
	}
	again, err := d.OpenLink("link")
	if err != nil || again != l {
		t.Errorf("%v, %v", again, err)
	}
	again.Close()
	if err := d.Close(); err != nil || closed != 1 {
		t.Errorf("%v, detached %d times", err, closed)
	}

	reg = registry()
	d, err = OpenDir(path, reg, DirOptions{Load: newRunner, Attach: func(i LinkInfo, p *Program) (*Link, error) {
		if diff := cmp.Diff(attrs, i.Attrs); diff != "" || i.Type != "tcx" || p.Name() != "p" {
			t.Errorf("%+v: %s", i, diff)
		}
		return reg.AddLink(i, nil), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = d.OpenLink("link"); err != nil || len(reg.Links()) != 1 || len(reg.Programs()) != 1 {
		t.Fatalf("%v, %v", l, err)
	}
	l.Close()
	if err := d.Unpin("link"); err != nil {
		t.Fatal(err)
	}
	if len(reg.Links()) != 0 || len(reg.Programs()) != 0 {
		t.Error("unpinned, but still there")
	}
}

func TestCounts(t *testing.T) {
	reg := registry()
	p := program(t, reg, "p")
	defer p.Close()
	p.Count(0)
	p.Count(3 * time.Microsecond)
	i := p.Info()
	if i.RunCount != 2 || i.RunTimeNanos != 3000 || i.LoadedAt != clock().Unix() || i.BytesXlated != 16 || !i.GPL {
		t.Errorf("%+v", i)
	}
}

func FuzzDecode(f *testing.F) {
	m, err := bpfmaps.New(bpfmaps.Spec{Type: bpfmaps.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		f.Fatal(err)
	}
	b, err := encodeMap(m, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	h, body, _ := decode(b)
	_ = h
	f.Add([]byte(`{"kind":"map","map":{"type":"hash","key_size":4,"value_size":4,"max_entries":9}}`), body)
	f.Add([]byte(`{"kind":"prog","prog":{"funcs":[{"start":0}],"btf":"AAAA"}}`), []byte("\x95\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, head, body []byte) {
		decode(body)
		dir := t.TempDir()
		d, err := OpenDir(dir, registry(), DirOptions{Load: newRunner})
		if err != nil {
			t.Fatal(err)
		}
		// A well-formed envelope around anything.
		id := newIdentity()
		if err := os.WriteFile(d.objectPath(id), seal(head, body), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.revive(id); err == nil {
			d.drop(id)
		}
	})
}
