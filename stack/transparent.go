package stack

import (
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file lets a node end TCP connections that are not for itself, on behalf
// of whoever they are for: the base of a relay. Which packets that concerns is
// decided by a handler at Prerouting, which gives them to Terminate; nothing
// else on the node becomes more promiscuous.

// TCPRequest is a connection that somebody behind an interface wants to make.
// It must be ended with Accept or Refuse; until then the client waits.
type TCPRequest struct {
	Src, Dst netip.AddrPort
	req      *tcp.ForwarderRequest
}

// ServeTCP calls f, on a goroutine of its own, for each connection whose SYN
// was given to Terminate and that no socket of the node takes. At most
// inFlight may be undecided at a time; further SYNs are ignored then, and
// repeated by their senders. It is to be called once, before the first packet.
func (n *Node) ServeTCP(inFlight int, f func(*TCPRequest)) {
	fwd := tcp.NewForwarder(n.net, 0, inFlight, func(r *tcp.ForwarderRequest) {
		id := r.ID()
		f(&TCPRequest{
			Src: netip.AddrPortFrom(fromAddress(id.RemoteAddress), id.RemotePort),
			Dst: netip.AddrPortFrom(fromAddress(id.LocalAddress), id.LocalPort),
			req: r,
		})
	})
	n.net.SetTransportProtocolHandler(tcp.ProtocolNumber, fwd.HandlePacket)
}

// Refuse answers with a reset, or not at all.
func (r *TCPRequest) Refuse(reset bool) { r.req.Complete(reset) }

// Accept completes the handshake. It blocks until the client has answered or
// given up.
func (r *TCPRequest) Accept() (*TCPConn, error) {
	c := new(TCPConn)
	ep, err := r.req.CreateEndpoint(&c.queue)
	r.req.Complete(err != nil)
	if err != nil {
		return nil, errors.New("stack: " + err.String())
	}
	c.init(ep)
	return c, nil
}

// SetTransparent lets the node accept packets for, and send packets from, any
// address on an interface, when they are given to Terminate.
func (i *Interface) SetTransparent(on bool) error {
	id := tcpip.NICID(i.index)
	if err := i.node.net.SetPromiscuousMode(id, on); err != nil {
		return errors.New("stack: " + err.String())
	}
	if err := i.node.net.SetSpoofing(id, on); err != nil {
		return errors.New("stack: " + err.String())
	}
	return nil
}

// Terminate gives a network packet that came in at a transparent interface to
// the node's own transport layer, whoever it is addressed to. It takes the
// packet over.
func (n *Node) Terminate(ifindex int, p *packet.Packet) {
	i := n.byIndex(ifindex)
	if i == nil {
		n.drop(p, packet.RedirectFailed)
		return
	}
	f := hook.IPv4
	if p.Proto == packet.EtherIPv6 {
		f = hook.IPv6
	}
	i.deliver(p, f, i)
}

func fromAddress(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

// ErrWouldBlock says that a TCPConn has nothing to read, or no room to write;
// its Notify function is called when that changes.
var ErrWouldBlock = errors.New("stack: would block")

// TCPConn is a connection without blocking calls and without a goroutine, for
// event loops. Its methods may be called from any goroutine, each by one at a
// time.
type TCPConn struct {
	ep     tcpip.Endpoint
	queue  waiter.Queue
	entry  waiter.Entry
	notify atomic.Pointer[func()]
	closed atomic.Bool
}

func (c *TCPConn) init(ep tcpip.Endpoint) {
	c.ep = ep
	ep.SocketOptions().SetKeepAlive(true)
	c.entry = waiter.NewFunctionEntry(waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr, func(waiter.EventMask) {
		if f := c.notify.Load(); f != nil {
			(*f)()
		}
	})
	c.queue.EventRegister(&c.entry)
}

// Notify sets the function that is called when the connection may have become
// readable or writable, or has ended. It must return at once and must not call
// the connection.
func (c *TCPConn) Notify(f func()) { c.notify.Store(&f) }

// ReadTo writes what has been received to w, at most what w takes, and returns
// how much that was: ErrWouldBlock if there is nothing, io.EOF at the peer's
// end of data, ECONNRESET or another errno if the connection broke.
func (c *TCPConn) ReadTo(w io.Writer) (int, error) {
	r, err := c.ep.Read(w, tcpip.ReadOptions{})
	switch err.(type) {
	case nil:
		c.ep.ModerateRecvBuf(r.Count)
		return r.Count, nil
	case *tcpip.ErrWouldBlock:
		return 0, ErrWouldBlock
	case *tcpip.ErrClosedForReceive:
		return 0, io.EOF
	case *tcpip.ErrBadBuffer:
		return r.Count, ErrWouldBlock // w took nothing
	}
	return 0, connError(err)
}

// Payload is a reader that knows how much it has. *bytes.Reader is one.
type Payload interface {
	io.Reader
	Len() int
}

// WriteFrom sends what p has, as much as there is room for, and returns how
// much that was; ErrWouldBlock if there is no room.
func (c *TCPConn) WriteFrom(p Payload) (int, error) {
	n, err := c.ep.Write(p, tcpip.WriteOptions{})
	switch err.(type) {
	case nil:
		return int(n), nil
	case *tcpip.ErrWouldBlock:
		return int(n), ErrWouldBlock
	}
	return int(n), connError(err)
}

// Room is how many bytes WriteFrom would take now, roughly.
func (c *TCPConn) Room() int {
	if c.ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents == 0 {
		return 0
	}
	size := int(c.ep.SocketOptions().GetSendBufferSize())
	used, err := c.ep.GetSockOptInt(tcpip.SendQueueSizeOption)
	if err != nil {
		return size
	}
	return max(size-used, 0)
}

// CloseWrite ends the data in this direction (FIN).
func (c *TCPConn) CloseWrite() { _ = c.ep.Shutdown(tcpip.ShutdownWrite) }

// CloseRead says that nothing more will be read.
func (c *TCPConn) CloseRead() { _ = c.ep.Shutdown(tcpip.ShutdownRead) }

// Close ends the connection in order.
func (c *TCPConn) Close() {
	if !c.closed.Swap(true) {
		c.queue.EventUnregister(&c.entry)
		c.ep.Close()
	}
}

// Reset ends the connection with a reset.
func (c *TCPConn) Reset() {
	if !c.closed.Swap(true) {
		c.queue.EventUnregister(&c.entry)
		c.ep.Abort()
	}
}

func connError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	}
	return errors.New("stack: " + err.String())
}

// ConnectTCP starts a connection from src, which need not be an address of the
// node if the interface towards dst is transparent; port 0 chooses one. done is
// called once, from any goroutine, with the outcome.
func (n *Node) ConnectTCP(src, dst netip.AddrPort, done func(*TCPConn, error)) {
	c := new(TCPConn)
	ep, err := n.net.NewEndpoint(tcp.ProtocolNumber, protocolOf(dst.Addr()), &c.queue)
	if err != nil {
		done(nil, connError(err))
		return
	}
	if src.IsValid() {
		if err := ep.Bind(fullAddress(src)); err != nil {
			ep.Close()
			done(nil, connError(err))
			return
		}
	}
	var once atomic.Bool
	var entry waiter.Entry
	entry = waiter.NewFunctionEntry(waiter.WritableEvents|waiter.EventHUp|waiter.EventErr, func(waiter.EventMask) {
		if once.Swap(true) {
			return
		}
		// Not here: the callback runs with the endpoint's locks held.
		go func() {
			c.queue.EventUnregister(&entry)
			if err := ep.LastError(); err != nil {
				ep.Close()
				done(nil, connError(err))
				return
			}
			c.init(ep)
			done(c, nil)
		}()
	})
	c.queue.EventRegister(&entry)
	switch err := ep.Connect(fullAddress(dst)); err.(type) {
	case nil, *tcpip.ErrConnectStarted:
	default:
		if !once.Swap(true) {
			c.queue.EventUnregister(&entry)
			ep.Close()
			done(nil, connError(err))
		}
	}
}
