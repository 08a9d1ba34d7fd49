package maps

import (
	"fmt"
	"syscall"
)

// ENOTSUPP is the kernel's internal "not supported" (524), which some map
// commands let through to user space. It is not EOPNOTSUPP (95).
const ENOTSUPP = syscall.Errno(524)

// Error is the failure of a map operation. It unwraps to the errno that bpf(2)
// would have returned.
type Error struct {
	Op    string // "create", "lookup", "update", ...
	Map   string // name, or type if it has none
	Why   string // one clause, may be empty
	Errno syscall.Errno
}

func (e *Error) Error() string {
	s := fmt.Sprintf("maps: %s %s: ", e.Op, e.Map)
	if e.Why != "" {
		s += e.Why + ": "
	}
	return s + ErrnoText(e.Errno)
}

// Unwrap lets errors.Is(err, unix.EINVAL) work.
func (e *Error) Unwrap() error { return e.Errno }

// ErrnoText names an errno, including the kernel's internal ones.
func ErrnoText(e syscall.Errno) string {
	if e == ENOTSUPP {
		return "operation not supported (ENOTSUPP)"
	}
	return e.Error()
}
