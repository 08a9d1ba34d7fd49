package option

import (
	"encoding/binary"
	"math/bits"
)

// E2EType is an IOAM-E2E-Type (RFC 9197 section 4.6): which fields follow.
type E2EType uint16

// The fields of the edge-to-edge option.
const (
	Sequence64  E2EType = 1 << (15 - iota) // 8 octets
	Sequence32                             // 4 octets, instead of the former
	E2ESeconds                             // when the packet entered the domain
	E2EFraction                            // the same, fraction (nanoseconds or microseconds: the sender's choice)
)

const e2eLen = HeaderLen + 4

// Valid reports whether no more than one sequence number and no unassigned
// bit is asked for.
func (t E2EType) Valid() bool {
	return t&0x0fff == 0 && t&(Sequence64|Sequence32) != Sequence64|Sequence32
}

func (t E2EType) dataLen() int {
	n := 4 * bits.OnesCount16(uint16(t&(Sequence32|E2ESeconds|E2EFraction)))
	if t&Sequence64 != 0 {
		n += 8
	}
	return n
}

// E2E is the edge-to-edge option: the encapsulating node writes it, the
// decapsulating node reads it, nobody between looks.
type E2E struct {
	Namespace uint16
	Type      E2EType
	Sequence  uint64
	Seconds   uint32
	Fraction  uint32 // microseconds, as in traces
}

// OptionLen is the length of the option on the wire in octets.
func (e *E2E) OptionLen() int { return e2eLen + e.Type.dataLen() }

// Encode writes the option to b, which holds OptionLen octets or more. RFC
// 9486 section 3 lets the option not change on the way: its type is 0x11.
func (e *E2E) Encode(b []byte) {
	n := e.OptionLen()
	b[0], b[1], b[2], b[3] = OptImmutable, byte(n-2), 0, byte(EdgeToEdge)
	binary.BigEndian.PutUint16(b[4:], e.Namespace)
	binary.BigEndian.PutUint16(b[6:], uint16(e.Type))
	b = b[e2eLen:]
	if e.Type&Sequence64 != 0 {
		binary.BigEndian.PutUint64(b, e.Sequence)
		b = b[8:]
	}
	for _, f := range [...]struct {
		t E2EType
		v uint32
	}{{Sequence32, uint32(e.Sequence)}, {E2ESeconds, e.Seconds}, {E2EFraction, e.Fraction}} {
		if e.Type&f.t != 0 {
			binary.BigEndian.PutUint32(b, f.v)
			b = b[4:]
		}
	}
}

// Decode reads an option of either option type and reports whether b holds a
// whole one.
func (e *E2E) Decode(b []byte) bool {
	if len(b) < e2eLen || int(b[1])+2 > len(b) || Kind(b[3]) != EdgeToEdge {
		return false
	}
	*e = E2E{Namespace: binary.BigEndian.Uint16(b[4:]), Type: E2EType(binary.BigEndian.Uint16(b[6:]))}
	if !e.Type.Valid() || int(b[1])+2 < e.OptionLen() {
		return false
	}
	b = b[e2eLen:]
	if e.Type&Sequence64 != 0 {
		e.Sequence = binary.BigEndian.Uint64(b)
		b = b[8:]
	}
	if e.Type&Sequence32 != 0 {
		e.Sequence = uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if e.Type&E2ESeconds != 0 {
		e.Seconds = binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	if e.Type&E2EFraction != 0 {
		e.Fraction = binary.BigEndian.Uint32(b)
	}
	return true
}
