package cm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"taproom/rdma"
	"taproom/rdma/roce"
)

// ConnOptions are what a program may choose about a connection. The zero value
// is rdma_cm's usual.
type ConnOptions struct {
	Private        []byte // for the other program
	RespResources  uint8  // READs and atomics we take at once; 1 if zero
	InitiatorDepth uint8  // and ask for at once; 1 if zero
	RetryCount     uint8  // 7 if zero
	RNRRetry       uint8  // 7, for ever, if zero
	AckTimeout     uint8  // code; 19 if zero (Dial)
	Access         rdma.Access
	LocalPort      uint16 // of the program; any if zero (Dial)
}

func (o *ConnOptions) fill() {
	for _, f := range []struct {
		p *uint8
		v uint8
	}{{&o.RespResources, 1}, {&o.InitiatorDepth, 1}, {&o.RetryCount, 7}, {&o.RNRRetry, 7}, {&o.AckTimeout, 19}} {
		if *f.p == 0 {
			*f.p = f.v
		}
	}
}

// RejectedError is what Dial returns when the peer says no.
type RejectedError struct {
	Reason  Reason
	Private []byte // from the program that refused, with ReasonConsumer
}

// Error names the reason.
func (e *RejectedError) Error() string { return "cm: rejected: " + e.Reason.String() }

// Errors of Dial, Accept and the lookups.
var (
	ErrUnreachable = errors.New("cm: the peer does not answer")
	ErrNoAddress   = errors.New("cm: the device has no address of this kind")
)

// Prepare takes a queue pair from RESET to INIT, where receives can be posted, as
// rdma_create_qp does. It may be left out, and is not needed again after a
// failed Dial whose queue pair has been reset, unless there are receives to post.
func Prepare(qp *rdma.QP, access rdma.Access) error {
	return qp.Modify(&rdma.QPAttr{State: rdma.Init, PortNum: 1, Access: access}, rdma.AttrState|rdma.AttrPKeyIndex|rdma.AttrPort|rdma.AttrAccess)
}

// Link is a connection with its queue pair in RTS. When it ends, the queue pair
// goes to ERR and what is posted flushes.
type Link struct {
	QP      *rdma.QP
	Conn    *Conn
	Private []byte // what the other program sent along, at the full length of its message

	ready chan error // the outcome of the making
	done  chan struct{}
	once  sync.Once
}

// Done is closed when the connection is over.
func (l *Link) Done() <-chan struct{} { return l.done }

// Disconnect ends the connection and waits until it is over.
func (l *Link) Disconnect(ctx context.Context) error {
	if err := l.Conn.Disconnect(nil); err != nil {
		return err
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newLink(qp *rdma.QP) *Link {
	return &Link{QP: qp, ready: make(chan error, 1), done: make(chan struct{})}
}

// end is called once the connection is closed.
func (l *Link) end(err error) {
	l.once.Do(func() {
		select {
		case l.ready <- err:
		default:
		}
		_ = l.QP.Modify(&rdma.QPAttr{State: rdma.Err}, rdma.AttrState)
		close(l.done)
	})
}

// handle is the handler of the connection's events.
func (l *Link) handle(c *Conn, e Event, replied func(*Conn) error) {
	switch e.Type {
	case RepliedTo:
		l.Private = e.Private
		err := replied(c)
		if err == nil {
			err = c.Ready(nil)
		}
		if err != nil {
			_ = c.Reject(ReasonConsumer, nil)
			l.end(err)
			return
		}
		l.ready <- nil
	case Connected:
		l.ready <- nil
	case Rejected:
		l.end(&RejectedError{e.Reason, e.Private})
	case Unreachable:
		l.end(ErrUnreachable)
	case Disconnected:
		l.end(ErrUnreachable)
	}
}

// wait waits for the outcome; if ctx ends first the attempt is given up.
func (l *Link) wait(ctx context.Context) (*Link, error) {
	select {
	case err := <-l.ready:
		if err != nil {
			return nil, err
		}
		return l, nil
	case <-ctx.Done():
		_ = l.Conn.Disconnect(nil)
		return nil, ctx.Err()
	}
}

// local returns the device's address for talking to another one, and its GID
// index.
func (e *Endpoint) local(to netip.Addr) (netip.Addr, int, error) {
	to = to.Unmap()
	for i, g := range e.dev.GIDs() {
		a := g.Addr()
		if !g.IsZero() && a.Is4() == to.Is4() && a.IsLinkLocalUnicast() == to.IsLinkLocalUnicast() {
			return a, i, nil
		}
	}
	return netip.Addr{}, 0, fmt.Errorf("%w: %s, to talk to %v", ErrNoAddress, e.dev.Name(), to)
}

// ephemeral returns a port for a program that does not care.
func (e *Endpoint) ephemeral() uint16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.port == 0 {
		e.port = uint16(rand.Uint32N(1 << 14))
	}
	e.port = 0xc000 | (e.port+1)&0x3fff
	return e.port
}

// Dial connects an RC or UC queue pair in RESET or INIT with a service of rdma_cm (port
// space TCP), as rdma_connect does, and takes it to RTS.
func (e *Endpoint) Dial(ctx context.Context, qp *rdma.QP, to netip.AddrPort, o ConnOptions) (*Link, error) {
	o.fill()
	local, gid, err := e.local(to.Addr())
	if err != nil {
		return nil, err
	}
	if o.LocalPort == 0 {
		o.LocalPort = e.ephemeral()
	}
	mtu := e.dev.QueryPort().ActiveMTU
	p := Params{
		QPN: qp.Num(), Transport: transportOf(qp), RecvPSN: roce.PSN(rand.Uint32() & roce.PSNMask), RespResources: o.RespResources,
		InitiatorDepth: o.InitiatorDepth, RetryCount: o.RetryCount, RNRRetry: o.RNRRetry, MTU: mtu, AckTimeout: o.AckTimeout,
		FlowLabel: roce.CMFlowLabel(o.LocalPort, to.Port()),
		Private:   append(PrivateHeader{local, to.Addr(), o.LocalPort}.Append(nil), o.Private...),
	}
	l := newLink(qp)
	replied := func(c *Conn) error {
		r := c.Reply()
		return qp.Connect(rdma.Remote{QPN: r.LocalQPN, PSN: p.RecvPSN, GID: rdma.GIDOf(to.Addr())}, rdma.QPAttr{
			PathMTU: mtu, SQPSN: r.StartingPSN, Access: o.Access, Timeout: o.AckTimeout, RetryCnt: o.RetryCount, RNRRetry: r.RNRRetry,
			MaxRdAtomic: max(min(o.InitiatorDepth, r.RespResources), 1), MaxDestRdAtomic: o.RespResources,
			AH: rdma.AHAttr{SGIDIndex: gid, FlowLabel: p.FlowLabel, HopLimit: roce.DefaultTTL},
		})
	}
	l.Conn, err = e.Connect(Path{local, to.Addr().Unmap()}, SpaceTCP.Service(to.Port()), p, func(c *Conn, ev Event) { l.handle(c, ev, replied) })
	if err != nil {
		return nil, err
	}
	return l.wait(ctx)
}

func transportOf(qp *rdma.QP) TransportType {
	if qp.Type() == rdma.UC {
		return TransportUC
	}
	return TransportRC
}

// Incoming is a connection that waits for Accept or Reject.
type Incoming struct {
	e       *Endpoint
	Conn    *Conn
	From    netip.AddrPort // address and port of the program
	Private []byte         // what it sent along, at the full length
}

// Listener has the connections asked for on a port.
type Listener struct {
	queue chan *Incoming
	stop  func()
	done  chan struct{}
	once  sync.Once
}

// backlog is how many connections wait for Accept; more are rejected.
const backlog = 128

// ListenPort takes connections to a service of rdma_cm, as rdma_listen does.
func (e *Endpoint) ListenPort(port uint16) (*Listener, error) {
	l := &Listener{queue: make(chan *Incoming, backlog), done: make(chan struct{})}
	var err error
	l.stop, err = e.Listen(SpaceTCP.Service(port), func(c *Conn) {
		h, private, err := ParsePrivateHeader(c.Request().Private)
		if err != nil {
			_ = c.Reject(ReasonUnsupported, nil)
			return
		}
		select {
		case l.queue <- &Incoming{e, c, netip.AddrPortFrom(h.Src, h.SrcPort), private}:
		default:
			_ = c.Reject(ReasonNoResources, nil)
		}
	})
	return l, err
}

// Accept waits for a connection.
func (l *Listener) Accept(ctx context.Context) (*Incoming, error) {
	select {
	case in := <-l.queue:
		return in, nil
	case <-l.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close stops listening, and rejects connections that wait.
func (l *Listener) Close() {
	l.once.Do(func() {
		l.stop()
		close(l.done)
		for {
			select {
			case in := <-l.queue:
				_ = in.Conn.Reject(ReasonConsumer, nil)
			default:
				return
			}
		}
	})
}

// Accept grants the connection with a queue pair in RESET or INIT, takes it to RTS and
// waits until the peer is ready. Receives should be posted before.
func (in *Incoming) Accept(ctx context.Context, qp *rdma.QP, o ConnOptions) (*Link, error) {
	o.fill()
	e, r, path := in.e, in.Conn.Request(), in.Conn.Path()
	if want := transportOf(qp); want != r.Transport {
		_ = in.Conn.Reject(ReasonInvalidTransport, nil)
		return nil, fmt.Errorf("cm: qp %#x is %v, asked was transport %d", qp.Num(), qp.Type(), r.Transport)
	}
	gid, err := e.dev.FindGID(rdma.GIDOf(path.Local))
	if err != nil {
		return nil, err
	}
	recvPSN := roce.PSN(rand.Uint32() & roce.PSNMask)
	err = qp.Connect(rdma.Remote{QPN: r.LocalQPN, PSN: recvPSN, GID: rdma.GIDOf(path.Remote)}, rdma.QPAttr{
		PathMTU: min(r.MTU, e.dev.QueryPort().ActiveMTU), SQPSN: r.StartingPSN, Access: o.Access, Timeout: max(r.LocalAckTimeout, 1),
		RetryCnt: r.RetryCount, RNRRetry: r.RNRRetry, MaxRdAtomic: max(min(o.InitiatorDepth, r.RespResources), 1), MaxDestRdAtomic: o.RespResources,
		AH: rdma.AHAttr{SGIDIndex: gid, FlowLabel: r.FlowLabel, TrafficClass: r.TrafficClass, HopLimit: roce.DefaultTTL},
	})
	if err != nil {
		_ = in.Conn.Reject(ReasonConsumer, nil)
		return nil, err
	}
	l := newLink(qp)
	l.Conn, l.Private = in.Conn, in.Private
	err = in.Conn.Accept(Params{
		QPN: qp.Num(), RecvPSN: recvPSN, RespResources: o.RespResources, InitiatorDepth: o.InitiatorDepth, TargetAckDelay: 15,
		RNRRetry: o.RNRRetry, Private: o.Private,
	}, func(c *Conn, ev Event) { l.handle(c, ev, nil) })
	if err != nil {
		return nil, err
	}
	return l.wait(ctx)
}

// Reject refuses the connection; private goes to the program that asked.
func (in *Incoming) Reject(private []byte) error { return in.Conn.Reject(ReasonConsumer, private) }

// LookupUDP finds the datagram queue pair behind a port of rdma_cm (port space
// UDP), as rdma_connect does for datagrams.
func (e *Endpoint) LookupUDP(ctx context.Context, to netip.AddrPort, private []byte) (*SIDRRep, error) {
	local, _, err := e.local(to.Addr())
	if err != nil {
		return nil, err
	}
	answer := make(chan *SIDRRep, 1)
	h := PrivateHeader{local, to.Addr(), e.ephemeral()}
	err = e.Resolve(Path{local, to.Addr().Unmap()}, SpaceUDP.Service(to.Port()), append(h.Append(nil), private...), func(r *SIDRRep) { answer <- r })
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		switch {
		case r == nil:
			return nil, ErrUnreachable
		case r.Status != SIDRSuccess:
			return r, fmt.Errorf("cm: %v has no datagram service on port %d: status %d", to.Addr(), to.Port(), r.Status)
		}
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ServeUDP tells who asks for a port of rdma_cm (port space UDP) of a datagram
// queue pair.
func (e *Endpoint) ServeUDP(port uint16, qp *rdma.QP, qkey uint32) (stop func(), err error) {
	return e.Serve(SpaceUDP.Service(port), func(Path, *SIDRReq) *SIDRRep {
		return &SIDRRep{Status: SIDRSuccess, QPN: qp.Num(), QKey: qkey}
	})
}
