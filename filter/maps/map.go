package maps

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"syscall"
)

// allCPUs in place of a CPU number says that a value holds one part per CPU.
const allCPUs = -1

// Map is a live map. Make one with New; see the package comment for memory and
// concurrency rules.
type Map struct {
	spec   Spec // as given, with sizes checked; never changes
	id     uint32
	vsize  uint32 // size of a value on the system call side
	store  store
	layout Layout
	refs   atomic.Int32
	users  atomic.Int32 // references by Go or a pin, not by programs
	frozen atomic.Bool
	onDrop atomic.Pointer[func([]byte)]
	tail   tailOwner // what kind of programs a program array takes

	regions []*region
}

// store is what one family of map types implements. Keys and values have the
// right length already. An errno of 0 is success.
type store interface {
	// elem returns the live value for a key, nil if there is none.
	elem(key []byte, cpu int) []byte
	// set stores a value; cpu is allCPUs when value has a part for each CPU.
	set(key, value []byte, flags uint64, cpu int) syscall.Errno
	unset(key []byte) syscall.Errno
	// next writes the key after key (nil: the first) to out.
	next(key, out []byte) syscall.Errno
}

// closer is implemented by stores that hold references on other objects.
type closer interface {
	// dropUser runs when the last user reference goes, drop when the last
	// reference of any kind goes.
	dropUser()
	drop()
}

// New creates a map as BPF_MAP_CREATE does and fails as it does: the error
// unwraps to the errno. The caller owns one reference and must Close it.
func New(spec Spec) (*Map, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	if spec.Budget == nil {
		spec.Budget = defaultBudget
	}
	if spec.CPUs <= 0 {
		spec.CPUs = NumCPU()
	}
	m := &Map{spec: spec, vsize: spec.userValueSize()}
	m.refs.Store(1)
	m.users.Store(1)
	if err := m.build(); err != nil {
		for _, r := range m.regions {
			r.free()
		}
		return nil, spec.fail("create", err, "")
	}
	register(m)
	// The mappings outlive the last reference until nobody can hold an address:
	// the collector decides, not Close.
	runtime.AddCleanup(m, reclaim, remains{m.id, m.regions})
	if err := m.fill(); err != nil {
		m.Close()
		return nil, err
	}
	if spec.Frozen {
		m.frozen.Store(true)
	}
	return m, nil
}

// remains are what is left of a map that nobody can reach any more.
type remains struct {
	id      uint32
	regions []*region
}

func reclaim(r remains) {
	ids.tab.Delete(r.id) // if it was never closed
	for _, x := range r.regions {
		x.free()
	}
}

// alloc adds a region that lives as long as the map.
func (m *Map) alloc(size uint64, whole bool) (*region, error) {
	r, err := newRegion(m.spec.Budget, size, whole)
	if err != nil {
		return nil, err
	}
	m.regions = append(m.regions, r)
	return r, nil
}

// fill stores the spec's initial contents.
func (m *Map) fill() error {
	for _, kv := range m.spec.Contents {
		var err error
		switch {
		case kv.Map != nil:
			err = m.PutMap(kv.Key, kv.Map, 0)
		case kv.Prog != nil:
			err = m.PutProg(kv.Key, kv.Prog, 0)
		default:
			err = m.update(kv.Key, kv.Value, 0)
		}
		if err != nil {
			return err
		}
	}
	m.spec.Contents = nil
	return nil
}

// Spec returns what the map was created from, without its contents.
func (m *Map) Spec() Spec { return m.spec }

// ID returns the map's number in this process, never 0.
func (m *Map) ID() uint32 { return m.id }

// Name returns the name, which may be empty.
func (m *Map) Name() string { return m.spec.Name }

// Type returns the map's type.
func (m *Map) Type() Type { return m.spec.Type }

// KeySize returns the size of a key in bytes; 0 for queues, stacks and filters.
func (m *Map) KeySize() int { return int(m.spec.KeySize) }

// ValueSize returns the size in bytes of one value as programs see it.
func (m *Map) ValueSize() int { return int(m.spec.ValueSize) }

// UserValueSize returns the size in bytes of a value on the system call side:
// on per-CPU maps one 8-byte-rounded value for each CPU.
func (m *Map) UserValueSize() int { return int(m.vsize) }

// MaxEntries returns the greatest number of elements; for ring buffers the
// number of bytes.
func (m *Map) MaxEntries() int { return int(m.spec.MaxEntries) }

// Flags returns the create flags.
func (m *Map) Flags() uint32 { return m.spec.Flags }

// CPUs returns how many CPU slots per-CPU elements have.
func (m *Map) CPUs() int { return m.spec.CPUs }

// Frozen reports whether the system call side may no longer write.
func (m *Map) Frozen() bool { return m.frozen.Load() }

// Layout says where the elements are in memory, for compiled code.
func (m *Map) Layout() Layout { return m.layout }

// Memory returns the number of bytes charged to the map's budget.
func (m *Map) Memory() int64 {
	var n int64
	for _, r := range m.regions {
		r.mu.Lock()
		n += int64(r.usable)
		r.mu.Unlock()
	}
	return n
}

// Hold adds a user reference: one that keeps a program array filled.
func (m *Map) Hold() *Map {
	m.refs.Add(1)
	m.users.Add(1)
	return m
}

// tryHold is Hold for callers that may race with the last Close.
func (m *Map) tryHold() bool {
	for {
		n := m.refs.Load()
		if n == 0 {
			return false
		}
		if m.refs.CompareAndSwap(n, n+1) {
			m.users.Add(1)
			return true
		}
	}
}

// Close drops a user reference. When the last one goes a program array is
// emptied and timers are cancelled even if programs still use the map, as in
// Linux; when the last reference of any kind goes, so does the map.
func (m *Map) Close() {
	if m.users.Add(-1) == 0 {
		m.dropAll()
		if c, ok := m.store.(closer); ok {
			c.dropUser()
		}
	}
	m.Release()
}

// Retain adds a reference on behalf of a loaded program or an outer map: it
// keeps the map, but not the contents of a program array.
func (m *Map) Retain() *Map {
	m.refs.Add(1)
	return m
}

// Release drops what Retain added.
func (m *Map) Release() {
	if m.refs.Add(-1) != 0 {
		return
	}
	unregister(m)
	if c, ok := m.store.(closer); ok {
		c.drop()
	}
}

// Preset stores an initial value whatever the map's access flags say, as a loader
// does before it hands the map out. On per-CPU maps a value of ValueSize bytes goes
// to every CPU.
func (m *Map) Preset(key, value []byte) error {
	if m.spec.Type.PerCPU() && len(value) == int(m.spec.ValueSize) {
		each := make([]byte, round8(m.spec.ValueSize))
		copy(each, value)
		value = bytes.Repeat(each, m.spec.CPUs)
	}
	return m.update(key, value, 0)
}
