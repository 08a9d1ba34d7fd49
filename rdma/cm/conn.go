package cm

import (
	"fmt"
	"time"

	"taproom/rdma/roce"
)

// State of a connection; see the package comment for how one leads to another.
type State uint8

// States.
const (
	Closed State = iota
	ReqSent
	ReqReceived
	RepSent
	RepReceived
	Established
	DreqSent
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"closed", "REQ sent", "REQ received", "REP sent", "REP received", "established", "DREQ sent"}[s]
}

// EventType says what happened to a connection.
type EventType uint8

// Events.
const (
	RepliedTo    EventType = iota // active: a REP came; move the queue pair to RTS and call Ready
	Connected                     // passive: the peer is ready, or its first packet came
	Rejected                      // Reason says why
	Unreachable                   // no answer, all retries used
	Disconnected                  // the peer has disconnected, or answered our DREQ
)

// String returns the event's name.
func (t EventType) String() string {
	return [...]string{"replied to", "connected", "rejected", "unreachable", "disconnected"}[t]
}

// Event is something that happened. After Rejected, Unreachable and
// Disconnected the connection is closed.
type Event struct {
	Type    EventType
	Reason  Reason // Rejected
	Private []byte // of the message, at its full length; nil if there was none
}

// Params are what one side says of its queue pair. The zero value of most
// fields means the usual.
type Params struct {
	QPN            uint32
	QKey           uint32
	Transport      TransportType
	RecvPSN        roce.PSN // the first that the peer shall send with: our rq_psn
	RespResources  uint8    // READs and atomics we take at once
	InitiatorDepth uint8    // and ask for at once
	RetryCount     uint8
	RNRRetry       uint8
	MTU            roce.MTU // active side
	AckTimeout     uint8    // active side: local ACK timeout code
	TargetAckDelay uint8    // passive side
	SRQ            bool
	FlowLabel      uint32 // active side
	TrafficClass   uint8  // active side
	Private        []byte // with rdma_cm's header in front, if the program expects one
}

// Conn is a connection. Its methods may be called from any goroutine.
type Conn struct {
	m       *Manager
	path    Path
	active  bool
	handler func(*Conn, Event)

	// The manager's mu guards what follows.
	state    State
	localID  uint32
	remoteID uint32
	tid      uint64
	peerGUID uint64
	local    Params
	req      *REQ // passive: what the peer asked
	rep      *REP // active: what the peer granted
	sent     MAD  // the last message, for repeating it
	tries    uint8
	code     uint8 // time-out code of sent
	stop     func()
	timer    int // which timer's call counts
}

// Path returns the addresses of the connection.
func (c *Conn) Path() Path { return c.path }

// State returns the present state.
func (c *Conn) State() State {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.state
}

// Request returns what the active side asked; on the passive side only.
func (c *Conn) Request() *REQ { return c.req }

// Reply returns what the passive side granted, once it has; on the active side
// only.
func (c *Conn) Reply() *REP {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.rep
}

func (c *Conn) remoteQPN() uint32 {
	switch {
	case c.req != nil:
		return c.req.LocalQPN
	case c.rep != nil:
		return c.rep.LocalQPN
	}
	return 0
}

// request makes the REQ.
func (c *Conn) request(s ServiceID) *REQ {
	o, l := &c.m.o, &c.local
	return &REQ{
		LocalCommID: c.localID, Service: s, LocalGUID: o.GUID, LocalQKey: l.QKey, LocalQPN: l.QPN,
		RespResources: l.RespResources, InitiatorDepth: l.InitiatorDepth, RemoteTimeout: o.ResponseTimeout,
		Transport: l.Transport, StartingPSN: l.RecvPSN, LocalTimeout: o.ResponseTimeout, RetryCount: l.RetryCount,
		PKey: roce.DefaultPKey, MTU: l.MTU, RNRRetry: l.RNRRetry, MaxCMRetries: o.MaxRetries, SRQ: l.SRQ,
		LocalGID: c.path.Local.As16(), RemoteGID: c.path.Remote.As16(), FlowLabel: l.FlowLabel, TrafficClass: l.TrafficClass,
		HopLimit: roce.DefaultTTL, LocalAckTimeout: l.AckTimeout, Private: l.Private,
	}
}

// Accept grants the connection: the queue pair must be able to receive (RTR).
// The handler is called with events from now on.
func (c *Conn) Accept(local Params, handler func(*Conn, Event)) error {
	c.m.mu.Lock()
	defer c.m.unlock()
	if c.state != ReqReceived {
		return fmt.Errorf("%w: accept while %v", ErrState, c.state)
	}
	c.m.pending--
	c.local, c.handler, c.state = local, handler, RepSent
	c.arm(Encode(c.tid, &REP{
		LocalCommID: c.localID, RemoteCommID: c.remoteID, LocalQKey: local.QKey, LocalQPN: local.QPN, StartingPSN: local.RecvPSN,
		RespResources: local.RespResources, InitiatorDepth: local.InitiatorDepth, TargetAckDelay: local.TargetAckDelay,
		RNRRetry: local.RNRRetry, SRQ: local.SRQ, LocalGUID: c.m.o.GUID, Private: local.Private,
	}), c.req.LocalTimeout)
	return nil
}

// Reject refuses a REQ or a REP. No event follows.
func (c *Conn) Reject(why Reason, private []byte) error {
	c.m.mu.Lock()
	defer c.m.unlock()
	r := REJ{LocalCommID: c.localID, RemoteCommID: c.remoteID, Reason: why, Private: private}
	switch c.state {
	case ReqReceived:
	case RepReceived:
		r.About = AboutREP
	default:
		return fmt.Errorf("%w: reject while %v", ErrState, c.state)
	}
	c.m.send(c.path, Encode(c.tid, &r))
	c.forget()
	return nil
}

// Delay tells the peer that the answer to its REQ or REP takes longer: code
// stands for 4.096us * 2^code from when it hears of it.
func (c *Conn) Delay(code uint8) error {
	c.m.mu.Lock()
	defer c.m.unlock()
	r := MRA{LocalCommID: c.localID, RemoteCommID: c.remoteID, ServiceTimeout: code}
	switch c.state {
	case ReqReceived:
	case RepReceived:
		r.About = AboutREP
	default:
		return fmt.Errorf("%w: delay while %v", ErrState, c.state)
	}
	c.sent = Encode(c.tid, &r)
	c.m.send(c.path, c.sent)
	return nil
}

// Ready completes the active side's part: the queue pair is in RTS.
func (c *Conn) Ready(private []byte) error {
	c.m.mu.Lock()
	defer c.m.unlock()
	if c.state != RepReceived {
		return fmt.Errorf("%w: ready while %v", ErrState, c.state)
	}
	c.state = Established
	c.sent = Encode(c.tid, &RTU{LocalCommID: c.localID, RemoteCommID: c.remoteID, Private: private})
	c.m.send(c.path, c.sent)
	return nil
}

// Heard tells that a packet came on the queue pair, which is as good as an RTU.
func (c *Conn) Heard() {
	c.m.mu.Lock()
	defer c.m.unlock()
	if c.state == RepSent {
		c.establish(nil)
	}
}

// Disconnect ends an established connection; the event Disconnected follows,
// from the peer's answer or when it does not come. It may be called in any
// state: a connection that is being made is rejected.
func (c *Conn) Disconnect(private []byte) error {
	c.m.mu.Lock()
	defer c.m.unlock()
	switch c.state {
	case Established, RepSent:
		c.state = DreqSent
		c.arm(Encode(c.tid, &DREQ{LocalCommID: c.localID, RemoteCommID: c.remoteID, RemoteQPN: c.remoteQPN(), Private: private}), c.m.o.ResponseTimeout)
	case ReqSent, ReqReceived, RepReceived:
		c.giveUp()
		c.forget()
	}
	return nil
}

// arm sends a message that is repeated until stopTimer.
func (c *Conn) arm(b MAD, code uint8) {
	c.stopTimer()
	c.sent, c.tries, c.code = b, 0, code
	c.m.send(c.path, b)
	c.wait(timeout(code))
}

func (c *Conn) wait(d time.Duration) {
	c.timer++
	n := c.timer
	c.stop = c.m.o.AfterFunc(d, func() { c.expired(n) })
}

func (c *Conn) stopTimer() {
	c.timer++
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// extend gives the peer the time it asked for by MRA, and then as many tries as
// are left.
func (c *Conn) extend(code uint8) {
	c.stopTimer()
	c.wait(timeout(code) + timeout(c.code))
}

func (c *Conn) expired(n int) {
	c.m.mu.Lock()
	defer c.m.unlock()
	if n != c.timer || c.state == Closed {
		return
	}
	if c.tries < c.m.o.MaxRetries {
		c.tries++
		c.m.send(c.path, c.sent)
		c.wait(timeout(c.code))
		return
	}
	if c.state == DreqSent {
		c.close(Event{Type: Disconnected})
		return
	}
	c.giveUp()
	c.close(Event{Type: Unreachable})
}

// giveUp tells the peer that we wait no longer.
func (c *Conn) giveUp() {
	r := REJ{LocalCommID: c.localID, RemoteCommID: c.remoteID, Reason: ReasonTimeout, About: AboutNone}
	if c.state == ReqReceived || c.state == RepReceived {
		r.Reason = ReasonConsumer
	}
	c.m.send(c.path, Encode(c.tid, &r))
}

func (c *Conn) establish(private []byte) {
	c.stopTimer()
	c.state, c.sent = Established, nil
	c.event(Event{Type: Connected, Private: private})
}

func (c *Conn) event(e Event) {
	if h := c.handler; h != nil {
		c.m.later(func() { h(c, e) })
	}
}

func (c *Conn) close(e Event) {
	c.forget()
	c.event(e)
}

func (c *Conn) forget() {
	if c.state == ReqReceived {
		c.m.pending--
	}
	c.stopTimer()
	c.state, c.sent = Closed, nil
	delete(c.m.conns, c.localID)
	delete(c.m.remote, remoteKey{c.path.Remote, c.remoteID})
}
