package maps

import (
	"sync/atomic"
)

// ForEach calls f with each element as a program on a CPU slot sees it
// (bpf_for_each_map_elem): key and value are the element's own memory, valid as
// long as an element's memory is. It ends when f returns false, and returns the
// number of calls. Elements that others add or delete meanwhile may be
// seen or not, and in rare cases others twice.
// Maps without keys, and arrays of objects, have nothing to show. An array's key
// belongs to the call.
func (m *Map) ForEach(cpu int, f func(key, value []byte) bool) int {
	w, ok := m.store.(walker)
	if !ok || uint(cpu) >= uint(m.spec.CPUs) {
		return 0
	}
	return w.walk(cpu, f)
}

// walker is implemented by stores that can show their elements.
type walker interface {
	walk(cpu int, f func(key, value []byte) bool) int
}

func (a *array) walk(cpu int, f func(key, value []byte) bool) int {
	var key [4]byte
	n := 0
	for i := range a.n {
		putIndex(key[:], i)
		n++
		if !f(key[:], a.at(i, cpu)) {
			break
		}
	}
	return n
}

// walk goes through the buckets. An element that is moved while the walk stands on
// it leads into another bucket's chain; its end tells, and the walk goes on with
// the next bucket.
func (h *hash) walk(cpu int, f func(key, value []byte) bool) int {
	n := 0
	for b := range h.mask + 1 {
		for l := atomic.LoadUint32(h.bucket(b)); l&linkEnd == 0; {
			e := h.ref(l)
			// The callback may delete the element, which leaves its link as it is.
			l = atomic.LoadUint32(nextOf(e))
			n++
			if !f(h.key(e), h.value(e, cpu)) {
				return n
			}
		}
	}
	return n
}

func (t *lpm) walk(_ int, f func(key, value []byte) bool) int {
	// The callback may change the trie: collect first.
	t.mu.Lock()
	var all []node
	var collect func(n node)
	collect = func(n node) {
		if n == nil {
			return
		}
		collect(t.node(*child(n, 0)))
		collect(t.node(*child(n, 1)))
		if *isElem(n) != 0 {
			all = append(all, n)
		}
	}
	collect(t.node(t.root))
	t.mu.Unlock()
	for i, n := range all {
		if !f(t.key(n), t.value(n)) {
			return i + 1
		}
	}
	return len(all)
}

func (d *sparse) walk(_ int, f func(key, value []byte) bool) int {
	n := 0
	d.array.walk(0, func(key, value []byte) bool {
		if index(value) == 0 {
			return true
		}
		n++
		return f(key, value)
	})
	return n
}

func (d devHash) walk(_ int, f func(key, value []byte) bool) int { return d.hash.walk(0, f) }
