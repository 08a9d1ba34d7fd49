package vm

import (
	"syscall"
	"testing"
	"time"

	"taproom/filter/ebpf"
	"taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// timerProgram starts a timer for an hour in the value of key 0, counting in the value's
// first word when it fires. It returns what timer_init said, with what the
// others said in the bits above.
func timerProgram(m *maps.Map) *ebpf.Program {
	g := &generator{}
	wide := func(dst, pseudo uint8, imm int32) {
		g.emit(0x18, dst, pseudo, 0, imm)
		g.out = append(g.out, ebpf.Insn{})
	}
	field := func() {
		g.emit(0xbf, 1, 6, 0, 0)
		g.emit(0x07, 1, 0, 0, 8)
	}
	g.emit(0x62, 10, 0, -4, 0)
	g.emit(0xbf, 2, 10, 0, 0)
	g.emit(0x07, 2, 0, 0, -4)
	wide(1, ebpf.PseudoMap, 0)
	g.emit(0x85, 0, 0, 0, 1) // map_lookup_elem
	g.emit(0x55, 0, 0, 2, 0)
	g.emit(0xb7, 0, 0, 0, 1)
	g.emit(0x95, 0, 0, 0, 0)
	g.emit(0xbf, 6, 0, 0, 0)
	field()
	wide(2, ebpf.PseudoMap, 0)
	g.emit(0xb7, 3, 0, 0, clockMono)
	g.emit(0x85, 0, 0, 0, 169) // timer_init
	g.emit(0xbf, 7, 0, 0, 0)
	field()
	callback := len(g.out)
	wide(2, ebpf.PseudoFunc, 0)
	g.emit(0x85, 0, 0, 0, 170) // timer_set_callback
	g.emit(0xbf, 8, 0, 0, 0)
	field()
	g.wide(2, uint64(time.Hour))
	g.emit(0xb7, 3, 0, 0, 0)
	g.emit(0x85, 0, 0, 0, 171) // timer_start
	g.emit(0x67, 8, 0, 0, 8)
	g.emit(0x67, 0, 0, 0, 16)
	g.emit(0x1f, 7, 8, 0, 0)
	g.emit(0x1f, 7, 0, 0, 0)
	g.emit(0xbf, 0, 7, 0, 0)
	g.emit(0x95, 0, 0, 0, 0)
	start := len(g.out)
	g.out[callback].Imm = int32(start - callback - 1)
	g.emit(0x79, 1, 3, 0, 0)
	g.emit(0x07, 1, 0, 0, 1)
	g.emit(0x7b, 3, 1, 0, 0)
	g.emit(0xb7, 0, 0, 0, 0)
	g.emit(0x95, 0, 0, 0, 0)
	fired := &btf.Func{Name: "fired", Linkage: btf.StaticFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}}, {Type: &btf.Pointer{Target: &btf.Void{}}}, {Type: &btf.Pointer{Target: &btf.Void{}}}},
	}}
	return &ebpf.Program{
		Name: "timer", License: "GPL", Type: ebpf.SchedCLS, Insns: g.out, Maps: []*maps.Map{m},
		Funcs: []ebpf.Func{{}, {Start: start, Name: "fired", Type: fired}},
	}
}

// TestTimerGoes follows Linux: a timer goes with its element, and with the map's last
// user reference.
func TestTimerGoes(t *testing.T) {
	key, value := make([]byte, 4), make([]byte, 24)
	remove := func(m *maps.Map) error { return m.Delete(key) }
	replace := func(m *maps.Map) error { return m.Update(key, value, 0) }
	evict := func(m *maps.Map) error {
		for i := range byte(64) {
			if err := m.Update([]byte{i, 1, 0, 0}, value, 0); err != nil {
				return err
			}
		}
		return nil
	}
	closed := func(m *maps.Map) error { m.Close(); return nil }
	for _, c := range []struct {
		name string
		typ  maps.Type
		drop func(*maps.Map) error
		// again is what timer_init says in the next run.
		again syscall.Errno
	}{
		{"hash/delete", maps.Hash, remove, 0},
		{"hash/update", maps.Hash, replace, 0},
		{"hash/close", maps.Hash, closed, syscall.EPERM},
		{"lru/delete", maps.LRUHash, remove, 0},
		{"lru/update", maps.LRUHash, replace, 0},
		{"lru/evict", maps.LRUHash, evict, 0},
		{"lru/close", maps.LRUHash, closed, syscall.EPERM},
		{"array/update", maps.Array, replace, 0},
		{"array/close", maps.Array, closed, syscall.EPERM},
	} {
		for _, o := range []Options{{NoJIT: true}, {}} {
			m, err := maps.New(maps.Spec{Type: c.typ, KeySize: 4, ValueSize: 24, MaxEntries: 4, Timer: 9})
			if err != nil {
				t.Fatal(err)
			}
			m.Retain() // the program's
			if err := m.Update(key, value, 0); err != nil {
				t.Fatal(err)
			}
			p, err := load(timerProgram(m), o)
			if err != nil {
				t.Fatal(err)
			}
			run := func() syscall.Errno {
				res, err := p.TestRun(TestOptions{Data: skbFrames[0]})
				if err != nil {
					t.Fatal(err)
				}
				return syscall.Errno(-int32(res.Return))
			}
			if e := run(); e != 0 {
				t.Fatalf("%s: %v", c.name, e)
			}
			if e := run(); e != syscall.EBUSY {
				t.Errorf("%s: a second timer_init: %v", c.name, e)
			}
			v, _ := m.Elem(key, 0)
			field := addressOf(v) + 8
			tm := timerAt(field)
			if tm == nil || tm.armed == 0 || p.refs.Load() != 2 {
				t.Fatalf("%s: not armed: %+v", c.name, tm)
			}
			n := tm.armed
			if err := c.drop(m); err != nil {
				t.Fatal(err)
			}
			tm.fire(n) // as the clock would
			if timerAt(field) != nil || v[0] != 0 || p.refs.Load() != 1 {
				t.Errorf("%s: timer still there; it fired %d times, %d references", c.name, v[0], p.refs.Load())
			}
			if c.again == 0 {
				if err := m.Update(key, value, 0); err != nil {
					t.Fatal(err)
				}
			}
			if e := run() & 0xff; e != c.again {
				t.Errorf("%s: the next run: %v, want %v", c.name, e, c.again)
			}
			if c.again == 0 {
				m.Close()
			}
			m.Release()
			p.Release()
			if timerAt(field) != nil {
				t.Errorf("%s: timer outlives its map", c.name)
			}
		}
	}
}
