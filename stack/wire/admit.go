package wire

import (
	"encoding/binary"

	"taproom/stack/packet"
)

// admitAllLocked judges frames that have just been written.
func (d *direction) admitAllLocked(batch []*packet.Packet) {
	now := d.clock.Now()
	for _, p := range batch {
		if off, ok := p.MAC(); !ok || off != 0 {
			p.ParseLink() // whatever else was there, a frame begins at Head
		}
		if !d.splitsLocked(p) {
			d.admitLocked(p, now)
			continue
		}
		if d.imp.losesOnly() && (d.imp.MTU == 0 || p.NetworkLen() <= d.imp.MTU) {
			d.thinLocked(p, now)
			continue
		}
		for s := range p.Segments() {
			d.admitLocked(s, now)
		}
		p.Release()
	}
}

// splitsLocked reports whether p is a super-frame whose segments may meet
// different fates.
func (d *direction) splitsLocked(p *packet.Packet) bool {
	if p.GSO.Type == packet.GSONone || d.imp.Down || d.closed {
		return false
	}
	return d.imp.judges() || d.imp.MTU > 0 && p.NetworkLen() > d.imp.MTU
}

// thinLocked loses some segments of a super-frame and keeps the others
// together: each segment has its own fate, in the order and by the dice that
// it would have had as a frame, but most super-frames lose none and stay
// whole, and what is left of one that does costs the far end a few frames
// instead of dozens. Without that, a loss of one in a thousand makes a wire
// ten times slower.
func (d *direction) thinLocked(p *packet.Packet, now int64) {
	if p.PrepareGSO() != nil { // it counts the segments
		d.admitLocked(p, now)
		return
	}
	d.fates = d.fates[:0]
	any := false
	for range max(p.GSO.Segs, 1) {
		lost := d.dice.lost(&d.imp)
		any = any || lost
		d.fates = append(d.fates, lost)
	}
	if !any {
		d.stats.Offered.add(p.Len())
		d.enqueueLocked(p, now)
		return
	}
	k, kept := 0, d.kept[:0]
	for s := range p.Segments() {
		if k < len(d.fates) && d.fates[k] {
			d.stats.Offered.add(s.Len())
			d.dropLocked(s, packet.WireLoss)
		} else {
			kept = append(kept, s)
		}
		k++
	}
	p.Release()
	for _, s := range d.gro.Coalesce(kept) {
		d.stats.Offered.add(s.Len())
		d.enqueueLocked(s, now)
	}
	clear(kept[:cap(kept)])
	d.kept = kept[:0]
}

// admitLocked decides the fate of one frame.
func (d *direction) admitLocked(p *packet.Packet, now int64) {
	i := &d.imp
	d.stats.Offered.add(p.Len())
	switch {
	case d.closed:
		d.dropLocked(p, packet.NodeClosed)
		return
	case i.Down:
		d.dropLocked(p, packet.DeviceDown)
		return
	case i.MTU > 0 && p.NetworkLen() > i.MTU:
		d.dropLocked(p, packet.TooBig)
		return
	case d.dice.lost(i):
		d.dropLocked(p, packet.WireLoss)
		return
	}
	if hit(d.dice.duplicate, i.Duplicate) {
		c := p.Clone()
		d.stats.Duplicated++
		d.stats.Offered.add(c.Len())
		d.enqueueLocked(c, now)
	}
	if hit(d.dice.corrupt, i.Corrupt) {
		d.corruptLocked(p)
	}
	d.enqueueLocked(p, now)
}

// enqueueLocked passes a frame through the line and gives it its due time.
func (d *direction) enqueueLocked(p *packet.Packet, now int64) {
	i, n := &d.imp, p.Len()
	if d.schedule.len() >= maxInFlight || d.schedule.bytes+n > maxInFlightBytes {
		d.dropLocked(p, packet.Backpressure)
		return
	}
	due := now
	if i.Rate > 0 {
		d.line.retire(now)
		if d.line.full(i, n) {
			d.dropLocked(p, packet.DeviceFull)
			return
		}
		if i.MarkPackets > 0 && d.line.packets() >= i.MarkPackets && markCE(p) {
			d.stats.Marked++
		}
		due = d.line.transmit(now, i.Rate, n)
	}
	if d.dice.overtakes(i) {
		if due < d.last && d.schedule.len() > 0 {
			d.stats.Reordered++
		}
	} else {
		due = max(due+int64(d.dice.delay(i)), d.last)
		d.last = due
	}
	if due <= now && d.schedule.len() == 0 {
		d.readyLocked(p)
		return
	}
	d.schedule.push(due, p)
}

// corruptLocked flips one bit, any bit of the frame. A checksum that has been
// left to the device is completed before: what goes over a line has one.
func (d *direction) corruptLocked(p *packet.Packet) {
	p.CompleteChecksum()
	p.CsumValid = false
	bit := d.dice.corrupt.IntN(p.Len() * 8)
	var b [1]byte
	p.CopyTo(b[:], bit/8)
	b[0] ^= 1 << (bit % 8)
	p.Store(b[:], bit/8)
	d.stats.Corrupted++
}

// linkLen is the length of the Ethernet header with the tags in the bytes.
func linkLen(p *packet.Packet) int {
	h := p.Head()
	n := packet.EthernetLen
	for len(h) >= n {
		switch binary.BigEndian.Uint16(h[n-2:]) {
		case packet.EtherVLAN, packet.EtherQinQ:
			n += 4
		default:
			return n
		}
	}
	return min(n, len(h))
}

// markCE sets the ECN field of an ECN-capable packet to CE (RFC 3168,
// section 5) and reports whether it did; one that is CE already stays so.
func markCE(p *packet.Packet) bool {
	const ce = 3
	off := linkLen(p)
	h := p.Head()
	if len(h) < off+20 {
		return false
	}
	ip := h[off:]
	switch ip[0] >> 4 {
	case 4:
		if ip[1]&ce == 0 || ip[1]&ce == ce {
			return false
		}
		old := binary.BigEndian.Uint16(ip)
		ip[1] |= ce
		sum := packet.Update16(binary.BigEndian.Uint16(ip[10:]), old, binary.BigEndian.Uint16(ip))
		binary.BigEndian.PutUint16(ip[10:], sum)
		return true
	case 6:
		old := ip[1] >> 4 & ce // traffic class is in the bits 4 to 11
		if old == 0 || old == ce {
			return false
		}
		ip[1] |= ce << 4
		return true
	}
	return false
}
