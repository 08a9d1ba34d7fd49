package taptest

import (
	"net"
	"sync"

	"taproom/stack/packet"
	"taproom/tap"
)

// Options say what a Pipe is like. The zero value is an Ethernet of MTU 1500
// that takes everything unfinished.
type Options struct {
	Name     string // of both ends, "pipe" if empty
	Kind     tap.Kind
	MTU      int                 // 0 is 1500
	Queues   int                 // 0 is 1
	Offloads *tap.Offloads       // what crosses unfinished; nil is all
	Now      func() int64        // receive time in ns since 1970; nil leaves it 0
	Addrs    [2]net.HardwareAddr // of the two ends: each one's Info has the other's
}

// pipe is what the two ends share.
type pipe struct {
	o tap.Offloads

	mu         sync.Mutex
	idle       sync.Cond // signalled when delivering becomes false
	delivering bool
	work       []delivery
}

type delivery struct {
	to    *End
	queue int
	batch []*packet.Packet
}

// End is one side of a Pipe.
type End struct {
	pipe *pipe
	peer *End
	info tap.Info
	kind tap.Kind
	now  func() int64

	// Guarded by pipe.mu.
	recv   tap.Receiver
	closed bool
	stats  tap.Stats
}

var _ tap.Device = (*End)(nil)

// Pipe makes an interface and returns its two sides.
func Pipe(o Options) (*End, *End) {
	if o.Name == "" {
		o.Name = "pipe"
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	p := &pipe{o: tap.AllOffloads}
	if o.Offloads != nil {
		p.o = *o.Offloads
	}
	p.idle.L = &p.mu
	info := tap.Info{Name: o.Name, Kind: o.Kind, MTU: o.MTU, Queues: max(o.Queues, 1), Offloads: p.o, Backend: "pipe"}
	a := &End{pipe: p, info: info, kind: o.Kind, now: o.Now}
	b := &End{pipe: p, info: info, kind: o.Kind, now: o.Now, peer: a}
	a.peer = b
	a.info.Addr, b.info.Addr = o.Addrs[1], o.Addrs[0]
	return a, b
}

// Info describes the end.
func (e *End) Info() tap.Info {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	return e.info
}

// SetMTU changes the MTU of both ends.
func (e *End) SetMTU(mtu int) error {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	if e.closed {
		return tap.ErrClosed
	}
	e.info.MTU, e.peer.info.MTU = mtu, mtu
	return nil
}

// Start lets packets through to recv. What is written before is dropped, as by
// an interface that is down.
func (e *End) Start(recv tap.Receiver) error {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	switch {
	case e.closed:
		return tap.ErrClosed
	case e.recv != nil:
		return tap.ErrStarted
	}
	e.recv = recv
	return nil
}

// Stats are the end's counters.
func (e *End) Stats() tap.Stats {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	return e.stats
}

// Close stops the end. What the other writes is dropped from then on.
func (e *End) Close() error {
	p := e.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.closed {
		return tap.ErrClosed
	}
	e.closed = true
	for p.delivering {
		p.idle.Wait()
	}
	return nil
}

// Write sends packets to the other end.
func (e *End) Write(queue int, batch []*packet.Packet) {
	var out []*packet.Packet
	var d tap.Direction
	send := func(p *packet.Packet) {
		d.Count(p)
		out = append(out, p)
	}
	drop := func(p *packet.Packet, r packet.Reason) {
		d.Drops[r]++
		p.Release()
	}
	d.Calls++
	for _, p := range batch {
		if e.kind == tap.Ethernet {
			p.SetMAC(0)
		} else {
			p.ClearMAC()
		}
		tap.Emit(p, e.pipe.o, send, drop)
	}
	if queue < 0 {
		queue = 0
	}
	e.pipe.put(e, delivery{e.peer, queue % e.info.Queues, out}, d)
}

// put appends work and, unless somebody is at it, does all there is.
func (p *pipe) put(from *End, w delivery, d tap.Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from.closed || w.to.closed || w.to.recv == nil {
		for _, q := range w.batch {
			d.Drops[packet.DeviceDown]++
			q.Release()
		}
		from.stats.Tx.Add(tap.Direction{Calls: d.Calls, Drops: d.Drops})
		return
	}
	from.stats.Tx.Add(d)
	p.work = append(p.work, w)
	if p.delivering {
		return
	}
	p.delivering = true
	for len(p.work) > 0 {
		w := p.work[0]
		p.work = p.work[1:]
		p.deliverLocked(w)
	}
	p.delivering = false
	p.idle.Broadcast()
}

// deliverLocked lets go of the lock while the Receiver works.
func (p *pipe) deliverLocked(w delivery) {
	var d tap.Direction
	d.Calls++
	good := w.batch[:0]
	for _, q := range w.batch {
		// Nothing but this crosses a device.
		q.Meta = packet.Meta{GSO: q.GSO, CsumPartial: q.CsumPartial, Queue: uint16(w.queue + 1)}
		if w.to.now != nil {
			q.Time = w.to.now()
		}
		reason := packet.NoReason
		switch {
		case w.to.closed:
			reason = packet.DeviceDown
		case !tap.ParseFrame(q, w.to.kind):
			reason = packet.TooShort
		}
		if reason != packet.NoReason {
			d.Drops[reason]++
			q.Release()
			continue
		}
		d.Count(q)
		good = append(good, q)
	}
	w.to.stats.Rx.Add(d)
	if len(good) == 0 {
		return
	}
	recv := w.to.recv
	p.mu.Unlock()
	defer p.mu.Lock()
	recv(w.queue, good)
}
