package maps

import (
	"slices"
	"sync"
	"sync/atomic"
	"weak"
)

// ids is the process's table of live maps, as the kernel has one: maps in maps
// are named by id on the system call side. It does not keep a map alive.
var ids struct {
	last atomic.Uint32
	tab  sync.Map // uint32 -> weak.Pointer[Map]
}

func register(m *Map) {
	m.id = ids.last.Add(1)
	ids.tab.Store(m.id, weak.Make(m))
}

func unregister(m *Map) { ids.tab.Delete(m.id) }

// ByID returns the live map with an id. The caller gets a reference (see
// [Map.Hold]) and must Close it.
func ByID(id uint32) (*Map, bool) {
	w, ok := ids.tab.Load(id)
	if !ok {
		return nil, false
	}
	m := w.(weak.Pointer[Map]).Value()
	if m == nil || !m.tryHold() {
		return nil, false
	}
	return m, true
}

// IDs returns the ids of all live maps in ascending order.
func IDs() []uint32 {
	var all []uint32
	ids.tab.Range(func(id, _ any) bool {
		all = append(all, id.(uint32))
		return true
	})
	slices.Sort(all)
	return all
}
