package option

import (
	"encoding/binary"
	"errors"
	"iter"
)

// ErrTruncated: the data ends in the middle of a node's record.
var ErrTruncated = errors.New("option: trace data ends within a node's record")

// All-ones is what nodes write for a field they have no value for.
const (
	Unset16 = 0xffff
	Unset32 = 0xffffffff
	Unset64 = 0xffffffffffffffff
)

// Hop is what one node wrote (RFC 9197 section 4.4.2). Which fields count is
// up to Type; the others are zero.
type Hop struct {
	Type           Type
	HopLimit       uint8  // at the time of writing, from the short or the wide field
	NodeID         uint32 // 24 bits
	NodeIDWide     uint64 // 56 bits
	Ingress        uint16
	Egress         uint16
	IngressWide    uint32
	EgressWide     uint32
	Seconds        uint32
	Fraction       uint32 // microseconds, from Linux nodes
	TransitDelay   uint32 // nanoseconds
	Data           uint32
	DataWide       uint64
	QueueDepth     uint32 // octets, from Linux nodes
	Checksum       uint32
	Buffer         uint32
	Schema         uint32 // schema id, 24 bits
	Opaque         []byte // the opaque snapshot; a part of the trace's bytes
	SchemaRecorded bool   // Opaque is in Type, and a schema was known
}

// Time is the receive time in nanoseconds since 1970, and whether the node
// wrote both halves of it in the form Linux uses (POSIX seconds and
// microseconds).
func (h *Hop) Time() (int64, bool) {
	if !h.Type.Has(Seconds|Fraction) || h.Seconds == Unset32 || h.Fraction >= 1e6 {
		return 0, false
	}
	return int64(h.Seconds)*1e9 + int64(h.Fraction)*1e3, true
}

// ID is the node's id: the wide one if it was recorded, else the short one.
func (h *Hop) ID() (id uint64, ok bool) {
	switch {
	case h.Type&HopNodeWide != 0 && h.NodeIDWide != 1<<56-1:
		return h.NodeIDWide, true
	case h.Type&HopNode != 0 && h.NodeID != 1<<24-1:
		return uint64(h.NodeID), true
	}
	return 0, false
}

// Decode reads one node's record of the given type from the start of b and
// returns how long it is.
func (h *Hop) Decode(t Type, b []byte) (int, error) {
	n := 4 * t.NodeLen()
	if len(b) < n {
		return 0, ErrTruncated
	}
	*h = Hop{Type: t}
	off := 0
	short := func(f Type) uint32 {
		if t&f == 0 {
			return 0
		}
		off += 4
		return binary.BigEndian.Uint32(b[off-4:])
	}
	wide := func(f Type) uint64 {
		if t&f == 0 {
			return 0
		}
		off += 8
		return binary.BigEndian.Uint64(b[off-8:])
	}
	v := short(HopNode)
	h.HopLimit, h.NodeID = uint8(v>>24), v&0xffffff
	v = short(Interfaces)
	h.Ingress, h.Egress = uint16(v>>16), uint16(v)
	h.Seconds, h.Fraction = short(Seconds), short(Fraction)
	h.TransitDelay, h.Data, h.QueueDepth, h.Checksum = short(TransitDelay), short(Data), short(QueueDepth), short(Checksum)
	if w := wide(HopNodeWide); t&HopNodeWide != 0 {
		h.HopLimit, h.NodeIDWide = uint8(w>>56), w&(1<<56-1)
	}
	w := wide(InterfacesWide)
	h.IngressWide, h.EgressWide = uint32(w>>32), uint32(w)
	h.DataWide = wide(DataWide)
	h.Buffer = short(BufferOccupancy)
	if t&Opaque == 0 {
		return n, nil
	}
	return h.decodeOpaque(n, b)
}

func (h *Hop) decodeOpaque(n int, b []byte) (int, error) {
	if len(b) < n+4 {
		return 0, ErrTruncated
	}
	v := binary.BigEndian.Uint32(b[n:])
	words := int(v >> 24)
	n += 4
	if len(b) < n+4*words {
		return 0, ErrTruncated
	}
	h.Schema, h.Opaque = v&0xffffff, b[n:n+4*words]
	h.SchemaRecorded = v != 0x00ffffff
	return n + 4*words, nil
}

// Hops yields the records in a trace, newest first. It stops after an error.
// The Hop is the caller's only until the next one. Data that no record fits
// into at the end (a trace that was not empty when the first node wrote) is
// reported as ErrTruncated.
func (t Trace) Hops() iter.Seq2[*Hop, error] {
	return func(yield func(*Hop, error) bool) {
		b := t.Recorded()
		typ := t.Type()
		if typ.NodeLen() == 0 && typ&Opaque == 0 {
			return
		}
		var h Hop
		for len(b) > 0 {
			n, err := h.Decode(typ, b)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&h, nil) {
				return
			}
			b = b[n:]
		}
	}
}
