package rdma

import (
	"fmt"
	"syscall"
)

// Error is what a verb returns: the errno libibverbs would give, and why. It
// unwraps to the errno, so errors.Is(err, syscall.EINVAL) works.
type Error struct {
	Verb  string        // the operation, as verbs name it: "modify_qp"
	Errno syscall.Errno // its errno
	Text  string        // what was wrong, naming numbers and limits
}

// Error returns, for example,
// "rdma: modify_qp: qp 0x11: RTR needs PATH_MTU (invalid argument)".
func (e *Error) Error() string {
	return fmt.Sprintf("rdma: %s: %s (%v)", e.Verb, e.Text, e.Errno)
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

func fail(verb string, errno syscall.Errno, format string, args ...any) error {
	return &Error{verb, errno, fmt.Sprintf(format, args...)}
}

func invalid(verb, format string, args ...any) error {
	return fail(verb, syscall.EINVAL, format, args...)
}
