package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Forward makes a port of the host lead to one of the container's.
type Forward struct {
	Proto   string         `json:"proto"` // "tcp" or "udp"
	Host    netip.AddrPort `json:"host"`  // where to listen; an unspecified address is all of its version
	Device  string         `json:"device,omitempty"`
	Guest   netip.AddrPort `json:"guest"`
	ID      int            `json:"id"`
	Gateway netip.Addr     `json:"gateway"` // stands for clients on the host's loopback
	// Shut keeps the port but accepts nothing (TCP) until ShutForward opens it.
	Shut bool `json:"shut,omitempty"`
}

// The errors of forwards.
var (
	ErrNoForward = errors.New("relay: no such forward")
	errProto     = errors.New("relay: protocol is neither tcp nor udp")
)

// maxForwards bounds how many forwards a relay has; each is a host socket.
const maxForwards = 4096

type forwardTable struct {
	mu     sync.Mutex
	last   int
	all    []*forward
	byBack map[netip.AddrPort][]*forward // UDP forwards, by the container's port
}

// forward is a Forward at work.
type forward struct {
	Forward
	r  *Relay
	fd int

	mu      sync.Mutex // guards clients
	clients map[netip.AddrPort]*client
}

// client is a peer of a UDP forward: its address as the container sees it
// leads to its real one.
type client struct {
	real netip.AddrPort
	used time.Time
}

// maxClients bounds the peers of one UDP forward.
const maxClients = 4096

// AddForward opens a port of the host. From then on what comes there goes to
// the container, with its source address kept; clients on the host's own
// loopback appear as Forward.Gateway.
func (r *Relay) AddForward(f Forward) (Forward, error) {
	if f.Proto != "tcp" && f.Proto != "udp" {
		return f, fmt.Errorf("%w: %q", errProto, f.Proto)
	}
	t := &r.forwards
	t.mu.Lock()
	for _, w := range t.all {
		if f.Host.Port() != 0 && w.Proto == f.Proto && w.Host == f.Host && w.Device == f.Device {
			t.mu.Unlock()
			return f, fmt.Errorf("relay: forward %s %v: %w", f.Proto, f.Host, unix.EADDRINUSE)
		}
	}
	t.mu.Unlock()
	fd, bound, err := listen(f)
	if err != nil {
		return f, fmt.Errorf("relay: forward %s %v: %w", f.Proto, f.Host, err)
	}
	f.Host = bound
	w := &forward{Forward: f, r: r, fd: fd, clients: make(map[netip.AddrPort]*client)}
	t.mu.Lock()
	if len(t.all) >= maxForwards {
		t.mu.Unlock()
		_ = unix.Close(fd)
		return f, fmt.Errorf("relay: there are %d forwards already", maxForwards)
	}
	t.last++
	w.ID = t.last
	t.all = append(t.all, w)
	if f.Proto == "udp" {
		if t.byBack == nil {
			t.byBack = make(map[netip.AddrPort][]*forward)
		}
		t.byBack[f.Guest] = append(t.byBack[f.Guest], w)
	}
	t.mu.Unlock()
	if err := r.eng.add(fd, w, unix.EPOLLIN); err != nil {
		_ = r.RemoveForward(w.ID)
		return f, err
	}
	return w.Forward, nil
}

// RemoveForward closes a host port. Connections that came by it live on.
func (r *Relay) RemoveForward(id int) error {
	t := &r.forwards
	t.mu.Lock()
	k := slices.IndexFunc(t.all, func(w *forward) bool { return w.ID == id })
	if k < 0 {
		t.mu.Unlock()
		return fmt.Errorf("%w: %d", ErrNoForward, id)
	}
	w := t.all[k]
	t.all = slices.Delete(t.all, k, k+1)
	if w.Proto == "udp" {
		t.byBack[w.Guest] = slices.DeleteFunc(t.byBack[w.Guest], func(o *forward) bool { return o == w })
	}
	t.mu.Unlock()
	r.eng.remove(w.fd)
	return nil
}

// ShutForward stops a TCP forward from accepting, or lets it go on. The port
// stays taken either way.
func (r *Relay) ShutForward(id int, shut bool) error {
	t := &r.forwards
	t.mu.Lock()
	defer t.mu.Unlock()
	k := slices.IndexFunc(t.all, func(w *forward) bool { return w.ID == id })
	if k < 0 {
		return fmt.Errorf("%w: %d", ErrNoForward, id)
	}
	w := t.all[k]
	if w.Proto != "tcp" || w.Shut == shut {
		return nil
	}
	var err error
	if shut { // Linux takes a listening socket back to being bound
		err = os.NewSyscallError("shutdown", unix.Shutdown(w.fd, unix.SHUT_RD))
	} else {
		err = os.NewSyscallError("listen", unix.Listen(w.fd, 1024))
	}
	if err != nil {
		return fmt.Errorf("relay: forward %s %v: %w", w.Proto, w.Host, err)
	}
	w.Shut = shut
	return nil
}

// Forwards lists the forwards by number.
func (r *Relay) Forwards() []Forward {
	t := &r.forwards
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Forward, 0, len(t.all))
	for _, w := range t.all {
		out = append(out, w.Forward)
	}
	return out
}

func (t *forwardTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.all {
		w.r.eng.remove(w.fd)
	}
	t.all, t.byBack = nil, nil
}

// listen opens the host's socket.
func listen(f Forward) (int, netip.AddrPort, error) {
	kind := unix.SOCK_STREAM
	if f.Proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain(f.Host.Addr()), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, f.Host, os.NewSyscallError("socket", err)
	}
	fail := func(call string, err error) (int, netip.AddrPort, error) {
		_ = unix.Close(fd)
		return -1, f.Host, os.NewSyscallError(call, err)
	}
	if f.Host.Addr().Is6() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if f.Proto == "tcp" {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if f.Device != "" {
		if err := unix.BindToDevice(fd, f.Device); err != nil {
			return fail("bind to "+f.Device, err)
		}
	}
	if err := unix.Bind(fd, sockaddr(f.Host)); err != nil {
		return fail("bind", err)
	}
	if f.Proto == "tcp" && f.Host.Port() == 0 {
		// Linux lets go of a port of its own choice when listening ends.
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return fail("getsockname", err)
		}
		_ = unix.Close(fd)
		f.Host = fromSockaddr(sa)
		return listen(f)
	}
	if f.Proto == "tcp" {
		// A shut port listens for a moment too: only so can it be seen that
		// nobody else does.
		if err := unix.Listen(fd, 1024); err != nil {
			return fail("listen", err)
		}
		if f.Shut {
			if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
				return fail("shutdown", err)
			}
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fail("getsockname", err)
	}
	return fd, fromSockaddr(sa), nil
}

// event implements source: a connection or a datagram has come.
func (w *forward) event(uint32) {
	for range 256 {
		var err error
		if w.Proto == "tcp" {
			err = w.accept()
		} else {
			err = w.receive()
		}
		switch err {
		case nil, unix.EINTR, unix.ECONNABORTED:
		default:
			return
		}
	}
	w.r.eng.later(w)
}

// seenAs is a client's address as the container is to see it. The host itself
// is the gateway: its loopback means something else inside, and its address may
// be the container's too.
func (w *forward) seenAs(a netip.AddrPort) netip.AddrPort {
	if (a.Addr().IsLoopback() || a.Addr() == w.Guest.Addr()) && w.Gateway.IsValid() {
		return netip.AddrPortFrom(w.Gateway, a.Port())
	}
	return a
}

// accept takes one connection and makes the one inside. A refusal inside
// becomes a reset outside.
func (w *forward) accept() error {
	fd, sa, err := unix.Accept4(w.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	from := w.seenAs(fromSockaddr(sa))
	w.r.mu.Lock()
	full := len(w.r.tcp) >= w.r.conf.Limits.TCP || w.r.closed
	w.r.mu.Unlock()
	if full {
		w.r.stats.refusedLimit.Add(1)
		resetSocket(fd)
		return nil
	}
	w.r.node.ConnectTCP(from, w.Guest, func(c *stack.TCPConn, err error) {
		if err != nil {
			resetSocket(fd)
			return
		}
		w.r.splice(c, fd, from, w.Guest, true)
	})
	return nil
}

func resetSocket(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// receive takes one datagram to the container.
func (w *forward) receive() error {
	n, sa, err := unix.Recvfrom(w.fd, w.r.eng.buf, unix.MSG_DONTWAIT)
	if err != nil {
		return err
	}
	real := fromSockaddr(sa)
	seen := w.seenAs(real)
	now := w.r.conf.Now()
	w.mu.Lock()
	if c := w.clients[seen]; c != nil {
		c.real, c.used = real, now
	} else {
		if len(w.clients) >= maxClients {
			w.evictLocked()
		}
		w.clients[seen] = &client{real, now}
	}
	w.mu.Unlock()
	_ = w.r.node.Send(datagram(seen, w.Guest, w.r.eng.buf[:n], 0))
	return nil
}

// evictLocked makes room: the client idle longest goes.
func (w *forward) evictLocked() {
	var oldest netip.AddrPort
	var t time.Time
	for a, c := range w.clients {
		if t.IsZero() || c.used.Before(t) {
			oldest, t = a, c.used
		}
	}
	delete(w.clients, oldest)
}

// reply sends a datagram of the container's to the client of a forward, if it
// is an answer to one. It takes the packet over then.
func (t *forwardTable) reply(p *hook.Packet, l4 int, k flowKey) bool {
	t.mu.Lock()
	list := t.byBack[k.src]
	t.mu.Unlock()
	for _, w := range list {
		w.mu.Lock()
		c := w.clients[k.dst]
		var to netip.AddrPort
		if c != nil {
			c.used = w.r.conf.Now()
			to = c.real
		}
		w.mu.Unlock()
		if c == nil {
			continue
		}
		p.Linearize()
		size := int(p.GSO.Size)
		for b := p.Head()[l4+8:]; ; {
			part := b
			if p.GSO.Type == packet.GSOUDP && len(b) > size {
				part = b[:size]
			}
			_ = unix.Sendto(w.fd, part, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sockaddr(to))
			if b = b[len(part):]; len(b) == 0 {
				break
			}
		}
		p.Release()
		return true
	}
	return false
}
