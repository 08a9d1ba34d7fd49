package maps

// dropped tells the runner that a value has left the map, for timers in it.
func (m *Map) dropped(value []byte) {
	if f := m.onDrop.Load(); f != nil {
		(*f)(value)
	}
}

// OnDrop sets a function that is called with each value that leaves the map, while
// it is still intact; it must not call the map. The runner cancels timers there.
func (m *Map) OnDrop(f func(value []byte)) { m.onDrop.Store(&f) }
