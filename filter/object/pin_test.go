package object

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	bpfmaps "taproom/filter/maps"

	"github.com/google/go-cmp/cmp"
)

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
