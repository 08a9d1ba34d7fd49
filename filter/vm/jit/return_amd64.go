package jit

import "unsafe"

// SetReturn makes pc the return address of the function that the State is about to enter:
// on this machine it goes onto the native stack.
func (s *State) SetReturn(pc uint64) {
	s.SP -= 8
	*(*uint64)(unsafe.Add(unsafe.Pointer(s), s.SP-uint64(uintptr(unsafe.Pointer(s))))) = pc
}
