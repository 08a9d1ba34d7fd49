package wire

import (
	"sync"

	"taproom/stack/packet"
)

// Bounds of what one direction holds beside the queue of its line. They are
// far above what traffic needs, and there so that a receiver that never
// returns or a delay of minutes cannot eat the machine.
const (
	maxReady         = 4096
	maxReadyBytes    = 32 << 20
	maxInFlight      = 1 << 18
	maxInFlightBytes = 256 << 20
)

// slack is how much earlier than due the alarm is not worth another wake-up:
// frames due within it of each other are delivered together.
const slack = 20_000 // ns

// direction carries frames one way.
//
//	admit ──┬─ due now ──────────────────▶ ready ──▶ drain ──▶ receiver
//	        └─ due later ─▶ schedule ─alarm─┘
//
// Whoever finds ready frames and nobody draining drains, without the lock;
// others only add to ready.
type direction struct {
	clock   Clock
	receive func(batch []*packet.Packet) bool // of the far end; false: nobody there, batch untouched

	mu       sync.Mutex
	imp      Impairment
	passive  bool // imp.passive()
	dice     *dice
	line     line
	schedule schedule
	last     int64 // due time of the frame that nothing but a reordered one may overtake
	alarm    Alarm // made when first needed
	armed    bool
	armedAt  int64
	ready    []*packet.Packet
	spare    []*packet.Packet // the other buffer, while one is drained
	readyLen int              // bytes in ready
	draining bool
	idle     sync.Cond // signalled when draining ends
	closed   bool
	stats    Stats

	// For thinLocked.
	fates []bool
	kept  []*packet.Packet
	gro   packet.GRO
}

// write takes over the packets of batch, not the slice.
func (d *direction) write(batch []*packet.Packet) {
	d.mu.Lock()
	if !d.passive || d.schedule.len() > 0 || d.closed {
		d.admitAllLocked(batch)
		d.flowLocked() // unlocks
		return
	}
	for _, p := range batch {
		d.stats.Offered.add(p.Len())
	}
	if d.draining {
		for _, p := range batch {
			d.readyLocked(p)
		}
		d.mu.Unlock()
		return
	}
	d.draining = true
	d.mu.Unlock()
	d.drain(batch, nil)
}

// drain delivers batch and then whatever has become ready. The caller has set
// draining; own is a buffer that becomes the spare one, if batch lies in it.
func (d *direction) drain(batch, own []*packet.Packet) {
	for {
		var sum Count
		var segments uint64
		for _, p := range batch {
			sum.add(p.Len())
			segments += uint64(max(p.GSO.Segs, 1))
			scrub(p)
		}
		delivered := d.receive(batch)
		d.mu.Lock()
		if delivered {
			d.stats.Delivered.Packets += sum.Packets
			d.stats.Delivered.Bytes += sum.Bytes
			d.stats.Segments += segments
			d.stats.Calls++
		} else {
			for _, p := range batch {
				d.dropLocked(p, packet.DeviceDown)
			}
		}
		if own != nil {
			clear(own)
			d.spare = own[:0]
		}
		if len(d.ready) == 0 {
			d.draining = false
			d.idle.Broadcast()
			d.mu.Unlock()
			return
		}
		batch = d.takeReadyLocked()
		own = batch
		d.mu.Unlock()
	}
}

func (d *direction) takeReadyLocked() []*packet.Packet {
	batch := d.ready
	d.ready, d.spare, d.readyLen = d.spare, nil, 0
	return batch
}

// readyLocked queues a frame for whoever is draining.
func (d *direction) readyLocked(p *packet.Packet) {
	if len(d.ready) >= maxReady || d.readyLen > maxReadyBytes {
		d.dropLocked(p, packet.Backpressure)
		return
	}
	d.ready = append(d.ready, p)
	d.readyLen += p.Len()
}

func (d *direction) dropLocked(p *packet.Packet, r packet.Reason) {
	d.stats.Dropped[r]++
	p.Release()
}

// flowLocked moves what is due to ready, sets the alarm for the rest,
// unlocks, and drains unless somebody else does.
func (d *direction) flowLocked() {
	if d.schedule.len() > 0 {
		now := d.clock.Now()
		for d.schedule.len() > 0 && d.schedule.next() <= now {
			d.ready = append(d.ready, d.schedule.pop()) // bounded by maxInFlight
		}
		if d.schedule.len() > 0 {
			d.armLocked(max(d.schedule.next(), now+slack))
		}
	}
	if len(d.ready) == 0 || d.draining {
		d.mu.Unlock()
		return
	}
	d.draining = true
	batch := d.takeReadyLocked()
	d.mu.Unlock()
	d.drain(batch, batch)
}

func (d *direction) armLocked(at int64) {
	if d.closed || d.armed && d.armedAt <= at {
		return
	}
	if d.alarm == nil {
		d.alarm = d.clock.NewAlarm(d.ring)
	}
	d.armed, d.armedAt = true, at
	d.alarm.Set(at)
}

func (d *direction) ring() {
	d.mu.Lock()
	d.armed = false
	d.flowLocked()
}

// impair changes the settings for frames that come from now on; those in the
// wire keep their due time, unless the carrier goes.
func (d *direction) impair(i Impairment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.imp.Rate != i.Rate {
		d.line.remainder = 0 // it is in units of the old rate
	}
	d.imp, d.passive = i, i.passive()
	if i.Down {
		d.flushLocked(packet.DeviceDown)
	}
}

// flushLocked loses all that is in the wire, save what is being delivered.
func (d *direction) flushLocked(r packet.Reason) {
	for d.schedule.len() > 0 {
		d.dropLocked(d.schedule.pop(), r)
	}
	for i, p := range d.ready {
		d.dropLocked(p, r)
		d.ready[i] = nil
	}
	d.ready, d.readyLen = d.ready[:0], 0
	d.line, d.last = line{}, 0
}

// close loses what is in the wire, and returns when nobody delivers any more.
func (d *direction) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		d.flushLocked(packet.NodeClosed)
		if d.alarm != nil {
			d.alarm.Close()
		}
	}
	for d.draining {
		d.idle.Wait()
	}
}

func (d *direction) snapshot() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Queue = d.depthLocked()
	s.InFlight = Depth{Packets: d.schedule.len() + len(d.ready), Bytes: d.schedule.bytes + d.readyLen}
	return s
}

// depthLocked is the queue in front of the line or, without a rate, what
// waits for the receiver.
func (d *direction) depthLocked() Depth {
	if d.imp.Rate == 0 {
		return Depth{Packets: len(d.ready), Bytes: d.readyLen}
	}
	d.line.retire(d.clock.Now())
	return Depth{Packets: d.line.packets(), Bytes: d.line.bytes}
}

// scrub forgets what the sending node knew of the packet: it is the frame
// alone that crosses, with what a virtual device hands over beside it.
func scrub(p *packet.Packet) {
	p.Meta = packet.Meta{
		Hash: p.Hash, VLAN: p.VLAN, GSO: p.GSO,
		CsumPartial: p.CsumPartial, CsumValid: p.CsumValid,
	}
}
