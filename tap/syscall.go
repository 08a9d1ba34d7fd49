package tap

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The wrappers of package unix for readv and writev allocate, so these are
// our own, and they do not tell the scheduler (RawSyscall): a call carries at
// most one super-frame through the kernel and never sleeps, since descriptors
// are non-blocking. With Syscall the scheduler takes the processor away from
// every call of more than 20 us and gives it back afterwards; that cost 20 %
// of all CPU time per bit.

func vector(b []byte) (v unix.Iovec) {
	if len(b) > 0 {
		v.Base = &b[0]
	}
	v.SetLen(len(b))
	return v
}

func readv(fd int, bufs *[2][]byte) (int, error) {
	iov := [2]unix.Iovec{vector(bufs[0]), vector(bufs[1])}
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 2)
	if errno != 0 {
		return 0, errnoError(errno)
	}
	return int(n), nil
}

func writev(fd int, bufs [][]byte) error {
	var iov [8]unix.Iovec
	for i, b := range bufs {
		iov[i] = vector(b)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov)), uintptr(len(bufs)))
	if errno != 0 {
		return errnoError(errno)
	}
	return nil
}

func write(fd int, b []byte) error {
	if len(b) == 0 {
		return unix.EINVAL
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return errnoError(errno)
	}
	return nil
}

// errnoError keeps the usual outcome from being boxed each time.
func errnoError(e unix.Errno) error {
	if e == unix.EAGAIN {
		return errAgain
	}
	return e
}

var errAgain error = unix.EAGAIN
