package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WatchPID returns a channel that is closed when a process has ended.
func WatchPID(ctx context.Context, pid int) (<-chan struct{}, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("guest: process %d: %w", pid, err)
	}
	return WatchFile(ctx, os.NewFile(uintptr(fd), "pidfd")), nil
}

// WatchFile returns a channel that is closed when a descriptor shows any
// event: a pipe has hung up, a process has ended. It takes the file over.
func WatchFile(ctx context.Context, f *os.File) <-chan struct{} {
	done := make(chan struct{})
	wake, _ := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	go func() {
		defer unix.Close(wake)
		defer stop()
		defer f.Close()
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN | unix.POLLHUP}, {Fd: int32(wake), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err == unix.EINTR {
				continue
			}
			break
		}
		if fds[0].Revents != 0 {
			close(done)
		}
	}()
	return done
}

// WatchPath returns a channel that is closed when the file at a path is no
// longer the one that it is now: a namespace that was bound there has been
// removed.
func WatchPath(ctx context.Context, path string) (<-chan struct{}, error) {
	var first unix.Stat_t
	if err := unix.Stat(path, &first); err != nil {
		return nil, fmt.Errorf("guest: %s: %w", path, err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("guest: inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("guest: inotify: %s: %w", filepath.Dir(path), err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	done := make(chan struct{})
	go func() {
		defer stop()
		defer f.Close()
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			var now unix.Stat_t
			if err := unix.Stat(path, &now); errors.Is(err, unix.ENOENT) || err == nil && (now.Ino != first.Ino || now.Dev != first.Dev) {
				close(done)
				return
			}
		}
	}()
	return done, nil
}
