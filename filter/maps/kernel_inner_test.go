package maps

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestKernelInner puts maps into maps of maps, there and here.
func TestKernelInner(t *testing.T) {
	needKernel(t)
	if testing.Short() {
		t.Skip("the kernel waits long after each change of a map of maps")
	}
	n := 0
	for _, in := range []Spec{
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 4},
		{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 4},
		{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 4, Flags: InnerMap},
		{Type: PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 4},
		{Type: RingBuf, MaxEntries: 4096},
		{Type: ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: PerfEventArray, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4},
	} {
		pattern, e := kernelCreate(&in, 0)
		if e != 0 {
			continue
		}
		defer pattern.close()
		for _, typ := range []Type{ArrayOfMaps, HashOfMaps} {
			if typ == HashOfMaps && in.Type != Hash {
				continue
			}
			s := Spec{Type: typ, KeySize: 4, ValueSize: 4, MaxEntries: 2}
			outer, e := kernelCreate(&s, pattern)
			s.Inner = &in
			m, err := New(s)
			if n++; errnoName(e) != errnoName(err) {
				t.Errorf("%v of %v: kernel %q, we %q", typ, in.Type, errnoName(e), errnoName(err))
			}
			if e != 0 || err != nil {
				continue
			}
			n += compareInner(t, outer, m, in)
			outer.close()
			m.Close()
		}
	}
	t.Logf("%d operations compared", n)
}

func compareInner(t *testing.T, outer kernelMap, m *Map, in Spec) (n int) {
	for _, change := range []func(*Spec){
		func(*Spec) {}, func(s *Spec) { s.MaxEntries *= 2 }, func(s *Spec) { s.Flags ^= RdOnly },
		func(s *Spec) { s.ValueSize *= 2 },
	} {
		s := in
		change(&s)
		theirs, e := kernelCreate(&s, 0)
		ours, err := New(s)
		if e != 0 || err != nil {
			continue
		}
		for _, flags := range []uint64{0, UpdateNoExist} {
			n++
			got := m.PutMap(k4(1), ours, flags)
			want := outer.elem(unix.BPF_MAP_UPDATE_ELEM, k4(1), k4(uint32(theirs)), flags)
			if errnoName(got) != errnoName(want) {
				t.Errorf("%v of %v: put %d entries, flags %#x, with %d: kernel %q, we %q", m.Type(), in.Type, s.MaxEntries, s.Flags, flags, errnoName(want), errnoName(got))
			}
		}
		got, want := m.Delete(k4(1)), outer.elem(unix.BPF_MAP_DELETE_ELEM, k4(1), nil, 0)
		if errnoName(got) != errnoName(want) {
			t.Errorf("%v of %v: delete: kernel %q, we %q", m.Type(), in.Type, errnoName(want), errnoName(got))
		}
		theirs.close()
		ours.Close()
	}
	return n
}
