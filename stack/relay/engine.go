package relay

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engine does all the copying, with two goroutines. One waits for host sockets
// (epoll, edge triggered, the set itself in the runtime's poller: no thread of
// its own sleeps in it); the other takes the flows that netstack has woken, so
// that it runs right behind netstack's goroutine, without a system call to wake
// anybody. A flow sees calls of both, see tcpFlow.
type engine struct {
	epoll, wake int
	set         *os.File // owns epoll
	conn        syscall.RawConn
	buf         []byte   // for what comes from host sockets
	again       []source // had more than their turn; the first goroutine's
	done        chan struct{}
	ended       sync.WaitGroup
	tick        func()
	posted      chan struct{} // holds a token while ready is not empty

	mu      sync.Mutex // guards what follows
	socks   map[int32]source
	ready   []source
	closing bool
}

// source is a flow with a host socket. Its methods run on the engine.
type source interface {
	// event tells of epoll events; 0 means that the other side has something,
	// and comes on the second goroutine.
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
	e := &engine{epoll: ep, wake: wake, socks: make(map[int32]source), buf: make([]byte, bufferSize),
		done: make(chan struct{}), tick: tick, posted: make(chan struct{}, 1)}
	fail := func(call string, err error) (*engine, error) {
		_ = unix.Close(ep)
		_ = unix.Close(wake)
		return nil, fmt.Errorf("relay: %w", os.NewSyscallError(call, err))
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}); err != nil {
		return fail("epoll_ctl", err)
	}
	if err := unix.SetNonblock(ep, true); err != nil { // or the runtime would not poll it
		return fail("fcntl", err)
	}
	e.set = os.NewFile(uintptr(ep), "epoll")
	if e.conn, err = e.set.SyscallConn(); err != nil {
		return fail("epoll_create1", err)
	}
	e.ended.Add(2)
	go e.run()
	go e.serve()
	go func() {
		e.ended.Wait()
		close(e.done)
	}()
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
	select {
	case e.posted <- struct{}{}:
	default:
	}
}

// serve is the second goroutine.
func (e *engine) serve() {
	defer e.ended.Done()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var batch []source
	for {
		select {
		case <-e.posted:
		case <-ticker.C:
			e.tick()
		}
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
	}
}

// run is the first goroutine.
func (e *engine) run() {
	defer e.ended.Done()
	events := make([]unix.EpollEvent, 256)
	var n int
	look := func(uintptr) bool {
		n, _ = unix.EpollWait(e.epoll, events, 0)
		return n > 0 || len(e.again) > 0
	}
	for {
		n = 0
		if err := e.conn.Read(look); err != nil {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			if int(ev.Fd) == e.wake {
				return // closing
			}
			e.mu.Lock()
			s := e.socks[ev.Fd]
			e.mu.Unlock()
			if s != nil {
				s.event(ev.Events)
			}
		}
		again := e.again
		e.again = nil
		for _, s := range again {
			s.event(unix.EPOLLIN)
		}
	}
}

// later gives a source that had its turn another one. It is for events of the
// first goroutine.
func (e *engine) later(s source) { e.again = append(e.again, s) }

// close ends the engine and returns when it has ended. Sockets that are still
// watched are returned, for their owners to close.
func (e *engine) close() []source {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	_, _ = unix.Write(e.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	select {
	case e.posted <- struct{}{}:
	default:
	}
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	var left []source
	for _, s := range e.socks {
		left = append(left, s)
	}
	_ = e.set.Close()
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
