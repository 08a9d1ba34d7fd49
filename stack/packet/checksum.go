package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the 16-bit big-endian words of b to sum, as RFC 1071 does, and
// returns a sum that can be added to further. An odd last byte counts as the
// upper half of a word, so only the last piece of something may be odd.
func Sum(sum uint32, b []byte) uint32 {
	// One's-complement addition does not care about the order of bytes in a
	// word (RFC 1071 section 2(B)): 64-bit little-endian words are added with
	// their carries, and the folded sum is swapped once.
	var acc, carry uint64
	for len(b) >= 64 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[32:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[40:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[48:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[56:]), carry)
		acc += carry
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last uint64
		for i, c := range b {
			last |= uint64(c) << (8 * i)
		}
		acc, carry = bits.Add64(acc, last, 0)
		acc += carry
	}
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16&0xffff + acc>>32 + acc&0xffff
	folded := Fold(uint32(acc))
	sum += uint32(bits.ReverseBytes16(folded))
	if sum < uint32(bits.ReverseBytes16(folded)) {
		sum++
	}
	return sum
}

// Fold brings a sum down to 16 bits. The checksum is its complement.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	return uint16(sum)
}

// Checksum is the Internet checksum of b (RFC 1071).
func Checksum(b []byte) uint16 { return ^Fold(Sum(0, b)) }

// Update16 is the checksum after a covered 16-bit word changed from old to
// new (RFC 1624, equation 3).
func Update16(check, old, new uint16) uint16 {
	return ^Fold(uint32(^check) + uint32(^old) + uint32(new))
}

// Update32 is Update16 for an aligned 32-bit word.
func Update32(check uint16, old, new uint32) uint16 {
	check = Update16(check, uint16(old>>16), uint16(new>>16))
	return Update16(check, uint16(old), uint16(new))
}

// UpdateBytes is the checksum after covered bytes changed from old to new,
// which have the same even length and begin at an even offset.
func UpdateBytes(check uint16, old, new []byte) uint16 {
	return ^Fold(uint32(^check) + uint32(^Fold(Sum(0, old))) + uint32(Fold(Sum(0, new))))
}

// PseudoSum is the sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200
// section 8.1) of length bytes of proto in the IP packet whose header starts
// ip. A routing header that still has segments left changes the destination:
// then the sum is not the sender's.
func PseudoSum(ip []byte, proto uint8, length int) uint32 {
	sum := uint32(proto) + uint32(length>>16) + uint32(length&0xffff)
	if ip[0]>>4 == 4 {
		return Sum(sum, ip[12:20])
	}
	return Sum(sum, ip[8:40])
}

// sumFrom is the sum of the packet's bytes from offset start (in the linear
// part) to its end, across fragments of any length.
func (p *Packet) sumFrom(start int) uint32 {
	b := p.Head()[start:]
	sum := Sum(0, b)
	odd := len(b)&1 != 0
	for _, f := range p.frags {
		s := Fold(Sum(0, f))
		if odd {
			s = bits.ReverseBytes16(s)
		}
		sum = uint32(Fold(sum)) + uint32(s)
		odd = odd != (len(f)&1 != 0)
	}
	return sum
}

// CompleteChecksum finishes a partial checksum, if there is one, and reports
// whether its place is inside the packet; if it is not, the packet is as it
// was. A sum of zero is written as ffff, for every protocol, as Linux does
// (skb_checksum_help).
func (p *Packet) CompleteChecksum() bool {
	start, offset, ok := p.PartialChecksum()
	if !ok {
		return true
	}
	if start < 0 || !p.Pull(start+offset+2) {
		return false
	}
	check := ^Fold(p.sumFrom(start))
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(p.Head()[start+offset:], check)
	p.CsumPartial = false
	return true
}
