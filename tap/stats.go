package tap

import (
	"sync/atomic"

	"taproom/stack/packet"
)

// Direction are the counters of one direction. A super-frame is one packet,
// and as many segments as it stands for. Dropped packets are counted in Drops
// only, with the reason.
type Direction struct {
	Packets  uint64
	Segments uint64
	Bytes    uint64
	Calls    uint64 // batches handed over; system calls are one a packet
	Drops    [packet.NumReasons]uint64
}

// Dropped is the number of packets dropped for any reason.
func (d Direction) Dropped() (n uint64) {
	for _, c := range d.Drops {
		n += c
	}
	return n
}

// Add adds the counters of e.
func (d *Direction) Add(e Direction) {
	d.Packets += e.Packets
	d.Segments += e.Segments
	d.Bytes += e.Bytes
	d.Calls += e.Calls
	for i, c := range e.Drops {
		d.Drops[i] += c
	}
}

// Count adds one packet that got through.
func (d *Direction) Count(p *packet.Packet) {
	d.Packets++
	d.Segments += uint64(max(p.GSO.Segs, 1))
	d.Bytes += uint64(p.Len())
}

// Stats are a device's counters. Rx is from the kernel to this process.
type Stats struct{ Rx, Tx Direction }

// Counters is a Direction that many goroutines add to, a batch at a time.
type counters struct {
	packets, segments, bytes, calls atomic.Uint64

	drops [packet.NumReasons]atomic.Uint64
	_     [64]byte // the other direction is another goroutine's cache line
}

func (c *counters) add(d *Direction) {
	if d.Packets > 0 {
		c.packets.Add(d.Packets)
		c.segments.Add(d.Segments)
		c.bytes.Add(d.Bytes)
	}
	c.calls.Add(1)
}

func (c *counters) drop(r packet.Reason) { c.drops[r].Add(1) }

func (c *counters) load() (d Direction) {
	d.Packets, d.Segments = c.packets.Load(), c.segments.Load()
	d.Bytes, d.Calls = c.bytes.Load(), c.calls.Load()
	for i := range c.drops {
		d.Drops[i] = c.drops[i].Load()
	}
	return d
}
