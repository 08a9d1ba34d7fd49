package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openPTY opens a pair of pseudo-terminals (pts(4)).
func openPTY(size WindowSize) (ptmx, tty *os.File, err error) {
	ptmx, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("lab: terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		ptmx.Close()
		return nil, nil, fmt.Errorf("lab: terminal: %w", err)
	}
	if size.Rows > 0 {
		_ = setSize(ptmx, size)
	}
	return ptmx, tty, nil
}

func setSize(f *os.File, s WindowSize) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ioctl error
	err = rc.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	})
	if err != nil {
		return err
	}
	return ioctl
}
