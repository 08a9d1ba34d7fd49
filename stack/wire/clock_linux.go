package wire

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// timerFD is an alarm on a timerfd(2), waited for in the runtime's poller: it
// is as exact as the kernel's high-resolution timers and costs one goroutine,
// which ends when the descriptor is closed.
type timerFD struct {
	clock Clock
	file  *os.File
	conn  syscall.RawConn
}

func newTimerFD(c Clock, ring func()) (Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("wire: timerfd: %w", err)
	}
	a := &timerFD{clock: c, file: os.NewFile(uintptr(fd), "timerfd")}
	if a.conn, err = a.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("wire: timerfd: %w", err)
	}
	go func() {
		var expirations [8]byte
		for {
			if _, err := a.file.Read(expirations[:]); err != nil {
				return
			}
			ring()
		}
	}()
	return a, nil
}

// Set arms the timer relative to now; a time of zero would disarm it. On a
// closed alarm it does nothing.
func (a *timerFD) Set(at int64) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at-a.clock.Now()))}
	_ = a.conn.Control(func(fd uintptr) { _ = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
}

func (a *timerFD) Close() { _ = a.file.Close() }
