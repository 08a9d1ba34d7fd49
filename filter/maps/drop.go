package maps

// dropped tells the runner that a value has left the map, for timers in it.
func (m *Map) dropped(value []byte) {
	if f := m.onDrop.Load(); f != nil {
		(*f)(value)
	}
}

// OnDrop sets a function that is called with each value that leaves the map, while
// it is still intact: it was deleted, replaced or evicted, or the map's last user
// reference has gone, in which case it may be called again for the same value. It must
// not call the map. The runner cancels timers there.
func (m *Map) OnDrop(f func(value []byte)) { m.onDrop.Store(&f) }

// InUse reports whether Go or a pin still has a reference. Without one, a map that
// programs keep takes no timers (bpf_timer_init).
func (m *Map) InUse() bool { return m.users.Load() > 0 }

// dropAll drops every value, as Linux does with timers when the last user
// reference goes.
func (m *Map) dropAll() {
	w, ok := m.store.(walker)
	if !ok || m.spec.Timer == 0 || m.onDrop.Load() == nil {
		return
	}
	w.walk(0, func(_, value []byte) bool {
		m.dropped(value)
		return true
	})
}
