package maps

import "syscall"

type tailOwner struct{}

// PutProg stores a program under key.
func (m *Map) PutProg(key []byte, p Prog, flags uint64) error {
	return m.fail("update", syscall.EINVAL, "")
}

// PutMap stores an inner map under key.
func (m *Map) PutMap(key []byte, inner *Map, flags uint64) error {
	return m.fail("update", syscall.EINVAL, "")
}
