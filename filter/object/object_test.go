package object

import (
	"encoding/binary"
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
