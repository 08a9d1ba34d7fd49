package cm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"taproom/rdma/roce"
)

// Path is the pair of addresses a conversation goes between.
type Path struct {
	Local, Remote netip.Addr
}

// Transport sends management datagrams from QP 1 to QP 1.
type Transport interface {
	// SendMAD sends b, which it does not keep. What is lost is repeated by the
	// manager, so it need not wait, or tell of losses.
	SendMAD(p Path, b MAD) error
}

// Options of a manager. The zero value is that of rdma_cm over rxe, but for the
// GUID.
type Options struct {
	GUID            uint64 // of the device
	ResponseTimeout uint8  // time for an answer: 4.096us * 2^n; 20 (4.3 s) if zero
	MaxRetries      uint8  // repetitions of a message without an answer; 15 if zero
	MaxPending      int    // connections that wait to be accepted, at most; 1024 if zero
	// AfterFunc calls f after d, unless stop is called before; time.AfterFunc if
	// nil.
	AfterFunc func(d time.Duration, f func()) (stop func())
	// NewID makes a communication ID and a transaction ID; random ones if nil.
	NewID func() (comm uint32, tid uint64)
}

// Errors of a manager's methods.
var (
	ErrState  = errors.New("cm: not possible in the connection's state")
	ErrInUse  = errors.New("cm: somebody listens for this service already")
	ErrClosed = errors.New("cm: the manager is closed")
)

// Manager is one device's communication manager. Its methods may be called from
// any goroutine, handlers' among them: handlers are called without locks, one
// after the other, in the order of the events. So a handler must not wait: all
// other connections would wait with it.
type Manager struct {
	transport Transport
	o         Options

	mu      sync.Mutex
	conns   map[uint32]*Conn // by our communication ID
	remote  map[remoteKey]*Conn
	listens map[ServiceID]func(*Conn)
	sidr    map[ServiceID]func(Path, *SIDRReq) *SIDRRep
	lookups map[uint32]*lookup
	pending int
	closed  bool

	// Sends and handler calls that the lock's holder wants done, in order. Who
	// finds running false does them; see unlock.
	todo    []func()
	running bool
}

// remoteKey finds a connection by what its peer calls it.
type remoteKey struct {
	addr netip.Addr
	comm uint32
}

// NewManager makes a manager.
func NewManager(t Transport, o Options) *Manager {
	if o.ResponseTimeout == 0 {
		o.ResponseTimeout = 20
	}
	if o.MaxRetries == 0 {
		o.MaxRetries = 15
	}
	if o.MaxPending == 0 {
		o.MaxPending = 1024
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, f func()) func() { t := time.AfterFunc(d, f); return func() { t.Stop() } }
	}
	if o.NewID == nil {
		o.NewID = func() (uint32, uint64) { return rand.Uint32(), rand.Uint64() }
	}
	return &Manager{
		transport: t, o: o, conns: map[uint32]*Conn{}, remote: map[remoteKey]*Conn{},
		listens: map[ServiceID]func(*Conn){}, sidr: map[ServiceID]func(Path, *SIDRReq) *SIDRRep{}, lookups: map[uint32]*lookup{},
	}
}

// unlock ends a critical section and does what it has left to do. The goroutine
// that does it may find more that others added meanwhile: order is kept, and no
// handler runs under the lock.
func (m *Manager) unlock() {
	if m.running {
		m.mu.Unlock()
		return
	}
	m.running = true
	for len(m.todo) > 0 {
		f := m.todo[0]
		m.todo = m.todo[1:]
		m.mu.Unlock()
		f()
		m.mu.Lock()
	}
	m.todo, m.running = nil, false
	m.mu.Unlock()
}

func (m *Manager) later(f func()) { m.todo = append(m.todo, f) }

func (m *Manager) send(p Path, b MAD) {
	m.later(func() { _ = m.transport.SendMAD(p, b) })
}

// Close forgets all connections, without a word to their peers; Disconnect them
// first. No handler is called after it has returned, but for one that runs.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	for _, c := range m.conns {
		c.stopTimer()
		c.state = Closed
	}
	for _, l := range m.lookups {
		l.stop()
	}
	clear(m.conns)
	clear(m.remote)
	clear(m.lookups)
	m.todo = nil
	m.mu.Unlock()
}

// Listen calls accept with every connection asked for, in state ReqReceived; it
// (or a goroutine it starts) must call Accept or Reject.
func (m *Manager) Listen(s ServiceID, accept func(*Conn)) (stop func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listens[s] != nil {
		return nil, fmt.Errorf("%w: %#x", ErrInUse, uint64(s))
	}
	m.listens[s] = accept
	return func() { m.mu.Lock(); delete(m.listens, s); m.mu.Unlock() }, nil
}

// Connect asks for a connection. The handler is called with its events until it
// is closed; first with RepReceived, or a reason why there is none.
func (m *Manager) Connect(p Path, s ServiceID, local Params, handler func(*Conn, Event)) (*Conn, error) {
	m.mu.Lock()
	defer m.unlock()
	if m.closed {
		return nil, ErrClosed
	}
	c := &Conn{m: m, path: p, active: true, state: ReqSent, local: local, handler: handler}
	if err := m.number(c); err != nil {
		return nil, err
	}
	c.arm(Encode(c.tid, c.request(s)), m.o.ResponseTimeout)
	return c, nil
}

// number gives a connection its communication ID.
func (m *Manager) number(c *Conn) error {
	for range 100 {
		c.localID, c.tid = m.o.NewID()
		if _, ok := m.conns[c.localID]; !ok && c.localID != 0 {
			m.conns[c.localID] = c
			return nil
		}
	}
	return fmt.Errorf("cm: no free communication ID among %d", len(m.conns))
}

// Receive takes a management datagram that came on a path. Anything that is not
// a message of the communication manager is ignored.
func (m *Manager) Receive(p Path, b MAD) {
	msg, err := Decode(b)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.unlock()
	if m.closed {
		return
	}
	switch v := msg.(type) {
	case *REQ:
		m.gotREQ(p, b.TID(), v)
	case *REP:
		m.gotREP(p, b.TID(), v)
	case *SIDRReq:
		m.gotSIDRReq(p, b.TID(), v)
	case *SIDRRep:
		m.gotSIDRRep(v)
	case *RTU:
		if c := m.find(p, v.RemoteCommID, v.LocalCommID); c != nil && c.state == RepSent {
			c.establish(v.Private)
		}
	case *REJ:
		m.gotREJ(p, v)
	case *MRA:
		if c := m.find(p, v.RemoteCommID, 0); c != nil && (c.state == ReqSent && v.About == AboutREQ || c.state == RepSent && v.About == AboutREP) {
			c.extend(v.ServiceTimeout)
		}
	case *DREQ:
		m.gotDREQ(p, b.TID(), v)
	case *DREP:
		if c := m.find(p, v.RemoteCommID, v.LocalCommID); c != nil && c.state == DreqSent {
			c.close(Event{Type: Disconnected, Private: v.Private})
		}
	}
}

// find returns our connection by its ID, if it is with that peer. A peer's ID of
// zero is not compared.
func (m *Manager) find(p Path, id, peer uint32) *Conn {
	c := m.conns[id]
	if c == nil || c.path.Remote != p.Remote || peer != 0 && c.remoteID != 0 && c.remoteID != peer {
		return nil
	}
	return c
}

func (m *Manager) gotREQ(p Path, tid uint64, r *REQ) {
	if c := m.remote[remoteKey{p.Remote, r.LocalCommID}]; c != nil {
		// The peer has missed our last word, or we have not said any yet.
		if c.sent != nil && (c.state == ReqReceived || c.state == RepSent) {
			m.send(p, c.sent)
		}
		return
	}
	reject := func(why Reason) {
		m.send(p, Encode(tid, &REJ{RemoteCommID: r.LocalCommID, About: AboutREQ, Reason: why}))
	}
	for _, c := range m.conns { // a peer that has restarted, and does not know of its old connection
		if c.state == Established && c.path.Remote == p.Remote && c.remoteQPN() == r.LocalQPN && c.peerGUID == r.LocalGUID {
			reject(ReasonStale)
			c.close(Event{Type: Disconnected})
			return
		}
	}
	accept := m.listens[r.Service]
	switch {
	case accept == nil:
		reject(ReasonInvalidServiceID)
		return
	case r.Transport > TransportUC:
		reject(ReasonInvalidTransport)
		return
	case !r.MTU.Valid():
		reject(ReasonInvalidMTU)
		return
	case m.pending >= m.o.MaxPending:
		reject(ReasonNoResources)
		return
	}
	c := &Conn{m: m, path: p, state: ReqReceived, req: r, remoteID: r.LocalCommID, peerGUID: r.LocalGUID}
	if m.number(c) != nil {
		reject(ReasonNoResources)
		return
	}
	c.tid = tid
	m.pending++
	m.remote[remoteKey{p.Remote, r.LocalCommID}] = c
	m.later(func() { accept(c) })
}

func (m *Manager) gotREP(p Path, tid uint64, r *REP) {
	c := m.find(p, r.RemoteCommID, r.LocalCommID)
	switch {
	case c == nil || !c.active:
		m.send(p, Encode(tid, &REJ{RemoteCommID: r.LocalCommID, LocalCommID: r.RemoteCommID, About: AboutREP, Reason: ReasonInvalidCommID}))
	case c.state == ReqSent:
		c.stopTimer()
		c.state, c.rep, c.remoteID, c.peerGUID = RepReceived, r, r.LocalCommID, r.LocalGUID
		m.remote[remoteKey{p.Remote, c.remoteID}] = c
		c.event(Event{Type: RepliedTo, Private: r.Private})
	case c.sent != nil && (c.state == Established || c.state == RepReceived):
		m.send(p, c.sent) // the peer has missed our RTU, or MRA
	}
}

func (m *Manager) gotREJ(p Path, r *REJ) {
	c := m.find(p, r.RemoteCommID, 0)
	if c == nil && r.Reason == ReasonTimeout { // a peer that never learned our ID
		c = m.remote[remoteKey{p.Remote, r.LocalCommID}]
	}
	if c == nil {
		return
	}
	switch c.state {
	case ReqSent, RepSent, RepReceived, ReqReceived:
		c.close(Event{Type: Rejected, Reason: r.Reason, Private: r.Private})
	case Established:
		c.close(Event{Type: Disconnected, Private: r.Private})
	}
}

func (m *Manager) gotDREQ(p Path, tid uint64, r *DREQ) {
	// A connection that is gone already is answered as well: our DREP was lost.
	m.send(p, Encode(tid, &DREP{LocalCommID: r.RemoteCommID, RemoteCommID: r.LocalCommID}))
	if c := m.find(p, r.RemoteCommID, r.LocalCommID); c != nil && c.state != ReqSent && c.state != ReqReceived {
		c.close(Event{Type: Disconnected, Private: r.Private})
	}
}

// maxTimeout bounds the codes a peer may choose for how long we wait for it: 21
// stands for 8.6 s, the codes themselves go up to 2.4 hours.
const maxTimeout = 21

// timeout is the time a code stands for. Code 0, which would be none, is the
// shortest.
func timeout(code uint8) time.Duration { return roce.AckTimeout(min(max(code, 1), maxTimeout)) }
