package wire

import (
	"sync"
	"sync/atomic"

	"taproom/stack/packet"
	"taproom/tap"
)

// Shim is a device with a place in front of it where a wire goes once it has
// something to do: until the first impairment, frames pass with one atomic
// load more than without it.
//
//	node ◀─▶ near ═══ wire ═══ far ◀─▶ dev        impaired
//	node ◀──────────────────────────▶ dev        before
type Shim struct {
	dev      tap.Device
	config   Config
	observer observer

	wire atomic.Pointer[pair]
	recv tap.Receiver // set by Start, before any frame arrives

	mu      sync.Mutex // serialises Impair, Start and Close
	started bool
	closed  bool
}

type pair struct{ near, far *End }

var _ tap.Device = (*Shim)(nil)

// Around puts a shim in front of a device, which belongs to it from then on.
// Of c, name, seed and clock count. AtoB of c is the direction to the device.
func Around(dev tap.Device, c Config) (*Shim, error) {
	for _, i := range []Impairment{c.AtoB, c.BtoA} {
		if err := i.Validate(); err != nil {
			return nil, err
		}
	}
	return &Shim{dev: dev, config: c}, nil
}

// Device is the device behind the shim.
func (s *Shim) Device() tap.Device { return s.dev }

// Info is the device's, save for the name if the shim has one.
func (s *Shim) Info() tap.Info {
	i := s.dev.Info()
	i.Name = orDefault(s.config.Name, i.Name)
	return i
}

// Start starts the device.
func (s *Shim) Start(recv tap.Receiver) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return tap.ErrStarted
	}
	s.recv, s.started = func(q int, batch []*packet.Packet) {
		s.observer.see(false, batch)
		recv(q, batch)
	}, true
	if s.config.AtoB != (Impairment{}) || s.config.BtoA != (Impairment{}) {
		if err := s.insertLocked(); err != nil {
			return err
		}
	}
	return s.dev.Start(func(q int, batch []*packet.Packet) {
		if p := s.wire.Load(); p != nil {
			p.far.Write(q, batch)
			return
		}
		s.recv(q, batch)
	})
}

// Write sends frames to the device, through the wire if there is one.
func (s *Shim) Write(q int, batch []*packet.Packet) {
	s.observer.see(true, batch)
	if p := s.wire.Load(); p != nil {
		p.near.Write(q, batch)
		return
	}
	s.dev.Write(q, batch)
}

// insertLocked makes the wire.
func (s *Shim) insertLocked() error {
	near, far, err := New(s.config)
	if err != nil {
		return err
	}
	if err := near.Start(s.recv); err != nil {
		return err
	}
	if err := far.Start(func(_ int, batch []*packet.Packet) { s.dev.Write(tap.AnyQueue, batch) }); err != nil {
		return err
	}
	s.wire.Store(&pair{near, far})
	return nil
}

// Impair sets what happens to frames in both directions.
func (s *Shim) Impair(toDevice, fromDevice Impairment) error {
	for _, i := range []Impairment{toDevice, fromDevice} {
		if err := i.Validate(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return tap.ErrClosed
	}
	s.config.AtoB, s.config.BtoA = toDevice, fromDevice
	p := s.wire.Load()
	switch {
	case p != nil:
		if err := p.near.Impair(toDevice); err != nil {
			return err
		}
		return p.far.Impair(fromDevice)
	case s.started && !(toDevice.passive() && fromDevice.passive()):
		return s.insertLocked()
	}
	return nil
}

// Impairments are what Impair set last.
func (s *Shim) Impairments() (toDevice, fromDevice Impairment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.AtoB, s.config.BtoA
}

// Wire are the books of the wire, and whether there is one.
func (s *Shim) Wire() (toDevice, fromDevice Stats, ok bool) {
	p := s.wire.Load()
	if p == nil {
		return toDevice, fromDevice, false
	}
	return p.near.Sent(), p.far.Sent(), true
}

// Queue is what waits for the line to the device, see End.Queue.
func (s *Shim) Queue() Depth {
	if p := s.wire.Load(); p != nil {
		return p.near.Queue()
	}
	return Depth{}
}

// Observe lets f see all frames, see End.Observe. Frames to the device are
// seen before the wire, those from it behind.
func (s *Shim) Observe(f func(out bool, batch []*packet.Packet)) (cancel func()) {
	return s.observer.add(f)
}

// SetMTU changes the device's MTU.
func (s *Shim) SetMTU(mtu int) error { return s.dev.SetMTU(mtu) }

// Stats are the device's.
func (s *Shim) Stats() tap.Stats { return s.dev.Stats() }

// Close closes wire and device.
func (s *Shim) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if p := s.wire.Load(); p != nil {
		_ = p.near.Close()
	}
	return s.dev.Close()
}
