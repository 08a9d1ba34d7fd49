package maps

import "syscall"

// build makes the store for the map's type; its size was checked.
func (m *Map) build() (err error) {
	switch m.spec.Type {
	case Array, PerCPUArray:
		m.store, err = newArray(m)
	default:
		err = syscall.EOPNOTSUPP
	}
	return err
}
