package maps

import "syscall"

// Elem returns the live value under key for a program on a CPU slot: what
// bpf_map_lookup_elem (and, with another CPU, bpf_map_lookup_percpu_elem) does.
// The slice is the element's memory; it stays valid memory as long as the Map is
// reachable, and stays this element's as long as the element is in the map.
//
// On arrays and hashes of maps the value is the inner map's id; see Inner.
// Elem of a queue, stack, ring buffer or program array finds nothing.
func (m *Map) Elem(key []byte, cpu int) (value []byte, ok bool) {
	if len(key) != int(m.spec.KeySize) || uint(cpu) >= uint(m.spec.CPUs) {
		return nil, false
	}
	value = m.store.elem(key, cpu)
	return value, value != nil
}

// Set is bpf_map_update_elem: on per-CPU maps it writes the value of cpu only.
// It returns 0 or the errno that the helper returns negated.
func (m *Map) Set(key, value []byte, flags uint64, cpu int) syscall.Errno {
	if len(key) != int(m.spec.KeySize) || len(value) != int(m.spec.ValueSize) || uint(cpu) >= uint(m.spec.CPUs) {
		return syscall.EINVAL
	}
	if flags&FlagLock != 0 && m.spec.SpinLock == 0 {
		return syscall.EINVAL
	}
	return m.store.set(key, value, flags, cpu)
}

// Unset is bpf_map_delete_elem.
func (m *Map) Unset(key []byte) syscall.Errno {
	if len(key) != int(m.spec.KeySize) {
		return syscall.EINVAL
	}
	return m.store.unset(key)
}
