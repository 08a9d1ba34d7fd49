package option

import "encoding/binary"

// The extension flags of direct export that say which optional field follows
// (RFC 9326 section 3.2).
const (
	DEXFlowID   = 0x80
	DEXSequence = 0x40
)

const dexLen = HeaderLen + 8

// DEX is the direct export option (RFC 9326 section 3.2): nodes export what
// they would have written into a trace of this type, and leave the packet
// alone.
type DEX struct {
	Namespace uint16
	Flags     uint8 // none is defined
	Extension uint8 // DEXFlowID, DEXSequence
	Type      Type
	FlowID    uint32
	Sequence  uint32
}

// OptionLen is the length of the option on the wire in octets.
func (d *DEX) OptionLen() int {
	n := dexLen
	if d.Extension&DEXFlowID != 0 {
		n += 4
	}
	if d.Extension&DEXSequence != 0 {
		n += 4
	}
	return n
}

// Encode writes the option to b, which holds OptionLen octets or more.
func (d *DEX) Encode(b []byte) {
	n := d.OptionLen()
	b[0], b[1], b[2], b[3] = OptImmutable, byte(n-2), 0, byte(DirectExport)
	binary.BigEndian.PutUint16(b[4:], d.Namespace)
	b[6], b[7] = d.Flags, d.Extension
	binary.BigEndian.PutUint32(b[8:], uint32(d.Type)<<8)
	b = b[dexLen:]
	if d.Extension&DEXFlowID != 0 {
		binary.BigEndian.PutUint32(b, d.FlowID)
		b = b[4:]
	}
	if d.Extension&DEXSequence != 0 {
		binary.BigEndian.PutUint32(b, d.Sequence)
	}
}

// Decode reads an option of either option type and reports whether b holds a
// whole one.
func (d *DEX) Decode(b []byte) bool {
	if len(b) < dexLen || int(b[1])+2 > len(b) || Kind(b[3]) != DirectExport {
		return false
	}
	*d = DEX{
		Namespace: binary.BigEndian.Uint16(b[4:]), Flags: b[6], Extension: b[7],
		Type: Type(binary.BigEndian.Uint32(b[8:]) >> 8),
	}
	if int(b[1])+2 < d.OptionLen() {
		return false
	}
	b = b[dexLen:]
	if d.Extension&DEXFlowID != 0 {
		d.FlowID = binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	if d.Extension&DEXSequence != 0 {
		d.Sequence = binary.BigEndian.Uint32(b)
	}
	return true
}
