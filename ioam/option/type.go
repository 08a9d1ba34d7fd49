package option

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// The IPv6 option types of IOAM (RFC 9486 section 3). Both ask nodes that do
// not know them to skip the option; the first may change on the way.
const (
	OptMutable   = 0x31
	OptImmutable = 0x11
)

// Kind is the IOAM Option-Type octet (RFC 9197 section 8.1).
type Kind uint8

// The kinds of IOAM options.
const (
	Preallocated Kind = iota
	Incremental
	ProofOfTransit
	EdgeToEdge
	DirectExport
)

var kindNames = [...]string{"prealloc", "incremental", "pot", "e2e", "dex"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "type " + strconv.Itoa(int(k))
}

// Type is an IOAM-Trace-Type (RFC 9197 section 4.4.1): 24 bits, bit 0 being
// the most significant. A bit set is a field that every node writes.
type Type uint32

// The fields (RFC 9197 section 4.4.2). Wide ones take 8 octets, Opaque a
// variable number, all others 4.
const (
	HopNode         Type = 1 << (23 - iota) // hop limit and node id
	Interfaces                              // ingress and egress interface ids
	Seconds                                 // receive time, seconds
	Fraction                                // receive time, fraction
	TransitDelay                            // time spent in the node
	Data                                    // what the namespace says
	QueueDepth                              // of the egress queue
	Checksum                                // complement that hides the change from a transport checksum
	HopNodeWide                             // hop limit and 56-bit node id
	InterfacesWide                          // 32-bit interface ids
	DataWide                                // 64 bits of the namespace's data
	BufferOccupancy                         // of the buffers the packet went through
)

// Opaque is the opaque state snapshot (bit 22), Reserved the last bit, which
// stands for no field. Undefined are the bits without a meaning yet; Linux
// writes ones for them.
const (
	Opaque    Type = 1 << 1
	Reserved  Type = 1
	Undefined Type = 0x000ffc
	All       Type = 0xffffff
)

const (
	shortFields = 0xff1ffc // 4 octets each
	wideFields  = 0x00e000 // 8 octets each
)

// NodeLen is how many 4-octet units every node writes, the opaque snapshot
// not counted (RFC 9197 section 4.4.1).
func (t Type) NodeLen() int {
	return bits.OnesCount32(uint32(t)&shortFields) + 2*bits.OnesCount32(uint32(t)&wideFields)
}

// Has reports whether all the fields of u are in t.
func (t Type) Has(u Type) bool { return t&u == u }

var fieldNames = [12]string{
	"hop-node", "interfaces", "seconds", "fraction", "delay", "data", "queue", "checksum",
	"hop-node-wide", "interfaces-wide", "data-wide", "buffer",
}

// String is the six hexadecimal digits that ip route shows.
func (t Type) String() string { return fmt.Sprintf("0x%06x", uint32(t)) }

// Fields names the fields, separated by commas.
func (t Type) Fields() string {
	var s []string
	for i := range 24 {
		if t&(1<<(23-i)) == 0 {
			continue
		}
		switch {
		case i < len(fieldNames):
			s = append(s, fieldNames[i])
		case i == 22:
			s = append(s, "opaque")
		default:
			s = append(s, "bit"+strconv.Itoa(i))
		}
	}
	return strings.Join(s, ",")
}

// ParseType reads a trace type: a number (0xc00000) or field names separated
// by commas (hop-node,interfaces).
func ParseType(s string) (Type, error) {
	if n, err := strconv.ParseUint(s, 0, 32); err == nil {
		if n > uint64(All) {
			return 0, fmt.Errorf("option: trace type %s has more than 24 bits", s)
		}
		return Type(n), nil
	}
	var t Type
	for name := range strings.SplitSeq(s, ",") {
		f := fieldByName(strings.TrimSpace(name))
		if f == 0 {
			return 0, fmt.Errorf("option: no trace field %q (one of %s, opaque)", name, strings.Join(fieldNames[:], ", "))
		}
		t |= f
	}
	return t, nil
}

func fieldByName(name string) Type {
	for i, n := range fieldNames {
		if n == name {
			return 1 << (23 - i)
		}
	}
	if name == "opaque" {
		return Opaque
	}
	return 0
}
