package maps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

func mustNew(t testing.TB, s Spec) *Map {
	t.Helper()
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func k4(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
func v8(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }

func TestMapsInMaps(t *testing.T) {
	pattern := Spec{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 4}
	for _, typ := range []Type{ArrayOfMaps, HashOfMaps} {
		outer := mustNew(t, Spec{Type: typ, KeySize: 4, ValueSize: 4, MaxEntries: 20, Inner: &pattern})
		var inners []*Map
		for n := range uint32(20) {
			in, err := New(pattern)
			if err != nil {
				t.Fatal(err)
			}
			inners = append(inners, in)
			if err := outer.Update(k4(n), k4(in.ID()), 0); err != nil {
				t.Fatal(err)
			}
			in.Close()
		}
		for n, in := range inners {
			if got := outer.Inner(k4(uint32(n))); got != in {
				t.Errorf("%v: %d leads to another map", typ, n)
			}
			if id, err := outer.Lookup(k4(uint32(n)), 0); err != nil || !bytes.Equal(id, k4(in.ID())) {
				t.Errorf("%v: lookup gives %v, %v", typ, id, err)
			}
		}
		if err := outer.Delete(k4(3)); err != nil || outer.Inner(k4(3)) != nil {
			t.Errorf("%v: deleted: %v", typ, err)
		}
		if _, ok := ByID(inners[3].ID()); ok {
			t.Errorf("%v: a deleted inner map lives on", typ)
		}
		other := mustNew(t, Spec{Type: Hash, KeySize: 8, ValueSize: 8, MaxEntries: 4})
		if err := outer.PutMap(k4(0), other, 0); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v: a map that does not fit: %v", typ, err)
		}
		if err := outer.Update(k4(0), k4(1<<30), 0); !errors.Is(err, syscall.EBADF) {
			t.Errorf("%v: no map: %v", typ, err)
		}
	}
	if _, err := New(Spec{Type: ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 2, Inner: &Spec{Type: ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 1}}); !errors.Is(err, ENOTSUPP) {
		t.Errorf("program arrays in an array: %v", err)
	}
}

func TestSpinLockFields(t *testing.T) {
	m := mustNew(t, Spec{Type: Hash, KeySize: 4, ValueSize: 24, MaxEntries: 4, SpinLock: 8 + 1, Flags: NoPrealloc})
	value := bytes.Repeat([]byte{7}, 24)
	if err := m.Update(k4(1), value, 0); err != nil {
		t.Fatal(err)
	}
	live, _ := m.Elem(k4(1), 0)
	if word(live[8:12]) != 0 {
		t.Error("a new element is locked")
	}
	SpinLock(live[8:12])
	if got, _ := m.Lookup(k4(1), 0); word(got[8:12]) != 0 || got[12] != 7 {
		t.Errorf("lookup shows the lock: %v", got)
	}
	done := make(chan error)
	go func() { done <- m.Update(k4(1), bytes.Repeat([]byte{9}, 24), FlagLock) }()
	select {
	case <-done:
		t.Error("an update did not wait for the lock")
	default:
	}
	SpinUnlock(live[8:12])
	if err := <-done; err != nil || live[0] != 9 || live[23] != 9 || word(live[8:12]) != 0 {
		t.Errorf("after an update: %v, %v", live, err)
	}
	if got, err := m.Lookup(k4(1), FlagLock); err != nil || got[0] != 9 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestReplaceKeepsOld looks at a value that an update replaced: it stays as it was.
func TestReplaceKeepsOld(t *testing.T) {
	for _, s := range []Spec{
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1},
		{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 1, Flags: NoPrealloc},
	} {
		m := mustNew(t, s)
		key := make([]byte, s.KeySize)
		m.Set(key, v8(1), 0, 0)
		old, _ := m.Elem(key, 0)
		m.Set(key, v8(2), 0, 0)
		now, _ := m.Elem(key, 0)
		if !bytes.Equal(old, v8(1)) || !bytes.Equal(now, v8(2)) {
			t.Errorf("%v: old %v, new %v", s.Type, old, now)
		}
	}
}

func TestLRUSparesTheUsed(t *testing.T) {
	m := mustNew(t, Spec{Type: LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 100})
	for n := range uint32(100) {
		if e := m.Set(k4(n), v8(uint64(n)), 0, 0); e != 0 {
			t.Fatal(e)
		}
	}
	for n := range uint32(50) {
		if _, ok := m.Elem(k4(n), 0); !ok {
			t.Fatal("evicted before it was full")
		}
	}
	for n := range uint32(50) {
		if e := m.Set(k4(1000+n), v8(0), 0, 0); e != 0 {
			t.Fatal(e)
		}
	}
	kept := 0
	for n := range uint32(50) {
		if _, ok := m.Elem(k4(n), 0); ok {
			kept++
		}
	}
	if kept < 45 || m.Entries() > 100 {
		t.Errorf("%d of 50 used elements kept, %d elements", kept, m.Entries())
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(2 << 20)
	m, err := New(Spec{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 1 << 16, Budget: b})
	if err != nil {
		t.Fatal(err)
	}
	if b.Used() != 1<<19 || m.Memory() != 1<<19 {
		t.Errorf("%d bytes used, map %d", b.Used(), m.Memory())
	}
	if _, err := New(Spec{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 1 << 18, Budget: b}); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("over budget: %v", err)
	}
	lazy := mustNew(t, Spec{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 1 << 31, Flags: NoPrealloc, Budget: b})
	n := uint32(0)
	for ; ; n++ {
		key := append(k4(32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		if e := lazy.Set(key, v8(1), 0, 0); e != 0 {
			if e != syscall.ENOMEM {
				t.Error(e)
			}
			break
		}
	}
	if n < 1000 || b.Used() > b.Limit() {
		t.Errorf("%d elements, %d bytes used", n, b.Used())
	}
	m.Close()
	before := b.Used()
	m = nil
	for range 10 {
		runtime.GC()
		runtime.Gosched()
	}
	if b.Used() != before-1<<19 {
		t.Logf("memory is not returned yet: %d", b.Used())
	}
}

// TestConcurrent lets programs and Go change maps at once. Values carry their key, so
// that a mix-up shows.
func TestConcurrent(t *testing.T) {
	for _, s := range []Spec{
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 64},
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 64, Flags: NoPrealloc},
		{Type: LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 32},
		{Type: PerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 64, CPUs: 4},
		{Type: LRUPerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 32, CPUs: 4},
		{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 64, Flags: NoPrealloc, CPUs: 4},
	} {
		s.CPUs = 4
		t.Run(fmt.Sprint(s.Type, s.Flags), func(t *testing.T) {
			m := mustNew(t, s)
			var wg sync.WaitGroup
			for cpu := range 4 {
				wg.Go(func() { hammer(t, m, cpu) })
			}
			wg.Wait()
			seen := 0
			for key, err := m.NextKey(nil); err == nil; key, err = m.NextKey(key) {
				if seen++; seen > 1000 {
					t.Fatal("keys go round")
				}
			}
			if n := m.Entries(); n != seen {
				t.Errorf("%d keys, %d counted", seen, n)
			}
		})
	}
}

func hammer(t *testing.T, m *Map, cpu int) {
	x := uint32(cpu + 1)
	for range 20000 {
		x = x*1664525 + 1013904223
		id := x >> 16 % 80
		key := k4(id)
		if m.Type() == LPMTrie {
			key = append(k4(32), byte(id), byte(id>>4), 3, byte(id))
		}
		switch x >> 8 % 4 {
		case 0:
			m.Unset(key)
		case 1:
			m.Set(key, v8(uint64(id)), 0, cpu)
		default:
			v, ok := m.Elem(key, cpu)
			if !ok {
				continue
			}
			// The element may have been reused for another key meanwhile, or on
			// per-CPU maps never been written here: but its value is a value.
			if got := binary.NativeEndian.Uint64(v); got >= 80 {
				t.Errorf("%d: %#x", id, got)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	key, value := k4(3), v8(1)
	for _, typ := range []Type{Hash, Array, LRUHash, PerCPUArray, PerCPUHash} {
		m := mustNew(t, Spec{Type: typ, KeySize: 4, ValueSize: 8, MaxEntries: 8})
		if n := testing.AllocsPerRun(100, func() {
			m.Set(key, value, 0, 0)
			m.Elem(key, 0)
			if typ != Array && typ != PerCPUArray { // which make keys up
				m.ForEach(0, func(_, _ []byte) bool { return true })
			}
			m.Unset(key)
		}); n != 0 {
			t.Errorf("%v: %v allocations", typ, n)
		}
	}
	trie := mustNew(t, Spec{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 8, Flags: NoPrealloc})
	prefix := append(k4(24), 10, 0, 0, 0)
	trie.Set(prefix, value, 0, 0)
	if n := testing.AllocsPerRun(100, func() { trie.Elem(prefix, 0) }); n != 0 {
		t.Errorf("lpm_trie: %v allocations", n)
	}
}

func TestBatch(t *testing.T) {
	m := mustNew(t, Spec{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 10})
	var keys, values []byte
	for n := range uint32(12) {
		keys, values = append(keys, k4(n)...), append(values, v8(uint64(n))...)
	}
	if n, err := m.UpdateBatch(keys, values, 0); n != 10 || !errors.Is(err, syscall.E2BIG) {
		t.Errorf("stored %d, %v", n, err)
	}
	seen := map[string]bool{}
	var from []byte
	for {
		b, err := m.LookupBatch(from, 3, 0)
		for ; len(b.Keys) > 0; b.Keys, b.Values = b.Keys[4:], b.Values[8:] {
			seen[string(b.Keys[:4])] = true
			if word(b.Keys[:4]) != word(b.Values[:8]) {
				t.Errorf("%v has %v", b.Keys[:4], b.Values[:8])
			}
		}
		if err != nil {
			if !IsEnd(err) {
				t.Error(err)
			}
			break
		}
		from = b.Next
	}
	if len(seen) != 10 {
		t.Errorf("%d elements seen", len(seen))
	}
	if n, err := m.DeleteBatch(append(k4(1), k4(99)...), 0); n != 1 || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("deleted %d, %v", n, err)
	}
	if b, err := m.LookupAndDeleteBatch(nil, 100, 0); !IsEnd(err) || len(b.Keys) != 9*4 || m.Entries() != 0 {
		t.Errorf("took %d bytes of keys, %v, %d left", len(b.Keys), err, m.Entries())
	}
	q := mustNew(t, Spec{Type: Queue, ValueSize: 4, MaxEntries: 1})
	if _, err := q.LookupBatch(nil, 1, 0); !errors.Is(err, ENOTSUPP) {
		t.Error(err)
	}
}

func TestFreeze(t *testing.T) {
	m := mustNew(t, Spec{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := m.Update(k4(0), v8(1), 0); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
	if e := m.Set(k4(0), v8(1), 0, 0); e != 0 {
		t.Errorf("a program may write: %v", e)
	}
	if err := m.Freeze(); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
}

func BenchmarkElem(b *testing.B) {
	for _, s := range []Spec{
		{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 1024},
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1024},
		{Type: Hash, KeySize: 40, ValueSize: 24, MaxEntries: 1024},
		{Type: LRUHash, KeySize: 16, ValueSize: 8, MaxEntries: 1024},
		{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 1024, Flags: NoPrealloc},
	} {
		m := mustNew(b, s)
		keys := make([][]byte, 256)
		for n := range keys {
			keys[n] = make([]byte, s.KeySize)
			if s.Type == LPMTrie {
				keys[n][0] = byte(16 + n%17)
				copy(keys[n][4:], []byte{10, byte(n), byte(n * 7), byte(n * 3)})
			} else {
				keys[n][0] = byte(n)
			}
			m.Set(keys[n], make([]byte, s.ValueSize), 0, 0)
			if s.Type == LPMTrie {
				keys[n][0] = 32
			}
		}
		b.Run(fmt.Sprintf("%v-%d", s.Type, s.KeySize), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				m.Elem(keys[n&255], 0)
			}
		})
		b.Run(fmt.Sprintf("%v-%d-set", s.Type, s.KeySize), func(b *testing.B) {
			v := make([]byte, s.ValueSize)
			for n := 0; b.Loop(); n++ {
				m.Set(keys[n&255], v, 0, 0)
			}
		})
	}
}
