package ioam

import (
	"encoding/binary"

	"taproom/ioam/option"
	"taproom/stack/packet"
)

// record adds this node's data to a valid pre-allocated trace of a known
// namespace (RFC 9197 section 4.4.1), or sets the overflow flag.
func (a *arrival) record(t option.Trace, ns *namespace) {
	word := binary.BigEndian.Uint16(t[6:])
	if word&overflowFlag != 0 {
		a.n.counters.add(Overflowed)
		return
	}
	typ, left := t.Type(), int(word&0x7f)
	need := ns.need(typ)
	// A type without fields needs nothing, but in a full trace even that
	// overflows, as on Linux.
	if left == 0 || left < need {
		t.SetOverflow()
		a.n.counters.add(Overflowed)
		return
	}
	left -= need
	t[7] = t[7]&0x80 | byte(left)
	at := option.TraceLen + 4*left
	data := t[at : at+4*need]
	if typ&option.Checksum != 0 && a.s.extras.Checksum {
		a.fillNeutral(t, data, typ, ns)
	} else {
		a.fill(data, typ, ns)
	}
	a.n.counters.add(Filled)
}

const overflowFlag = 1 << 10

// fill writes one node's record (RFC 9197 section 4.4.2) over d, which is
// exactly as long. This is the hot path: no calls for the usual fields, one
// store each.
func (a *arrival) fill(d []byte, t option.Type, ns *namespace) {
	s := a.s
	if t&option.HopNode != 0 {
		binary.BigEndian.PutUint32(d, uint32(a.hop)<<24|s.nodeID)
		d = d[4:]
	}
	if t&option.Interfaces != 0 {
		binary.BigEndian.PutUint32(d, uint32(a.in.id)<<16|uint32(a.egress().id))
		d = d[4:]
	}
	if t&(option.Seconds|option.Fraction) != 0 {
		d = a.fillTime(d, t)
	}
	if t&^(option.HopNode|option.Interfaces|option.Seconds|option.Fraction) != 0 {
		a.fillRest(d, t, ns)
	}
}

// egress is the interface the packet leaves by, or one with unset ids.
func (a *arrival) egress() *ifState {
	if !a.routed {
		a.route()
	}
	if a.out == nil {
		return &noInterface
	}
	return a.out
}

// fillTime writes the receive time in POSIX seconds and microseconds, both
// from one reading. A packet that was not received has none.
func (a *arrival) fillTime(d []byte, t option.Type) []byte {
	sec, usec := uint32(unset32), uint32(unset32)
	if !a.sent || a.p.In != 0 || a.s.extras.LocalTime || a.s.extras.Seed {
		now := uint64(a.now())
		sec = uint32(now / 1e9)
		usec = uint32(now % 1e9 / 1e3)
	}
	if t&option.Seconds != 0 {
		binary.BigEndian.PutUint32(d, sec)
		d = d[4:]
	}
	if t&option.Fraction != 0 {
		binary.BigEndian.PutUint32(d, usec)
		d = d[4:]
	}
	return d
}

// fillRest writes the fields from bit 4 on.
func (a *arrival) fillRest(d []byte, t option.Type, ns *namespace) {
	s := a.s
	if t&option.TransitDelay != 0 {
		binary.BigEndian.PutUint32(d, a.transitDelay())
		d = d[4:]
	}
	if t&option.Data != 0 {
		binary.BigEndian.PutUint32(d, ns.data)
		d = d[4:]
	}
	if t&option.QueueDepth != 0 {
		binary.BigEndian.PutUint32(d, a.queueDepth())
		d = d[4:]
	}
	if t&option.Checksum != 0 {
		binary.BigEndian.PutUint32(d, unset32)
		d = d[4:]
	}
	if t&option.HopNodeWide != 0 {
		binary.BigEndian.PutUint64(d, uint64(a.hop)<<56|s.nodeIDWide)
		d = d[8:]
	}
	if t&option.InterfacesWide != 0 {
		binary.BigEndian.PutUint64(d, uint64(a.in.idWide)<<32|uint64(a.egress().idWide))
		d = d[8:]
	}
	if t&option.DataWide != 0 {
		binary.BigEndian.PutUint64(d, ns.wide)
		d = d[8:]
	}
	if t&option.BufferOccupancy != 0 {
		binary.BigEndian.PutUint32(d, a.buffer())
		d = d[4:]
	}
	for u := t & option.Undefined; u != 0; u &= u - 1 {
		binary.BigEndian.PutUint32(d, unset32)
		d = d[4:]
	}
	if t&option.Opaque != 0 {
		ns.putOpaque(d)
	}
}

// queueDepth is how many octets wait before this packet. Linux does not say
// for a packet whose receive queue number the egress device does not have: it
// would index its queues with it.
func (a *arrival) queueDepth() uint32 {
	out := a.egress()
	if a.out == nil || a.s.extras.Seed || int(a.p.Queue) >= out.txQueues && !a.s.extras.QueueAlways {
		return unset32
	}
	return a.n.backlog(a.index)
}

func (a *arrival) buffer() uint32 {
	if f := a.s.extras.Buffer; f != nil {
		if v, ok := f(); ok {
			return v
		}
	}
	return unset32
}

// delayPending is what bit 4 holds until the packet leaves: the overflow bit
// with a value that RFC 9197 section 4.4.2.5 never combines with it.
const delayPending = 0xfffffffe

func (a *arrival) transitDelay() uint32 {
	if a.s.extras.TransitDelay && a.p.In != 0 {
		return delayPending
	}
	return unset32
}

// fillNeutral fills a record whose checksum complement leaves the ones'
// complement sum of the option as it was (RFC 9197 section 4.4.2.8), so that
// a transport checksum over it stays right. The remaining length has been
// counted down already; by how much follows from the length of the data.
func (a *arrival) fillNeutral(t option.Trace, d []byte, typ option.Type, ns *namespace) {
	before := packet.Fold(packet.Sum(0, d) + uint32(len(d)/4))
	a.fill(d, typ, ns)
	off := 4 * (typ & (option.HopNode | option.Interfaces | option.Seconds | option.Fraction |
		option.TransitDelay | option.Data | option.QueueDepth)).NodeLen()
	binary.BigEndian.PutUint32(d[off:], 0)
	// before - after, in ones' complement.
	diff := uint32(before) + uint32(^packet.Fold(packet.Sum(0, d)))
	binary.BigEndian.PutUint16(d[off:], packet.Fold(diff))
}
