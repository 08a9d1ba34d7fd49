//go:build !amd64

package jit

// SetReturn makes pc the return address of the function that the State is about to enter:
// it goes into the link register.
func (s *State) SetReturn(pc uint64) { s.Regs[11] = pc }
