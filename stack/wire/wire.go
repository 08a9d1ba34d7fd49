package wire

import (
	"fmt"
	"sync/atomic"

	"taproom/stack/packet"
	"taproom/tap"
)

// Config says what a wire is. The zero value is a perfect cable.
type Config struct {
	Name string // for people: the ends are Name/a and Name/b

	// NameA and NameB name the ends otherwise.
	NameA, NameB string
	// MTU is the largest network packet the ends offer, 0 is 1500. It does
	// not cut anything: Impairment.MTU does.
	MTU int

	AtoB, BtoA Impairment

	Seed  uint64 // of all chance on the wire
	Clock Clock  // nil is System
}

// MaxMTU is the largest MTU of an end.
const MaxMTU = 65535

// End is one end of a wire: a device. Closing either end takes the wire away.
type End struct {
	name     string
	mtu      atomic.Int32
	out      *direction // from here to the peer
	peer     *End
	receiver atomic.Pointer[tap.Receiver]
	carrier  atomic.Pointer[func(up bool)]
	observer observer
	state    *state
}

// state is what both ends share.
type state struct{ closed atomic.Bool }

// New makes a wire. The ends carry nothing until they are started.
func New(c Config) (a, b *End, err error) {
	if c.Clock == nil {
		c.Clock = System
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.MTU < 68 || c.MTU > MaxMTU {
		return nil, nil, fmt.Errorf("wire: mtu %d: %w: 68 to %d", c.MTU, ErrInvalid, MaxMTU)
	}
	for _, i := range []Impairment{c.AtoB, c.BtoA} {
		if err := i.Validate(); err != nil {
			return nil, nil, err
		}
	}
	a = &End{name: orDefault(c.NameA, c.Name+"/a"), state: new(state)}
	b = &End{name: orDefault(c.NameB, c.Name+"/b"), state: a.state}
	a.peer, b.peer = b, a
	for i, e := range []*End{a, b} {
		e.mtu.Store(int32(c.MTU))
		imp := [...]Impairment{c.AtoB, c.BtoA}[i]
		e.out = &direction{
			clock: c.Clock, receive: e.peer.deliver, dice: newDice(c.Seed, uint64(i)),
			imp: imp, passive: imp.passive(),
		}
		e.out.idle.L = &e.out.mu
	}
	return a, b, nil
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// deliver hands what has arrived to the receiver, if there is one.
func (e *End) deliver(batch []*packet.Packet) bool {
	r := e.receiver.Load()
	if r == nil || e.state.closed.Load() {
		return false
	}
	e.observer.see(false, batch)
	(*r)(0, batch)
	return true
}

// Peer is the other end.
func (e *End) Peer() *End { return e.peer }

// Impair sets what happens to frames that leave from this end, from now on.
// Those on their way keep their due time, save when the carrier goes.
func (e *End) Impair(i Impairment) error {
	if err := i.Validate(); err != nil {
		return err
	}
	if e.state.closed.Load() {
		return tap.ErrClosed
	}
	was := e.Up()
	e.out.impair(i)
	if up := e.Up(); up != was {
		for _, end := range []*End{e, e.peer} {
			if f := end.carrier.Load(); f != nil {
				(*f)(up)
			}
		}
	}
	return nil
}

// Impairment is what Impair set last.
func (e *End) Impairment() Impairment {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	return e.out.imp
}

// Up reports whether the wire has a carrier: a wire that is down in either
// direction has none at both ends, as a cut cable.
func (e *End) Up() bool {
	return !e.state.closed.Load() && !e.Impairment().Down && !e.peer.Impairment().Down
}

// OnCarrier sets a function to be called when the carrier comes and goes, on
// the goroutine that changed it.
func (e *End) OnCarrier(f func(up bool)) { e.carrier.Store(&f) }

// Sent are the books of the direction that leads away from this end.
func (e *End) Sent() Stats { return e.out.snapshot() }

// Queue is what waits at this end for the line: the depth an interface
// reports (RFC 9197, section 4.4.2.7).
func (e *End) Queue() Depth {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	return e.out.depthLocked()
}
