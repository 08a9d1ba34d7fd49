package relay

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// engine is the one goroutine that waits for host sockets (epoll, edge
// triggered) and for flows that netstack has woken, and does the copying.
type engine struct {
	epoll, wake int
	buf         []byte // for copies: only the engine uses it
	done        chan struct{}
	tick        func()

	mu       sync.Mutex // guards what follows
	socks    map[int32]source
	ready    []source
	closing  bool
	sleeping atomic.Bool
}

// source is a flow with a host socket. Its methods run on the engine.
type source interface {
	// event tells of epoll events; 0 means that the other side has something.
	event(ev uint32)
}

const bufferSize = 256 << 10

func newEngine(tick func()) (*engine, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", os.NewSyscallError("epoll_create1", err))
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("relay: %w", os.NewSyscallError("eventfd", err))
	}
	e := &engine{epoll: ep, wake: wake, socks: make(map[int32]source), buf: make([]byte, bufferSize), done: make(chan struct{}), tick: tick}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}); err != nil {
		_ = unix.Close(ep)
		_ = unix.Close(wake)
		return nil, fmt.Errorf("relay: %w", os.NewSyscallError("epoll_ctl", err))
	}
	go e.run()
	return e, nil
}

// add lets the engine watch a socket.
func (e *engine) add(fd int, s source, events uint32) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return unix.ECANCELED
	}
	e.socks[int32(fd)] = s
	err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)})
	if err != nil {
		delete(e.socks, int32(fd))
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// remove stops watching a socket and closes it.
func (e *engine) remove(fd int) {
	e.mu.Lock()
	delete(e.socks, int32(fd))
	e.mu.Unlock()
	_ = unix.Close(fd) // takes it out of the epoll set
}

// post lets the engine call s.event(0) soon. It may be called from anywhere.
func (e *engine) post(s source) {
	e.mu.Lock()
	e.ready = append(e.ready, s)
	e.mu.Unlock()
	if e.sleeping.Load() {
		e.kick()
	}
}

func (e *engine) kick() {
	one := [8]byte{1}
	_, _ = unix.Write(e.wake, one[:])
}

func (e *engine) run() {
	defer close(e.done)
	events := make([]unix.EpollEvent, 256)
	var batch []source
	last := time.Now()
	for {
		e.mu.Lock()
		e.ready, batch = batch[:0], e.ready
		closing := e.closing
		e.mu.Unlock()
		if closing {
			return
		}
		for i, s := range batch {
			batch[i] = nil
			s.event(0)
		}
		e.wait(events)
		if now := time.Now(); now.Sub(last) >= time.Second {
			last = now
			e.tick()
		}
	}
}

// wait handles what epoll has, sleeping only if no flow is ready.
func (e *engine) wait(events []unix.EpollEvent) {
	timeout := 1000
	e.sleeping.Store(true)
	e.mu.Lock()
	if len(e.ready) > 0 || e.closing {
		timeout = 0
	}
	e.mu.Unlock()
	n, err := unix.EpollWait(e.epoll, events, timeout)
	e.sleeping.Store(false)
	if err != nil {
		return // EINTR: the next round will do
	}
	for _, ev := range events[:n] {
		if int(ev.Fd) == e.wake {
			var b [8]byte
			_, _ = unix.Read(e.wake, b[:])
			continue
		}
		e.mu.Lock()
		s := e.socks[ev.Fd]
		e.mu.Unlock()
		if s != nil {
			s.event(ev.Events)
		}
	}
}

// close ends the engine and returns when it has ended. Sockets that are still
// watched are returned, for their owners to close.
func (e *engine) close() []source {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	e.kick()
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	var left []source
	for _, s := range e.socks {
		left = append(left, s)
	}
	_ = unix.Close(e.epoll)
	_ = unix.Close(e.wake)
	return left
}

// forget stops watching a socket, which stays open.
func (e *engine) forget(fd int) {
	e.mu.Lock()
	delete(e.socks, int32(fd))
	e.mu.Unlock()
	_ = unix.EpollCtl(e.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}
