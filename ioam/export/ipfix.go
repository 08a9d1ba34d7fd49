package export

import (
	"encoding/binary"
	"time"

	"taproom/ioam"
)

// DocumentationPEN is the private enterprise number for examples (RFC 5612).
// The elements for IOAM that draft-spiegel-ippm-ioam-rawexport asks for have
// no numbers from IANA yet, so they are private ones.
const DocumentationPEN = 32473

// Private information elements for what IANA has no number for.
const (
	ElementNamespace = 1 // unsigned16
	ElementKind      = 2 // unsigned8: IOAM option type
	ElementTraceType = 3 // unsigned32: 24 bits of type, reserved octet
	ElementFlags     = 4 // unsigned8: 1 overflow, 2 active, 4 last node
	ElementSequence  = 5 // unsigned64: of edge-to-edge or direct export
	ElementNodeData  = 6 // octetArray, variable length: the data as recorded
)

const (
	ipfixVersion  = 10
	templateSetID = 2
	templateID    = 256
	enterprise    = 0x8000
	variable      = 0xffff
	headerLen     = 16
	fixedLen      = 8 + 16 + 16 + 4 + 1 + 2 + 2 + 4 + 2 + 1 + 4 + 1 + 8
)

// ipfixFields are the elements of a record with their lengths; IANA's are
// from the IPFIX registry.
var ipfixFields = [...]struct{ id, length uint16 }{
	{325, 8}, // observationTimeNanoseconds
	{27, 16}, // sourceIPv6Address
	{28, 16}, // destinationIPv6Address
	{31, 4},  // flowLabelIPv6
	{4, 1},   // protocolIdentifier
	{7, 2},   // sourceTransportPort
	{11, 2},  // destinationTransportPort
	{10, 4},  // ingressInterface
	{enterprise | ElementNamespace, 2},
	{enterprise | ElementKind, 1},
	{enterprise | ElementTraceType, 4},
	{enterprise | ElementFlags, 1},
	{enterprise | ElementSequence, 8},
	{enterprise | ElementNodeData, variable},
}

// IPFIX encodes events as messages of RFC 7011, for a UDP socket: every
// message is one datagram's payload. The zero value is not usable: see
// NewIPFIX. It is for one goroutine.
type IPFIX struct {
	domain   uint32
	pen      uint32
	every    int
	messages int
	sequence uint32
	size     int
	buf      []byte
	records  int
	data     int // offset of the data set
}

// NewIPFIX returns an encoder for an observation domain (the node's id, say).
// pen is the enterprise number of the private elements, 0 for
// DocumentationPEN. The template goes out in the first message and in every
// 16th after it (RFC 7011 section 8.1 wants it repeated over UDP).
func NewIPFIX(domain, pen uint32) *IPFIX {
	if pen == 0 {
		pen = DocumentationPEN
	}
	return &IPFIX{domain: domain, pen: pen, every: 16, size: 1400}
}

// Add appends an event and returns a message if one is full, else nil. The
// message is the caller's until the next call.
func (x *IPFIX) Add(e *ioam.Event) []byte {
	var full []byte
	if x.records > 0 && len(x.buf)+fixedLen+3+len(e.Data()) > x.size {
		full = x.Flush(time.Unix(0, e.Time))
		// What Flush returned lies in the old buffer.
		x.buf = make([]byte, 0, x.size)
	}
	if x.records == 0 {
		x.begin()
	}
	x.record(e)
	return full
}

func (x *IPFIX) begin() {
	x.buf = append(x.buf[:0], make([]byte, headerLen)...)
	if x.messages%x.every == 0 {
		x.template()
	}
	x.messages++
	x.data = len(x.buf)
	x.buf = binary.BigEndian.AppendUint16(x.buf, templateID)
	x.buf = binary.BigEndian.AppendUint16(x.buf, 0)
}

func (x *IPFIX) template() {
	at := len(x.buf)
	x.buf = binary.BigEndian.AppendUint16(x.buf, templateSetID)
	x.buf = binary.BigEndian.AppendUint16(x.buf, 0)
	x.buf = binary.BigEndian.AppendUint16(x.buf, templateID)
	x.buf = binary.BigEndian.AppendUint16(x.buf, uint16(len(ipfixFields)))
	for _, f := range ipfixFields {
		x.buf = binary.BigEndian.AppendUint16(x.buf, f.id)
		x.buf = binary.BigEndian.AppendUint16(x.buf, f.length)
		if f.id&enterprise != 0 {
			x.buf = binary.BigEndian.AppendUint32(x.buf, x.pen)
		}
	}
	binary.BigEndian.PutUint16(x.buf[at+2:], uint16(len(x.buf)-at))
}

func (x *IPFIX) record(e *ioam.Event) {
	b := x.buf
	b = appendNTP(b, e.Time)
	src, dst := address16(e.Src.As16, e.Src.IsValid()), address16(e.Dst.As16, e.Dst.IsValid())
	b = append(append(b, src[:]...), dst[:]...)
	b = binary.BigEndian.AppendUint32(b, e.FlowLabel)
	b = append(b, e.Proto)
	b = binary.BigEndian.AppendUint16(b, e.SrcPort)
	b = binary.BigEndian.AppendUint16(b, e.DstPort)
	b = binary.BigEndian.AppendUint32(b, uint32(e.In))
	b = binary.BigEndian.AppendUint16(b, e.Namespace)
	b = append(b, byte(e.Kind))
	b = binary.BigEndian.AppendUint32(b, e.Type)
	var flags byte
	for i, f := range [...]bool{e.Overflow, e.Active, e.Last} {
		if f {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, e.Sequence)
	data := e.Data()
	if len(data) < 255 { // RFC 7011 section 7
		b = append(b, byte(len(data)))
	} else {
		b = append(b, 255, byte(len(data)>>8), byte(len(data)))
	}
	x.buf = append(b, data...)
	x.records++
}

// Flush ends the message that is under way and returns it, nil if it is
// empty. It is the caller's until the next call.
func (x *IPFIX) Flush(now time.Time) []byte {
	if x.records == 0 {
		return nil
	}
	b := x.buf
	binary.BigEndian.PutUint16(b[x.data+2:], uint16(len(b)-x.data))
	binary.BigEndian.PutUint16(b, ipfixVersion)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(b[8:], x.sequence)
	binary.BigEndian.PutUint32(b[12:], x.domain)
	x.sequence += uint32(x.records)
	x.records = 0
	return b
}

// appendNTP appends a dateTimeNanoseconds: seconds since 1900 and a binary
// fraction (RFC 7011 section 6.1.10).
func appendNTP(b []byte, ns int64) []byte {
	const since1900 = 2208988800
	b = binary.BigEndian.AppendUint32(b, uint32(ns/1e9+since1900))
	return binary.BigEndian.AppendUint32(b, uint32(uint64(ns%1e9)<<32/1e9))
}

func address16(f func() [16]byte, ok bool) [16]byte {
	if !ok {
		return [16]byte{}
	}
	return f()
}
