package cm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MADLen is the length of a management datagram.
const MADLen = 256

// Header fields of every message here (IBTA 13.4.3, 16.7.1).
const (
	headerLen    = 24
	baseVersion  = 1
	classCM      = 0x07
	classVersion = 2
	methodSend   = 0x03
)

// Attribute says what message a MAD holds (IBTA 12.6, table 105).
type Attribute uint16

// Attributes.
const (
	AttrREQ     Attribute = 0x10
	AttrMRA     Attribute = 0x11
	AttrREJ     Attribute = 0x12
	AttrREP     Attribute = 0x13
	AttrRTU     Attribute = 0x14
	AttrDREQ    Attribute = 0x15
	AttrDREP    Attribute = 0x16
	AttrSIDRReq Attribute = 0x17
	AttrSIDRRep Attribute = 0x18
)

var attrNames = map[Attribute]string{
	AttrREQ: "REQ", AttrMRA: "MRA", AttrREJ: "REJ", AttrREP: "REP", AttrRTU: "RTU", AttrDREQ: "DREQ", AttrDREP: "DREP",
	AttrSIDRReq: "SIDR_REQ", AttrSIDRRep: "SIDR_REP",
}

// String returns the specification's name.
func (a Attribute) String() string {
	if n := attrNames[a]; n != "" {
		return n
	}
	return fmt.Sprintf("attribute-%#x", uint16(a))
}

// ErrMalformed is wrapped by errors about a MAD's contents.
var ErrMalformed = errors.New("cm: malformed management datagram")

// MAD is a management datagram of the communication class.
type MAD []byte

// Valid tells whether m is a CM message of this version, of whatever kind.
func (m MAD) Valid() bool {
	return len(m) >= MADLen && m[0] == baseVersion && m[1] == classCM && m[2] == classVersion && m[3] == methodSend
}

// TID returns the transaction ID: messages that answer one carry the same.
func (m MAD) TID() uint64 { return binary.BigEndian.Uint64(m[8:]) }

// Attribute returns what the message is.
func (m MAD) Attribute() Attribute { return Attribute(binary.BigEndian.Uint16(m[16:])) }

// body returns what follows the header.
func (m MAD) body() []byte { return m[headerLen:MADLen] }

// Message is one of the structs of this package, by pointer.
type Message interface {
	Attribute() Attribute
	// encode writes the message to a body that is zero.
	encode(b []byte)
	// decode reads a body.
	decode(b []byte)
}

// Encode makes the MAD of a message.
func Encode(tid uint64, m Message) MAD {
	b := make(MAD, MADLen)
	b[0], b[1], b[2], b[3] = baseVersion, classCM, classVersion, methodSend
	binary.BigEndian.PutUint64(b[8:], tid)
	binary.BigEndian.PutUint16(b[16:], uint16(m.Attribute()))
	m.encode(b.body())
	return b
}

// Decode reads a MAD. Private data in the result is a copy.
func Decode(b MAD) (Message, error) {
	if !b.Valid() {
		return nil, fmt.Errorf("%w: %d bytes, not of the communication class", ErrMalformed, len(b))
	}
	var m Message
	switch b.Attribute() {
	case AttrREQ:
		m = new(REQ)
	case AttrMRA:
		m = new(MRA)
	case AttrREJ:
		m = new(REJ)
	case AttrREP:
		m = new(REP)
	case AttrRTU:
		m = new(RTU)
	case AttrDREQ:
		m = new(DREQ)
	case AttrDREP:
		m = new(DREP)
	case AttrSIDRReq:
		m = new(SIDRReq)
	case AttrSIDRRep:
		m = new(SIDRRep)
	default:
		return nil, fmt.Errorf("%w: %v", ErrMalformed, b.Attribute())
	}
	m.decode(b.body())
	return m, nil
}

// Big endian helpers over a body: get and put a number of some bytes.

func u16(b []byte, off int) uint16      { return binary.BigEndian.Uint16(b[off:]) }
func u32(b []byte, off int) uint32      { return binary.BigEndian.Uint32(b[off:]) }
func u64(b []byte, off int) uint64      { return binary.BigEndian.Uint64(b[off:]) }
func u24(b []byte, off int) uint32      { return u32(b, off) >> 8 }
func put16(b []byte, off int, v uint16) { binary.BigEndian.PutUint16(b[off:], v) }
func put32(b []byte, off int, v uint32) { binary.BigEndian.PutUint32(b[off:], v) }
func put64(b []byte, off int, v uint64) { binary.BigEndian.PutUint64(b[off:], v) }
func put24(b []byte, off int, v uint32) {
	b[off], b[off+1], b[off+2] = byte(v>>16), byte(v>>8), byte(v)
}
func private(b []byte, off int) []byte   { return append([]byte(nil), b[off:]...) }
func copyTo(b []byte, off int, p []byte) { copy(b[off:], p) }
