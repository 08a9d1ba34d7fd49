package maps

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"syscall"
)

// ofMaps is the store of ArrayOfMaps and HashOfMaps: a store whose 4-byte values
// are indices into a table of maps, plus one (0 is an empty array slot).
type ofMaps struct {
	m     *Map
	store store // array or hash
	hash  bool

	mu    sync.Mutex
	table atomic.Pointer[[]atomic.Pointer[Map]]
	free  []uint32
}

func newOfMaps(m *Map) (store, error) {
	o := &ofMaps{m: m, hash: m.spec.Type == HashOfMaps}
	o.table.Store(new([]atomic.Pointer[Map]))
	var err error
	if o.hash {
		o.store, err = newHash(m)
	} else {
		o.store, err = newArray(m)
	}
	// Values are not maps' addresses: native code must not look them up itself.
	m.layout = Layout{}
	return o, err
}

// at returns the map that a value stands for.
func (o *ofMaps) at(v []byte) *Map {
	if v == nil {
		return nil
	}
	i := binary.NativeEndian.Uint32(v)
	table := *o.table.Load()
	if i == 0 || int(i) > len(table) {
		return nil
	}
	return table[i-1].Load()
}

func (o *ofMaps) elem([]byte, int) []byte { return nil }

// set takes the id of a map.
func (o *ofMaps) set(key, value []byte, flags uint64, _ int) syscall.Errno {
	inner, ok := ByID(binary.NativeEndian.Uint32(value))
	if !ok {
		if !o.hash {
			return refuseFD(key, flags, o.m.spec.MaxEntries)
		}
		return syscall.EBADF
	}
	defer inner.Close()
	return o.put(key, inner, flags)
}

func (o *ofMaps) put(key []byte, inner *Map, flags uint64) syscall.Errno {
	if !o.hash && flags != UpdateAny {
		return syscall.EINVAL
	}
	if !o.hash && index(key) >= o.m.spec.MaxEntries {
		return syscall.E2BIG
	}
	if !o.m.spec.Inner.accepts(&inner.spec) {
		return syscall.EINVAL
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.slot(key)
	i := o.add(inner.Retain())
	var v [4]byte
	binary.NativeEndian.PutUint32(v[:], i+1)
	if e := o.store.set(key, v[:], flags, 0); e != 0 {
		o.remove(i)
		return e
	}
	if old != 0 {
		o.remove(old - 1)
	}
	return 0
}

// slot returns the table index plus one under a key, 0 if there is none.
func (o *ofMaps) slot(key []byte) uint32 {
	if v := o.store.elem(key, 0); v != nil {
		return binary.NativeEndian.Uint32(v)
	}
	return 0
}

// add puts a map into the table. Readers keep using the old table while it grows.
func (o *ofMaps) add(inner *Map) uint32 {
	if n := len(o.free); n > 0 {
		i := o.free[n-1]
		o.free = o.free[:n-1]
		(*o.table.Load())[i].Store(inner)
		return i
	}
	old := *o.table.Load()
	grown := make([]atomic.Pointer[Map], max(8, 2*len(old)))
	for i := range old {
		grown[i].Store(old[i].Load())
	}
	for i := len(grown) - 1; i > len(old); i-- {
		o.free = append(o.free, uint32(i))
	}
	grown[len(old)].Store(inner)
	o.table.Store(&grown)
	return uint32(len(old))
}

func (o *ofMaps) remove(i uint32) {
	if inner := (*o.table.Load())[i].Swap(nil); inner != nil {
		inner.Release()
	}
	o.free = append(o.free, i)
}

func (o *ofMaps) unset(key []byte) syscall.Errno {
	if !o.hash && index(key) >= o.m.spec.MaxEntries {
		return syscall.E2BIG
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.slot(key)
	if i == 0 {
		return syscall.ENOENT
	}
	if o.hash {
		o.store.unset(key)
	} else {
		clear(o.store.elem(key, 0))
	}
	o.remove(i - 1)
	return 0
}

func (o *ofMaps) next(key, out []byte) syscall.Errno { return o.store.next(key, out) }

func (o *ofMaps) view(key, out []byte) syscall.Errno {
	inner := o.at(o.store.elem(key, 0))
	if inner == nil {
		return syscall.ENOENT
	}
	binary.NativeEndian.PutUint32(out, inner.id)
	return 0
}

func (o *ofMaps) dropUser() {}

func (o *ofMaps) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	table := *o.table.Load()
	for i := range table {
		if inner := table[i].Swap(nil); inner != nil {
			inner.Release()
		}
	}
}

// accepts reports whether a map may be put into a map whose pattern is p
// (bpf_map_meta_equal).
func (p *Spec) accepts(s *Spec) bool {
	const own = RdOnly | WrOnly // of who opened the map
	if p.Type != s.Type || p.KeySize != s.KeySize || p.ValueSize != s.ValueSize || p.Flags&^own != s.Flags&^own ||
		p.SpinLock != s.SpinLock || p.Timer != s.Timer {
		return false
	}
	switch p.Type {
	case Array:
		return p.Flags&InnerMap != 0 || p.MaxEntries == s.MaxEntries
	case XSKMap:
		return p.MaxEntries == s.MaxEntries
	}
	return true
}

// Inner returns the map under key of an array or hash of maps, nil if there is
// none: what a program's lookup gives. The caller gets no reference; holding the
// *Map keeps its memory mapped.
func (m *Map) Inner(key []byte) *Map {
	o, ok := m.store.(*ofMaps)
	if !ok || len(key) != int(m.spec.KeySize) {
		return nil
	}
	return o.at(o.store.elem(key, 0))
}

// PutMap stores a map in an array or hash of maps, which takes a reference on it.
func (m *Map) PutMap(key []byte, inner *Map, flags uint64) error {
	const op = "update"
	o, ok := m.store.(*ofMaps)
	switch {
	case !ok || inner == nil:
		return m.fail(op, syscall.EINVAL, "not a map of maps, or no map")
	case len(key) != int(m.spec.KeySize):
		return m.failKey(op, key)
	}
	if !m.spec.Inner.accepts(&inner.spec) {
		return m.fail(op, syscall.EINVAL, "inner map "+inner.spec.label()+" does not fit the pattern")
	}
	return m.result(op, o.put(key, inner, flags))
}
