package roce

import "encoding/binary"

// BTHLen is the length of a base transport header.
const BTHLen = 12

// DefaultPKey is the full-membership default partition key (IBTA 10.9.1.2).
const DefaultPKey = 0xffff

// Offsets in the base transport header (IBTA 9.2, figure 45).
const (
	bthOpcode = 0
	bthFlags  = 1 // SE 0x80, MigReq 0x40, PadCnt 0x30, TVer 0x0f
	bthPKey   = 2
	bthECN    = 4 // FECN 0x80, BECN 0x40 (IBTA A17.9.3); masked in the ICRC
	bthDestQP = 5
	bthAckReq = 8 // 0x80; the rest is reserved, and covered by the ICRC
	bthPSN    = 9
)

// BTH is a base transport header, the first of every packet.
type BTH []byte

// BTHFields are the contents of a BTH.
type BTHFields struct {
	Opcode    Opcode
	Solicited bool  // SE: the receiver's completion is a solicited event
	MigReq    bool  // automatic path migration state; rxe sends 0, some hardware 1
	Pad       uint8 // bytes added to make the payload a multiple of four, 0..3
	TVer      uint8 // transport header version, 0
	PKey      uint16
	FECN      bool   // a switch met congestion on the way here
	BECN      bool   // the receiver of our packets met congestion
	DestQP    uint32 // 24 bits
	AckReq    bool
	PSN       PSN
}

// Valid tells whether b is long enough, its version 0 and its opcode known.
func (b BTH) Valid() bool {
	return len(b) >= BTHLen && b[bthFlags]&0x0f == 0 && table[b[bthOpcode]].Known
}

// Encode writes all twelve bytes.
func (b BTH) Encode(f *BTHFields) {
	b[bthOpcode] = uint8(f.Opcode)
	b[bthFlags] = bit(f.Solicited, 0x80) | bit(f.MigReq, 0x40) | f.Pad<<4&0x30 | f.TVer&0x0f
	binary.BigEndian.PutUint16(b[bthPKey:], f.PKey)
	b[bthECN] = bit(f.FECN, 0x80) | bit(f.BECN, 0x40)
	putUint24(b[bthDestQP:], f.DestQP)
	b[bthAckReq] = bit(f.AckReq, 0x80)
	putUint24(b[bthPSN:], uint32(f.PSN))
}

// Fields returns the contents of b.
func (b BTH) Fields() BTHFields {
	return BTHFields{
		Opcode: b.Opcode(), Solicited: b.Solicited(), MigReq: b.MigReq(), Pad: uint8(b.Pad()), TVer: b.TVer(),
		PKey: b.PKey(), FECN: b.FECN(), BECN: b.BECN(), DestQP: b.DestQP(), AckReq: b.AckReq(), PSN: b.PSN(),
	}
}

// Opcode returns the opcode.
func (b BTH) Opcode() Opcode { return Opcode(b[bthOpcode]) }

// SetOpcode sets the opcode.
func (b BTH) SetOpcode(o Opcode) { b[bthOpcode] = uint8(o) }

// Solicited returns the solicited event bit.
func (b BTH) Solicited() bool { return b[bthFlags]&0x80 != 0 }

// SetSolicited sets the solicited event bit.
func (b BTH) SetSolicited(v bool) { setBit(&b[bthFlags], 0x80, v) }

// MigReq returns the migration request bit. Receivers accept either value.
func (b BTH) MigReq() bool { return b[bthFlags]&0x40 != 0 }

// SetMigReq sets the migration request bit.
func (b BTH) SetMigReq(v bool) { setBit(&b[bthFlags], 0x40, v) }

// Pad returns the number of pad bytes before the ICRC, 0..3.
func (b BTH) Pad() int { return int(b[bthFlags] >> 4 & 3) }

// SetPad sets the number of pad bytes, 0..3.
func (b BTH) SetPad(n int) { b[bthFlags] = b[bthFlags]&^0x30 | uint8(n)<<4&0x30 }

// TVer returns the transport header version; 0 is the only one there is.
func (b BTH) TVer() uint8 { return b[bthFlags] & 0x0f }

// PKey returns the partition key.
func (b BTH) PKey() uint16 { return binary.BigEndian.Uint16(b[bthPKey:]) }

// SetPKey sets the partition key.
func (b BTH) SetPKey(k uint16) { binary.BigEndian.PutUint16(b[bthPKey:], k) }

// FECN returns the forward congestion bit.
func (b BTH) FECN() bool { return b[bthECN]&0x80 != 0 }

// SetFECN sets the forward congestion bit.
func (b BTH) SetFECN(v bool) { setBit(&b[bthECN], 0x80, v) }

// BECN returns the backward congestion bit.
func (b BTH) BECN() bool { return b[bthECN]&0x40 != 0 }

// SetBECN sets the backward congestion bit.
func (b BTH) SetBECN(v bool) { setBit(&b[bthECN], 0x40, v) }

// DestQP returns the 24-bit number of the queue pair the packet is for.
func (b BTH) DestQP() uint32 { return uint24(b[bthDestQP:]) }

// SetDestQP sets the destination queue pair.
func (b BTH) SetDestQP(n uint32) { putUint24(b[bthDestQP:], n) }

// AckReq returns the acknowledge request bit.
func (b BTH) AckReq() bool { return b[bthAckReq]&0x80 != 0 }

// SetAckReq sets the acknowledge request bit.
func (b BTH) SetAckReq(v bool) { setBit(&b[bthAckReq], 0x80, v) }

// PSN returns the packet sequence number.
func (b BTH) PSN() PSN { return PSN(uint24(b[bthPSN:])) }

// SetPSN sets the packet sequence number.
func (b BTH) SetPSN(p PSN) { putUint24(b[bthPSN:], uint32(p)) }

func uint24(b []byte) uint32 { _ = b[2]; return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

func putUint24(b []byte, v uint32) {
	_ = b[2]
	b[0], b[1], b[2] = byte(v>>16), byte(v>>8), byte(v)
}

func bit(v bool, mask uint8) uint8 {
	if v {
		return mask
	}
	return 0
}

func setBit(p *byte, mask uint8, v bool) { *p = *p&^mask | bit(v, mask) }
