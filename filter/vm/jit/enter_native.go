//go:build amd64 || arm64

package jit

// enter runs native code from s.Resume on until it comes back. In assembly.
//
//go:noescape
func enter(s *State)

// Supported says that this machine runs what the compilers emit.
const Supported = true

// Enter runs native code until it exits and returns the exit code. Native code itself
// cannot be stopped by the collector; its callers' prologues can.
func Enter(s *State) uint64 {
	s.Exit = Done
	enter(s)
	return s.Exit
}
