package option

import "encoding/binary"

// Lengths in octets. MaxWords is the room for data in the largest option:
// its length octet says 255, and the trace header takes 10 of them.
const (
	HeaderLen = 4  // option type, length, reserved, IOAM option type
	TraceLen  = 12 // HeaderLen and the trace header
	MaxWords  = 61
)

// The flags of a trace (RFC 9197 section 4.4.1, RFC 9322).
const (
	flagOverflow = 1 << 10
	flagLoopback = 1 << 9
	flagActive   = 1 << 8
	remaining    = 0x7f
)

// Trace is a pre-allocated or incremental trace option (RFC 9197 section
// 4.4.1), from its option type to the end of its data or beyond.
//
//	0: option type   1: length    2: reserved   3: IOAM option type
//	4: namespace id              6: node length (5 bits), flags (4), remaining (7)
//	8: trace type (24 bits)                    11: reserved
//	12: data, newest node first after the unused room
type Trace []byte

// Valid reports whether the header, the length it states and the room it says
// is left are within the slice.
func (t Trace) Valid() bool {
	return len(t) >= TraceLen && int(t[1]) >= TraceLen-2 && len(t) >= int(t[1])+2 &&
		(t.Kind() == Incremental || int(t[1])+2 >= TraceLen+4*t.Remaining())
}

// Len is the length of the option in octets, the first two included.
func (t Trace) Len() int { return int(t[1]) + 2 }

// Kind is Preallocated or Incremental, if it is a trace at all.
func (t Trace) Kind() Kind { return Kind(t[3]) }

// Namespace is the namespace id, whose operator gives the data its meaning.
func (t Trace) Namespace() uint16 { return binary.BigEndian.Uint16(t[4:]) }

// NodeLen is what every node writes, in 4-octet units without the opaque
// snapshot.
func (t Trace) NodeLen() int { return int(t[6] >> 3) }

// Overflow says that a node found no room.
func (t Trace) Overflow() bool { return t.word()&flagOverflow != 0 }

// Loopback asks every node to send a copy back (RFC 9322 section 4).
func (t Trace) Loopback() bool { return t.word()&flagLoopback != 0 }

// Active marks a packet that was made for measurement (RFC 9322 section 5).
func (t Trace) Active() bool { return t.word()&flagActive != 0 }

// Remaining is the room left for data, in 4-octet units. In an incremental
// trace it is by how much the option may still grow.
func (t Trace) Remaining() int { return int(t[7] & remaining) }

// Type says which fields nodes write.
func (t Trace) Type() Type { return Type(binary.BigEndian.Uint32(t[8:]) >> 8) }

// TypeReserved is the trace type and the reserved octet behind it as one
// number, as Linux reports it in events.
func (t Trace) TypeReserved() uint32 { return binary.BigEndian.Uint32(t[8:]) }

// SetOverflow says that there was no room.
func (t Trace) SetOverflow() { t[6] |= flagOverflow >> 8 }

// ClearLoopback takes the request for a copy back.
func (t Trace) ClearLoopback() { t[6] &^= flagLoopback >> 8 }

// SetRemaining states the room left in 4-octet units, at most 127.
func (t Trace) SetRemaining(n int) { t[7] = t[7]&^remaining | byte(n)&remaining }

// Room is the data area: all of it, used or not. In an incremental trace all
// of it is used.
func (t Trace) Room() []byte { return t[TraceLen:t.Len()] }

// Recorded is the data that nodes have written, newest first.
func (t Trace) Recorded() []byte {
	if t.Kind() == Incremental {
		return t.Room()
	}
	return t[TraceLen+4*t.Remaining() : t.Len()]
}

func (t Trace) word() uint16 { return binary.BigEndian.Uint16(t[6:]) }

// TraceFields are the parts of a trace header.
type TraceFields struct {
	Kind      Kind // Preallocated or Incremental
	Namespace uint16
	Type      Type
	Words     int // room for data, 4-octet units
	Overflow  bool
	Loopback  bool
	Active    bool
	Reserved  uint8 // the octet behind the type
}

// OptionLen is the length of the option that Encode writes, in octets.
func (f *TraceFields) OptionLen() int {
	if f.Kind == Incremental {
		return TraceLen
	}
	return TraceLen + 4*f.Words
}

// Encode writes the option to b, its room cleared. b holds OptionLen octets
// or more.
func (f *TraceFields) Encode(b []byte) {
	n := f.OptionLen()
	clear(b[:n])
	b[0], b[1], b[3] = OptMutable, byte(n-2), byte(f.Kind)
	binary.BigEndian.PutUint16(b[4:], f.Namespace)
	w := uint16(f.Type.NodeLen())<<11 | uint16(f.Words)&remaining
	if f.Overflow {
		w |= flagOverflow
	}
	if f.Loopback {
		w |= flagLoopback
	}
	if f.Active {
		w |= flagActive
	}
	binary.BigEndian.PutUint16(b[6:], w)
	binary.BigEndian.PutUint32(b[8:], uint32(f.Type)<<8|uint32(f.Reserved))
}
