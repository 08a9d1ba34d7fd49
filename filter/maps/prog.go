package maps

// Prog is a runnable program as program arrays hold it. The implementation is
// the runner's; maps only counts it and hands it back.
type Prog interface {
	// ID identifies the program for the system call side; never 0.
	ID() uint32
	// TailType says with which other programs it may share an array: all
	// programs in an array must return the same value (Linux compares type,
	// attach type, and whether they are compiled).
	TailType() uint64
	// Entry is the address that compiled code jumps to for a tail call, 0 if
	// the program is not compiled.
	Entry() uintptr
	// Hold and Release count the array's reference.
	Hold()
	Release()
}
