package vm

import (
	"encoding/binary"
	"math/bits"
)

// Internet checksum arithmetic (RFC 1071) on 32-bit partial sums in memory order, as
// helpers take and return them.

// csumAdd is a one's complement addition.
func csumAdd(a, b uint32) uint32 {
	s, c := bits.Add32(a, b, 0)
	return s + c
}

func csumSub(a, b uint32) uint32 { return csumAdd(a, ^b) }

// csumFold16 folds a partial sum to 16 bits.
func csumFold16(s uint32) uint16 {
	return uint16((s + bits.RotateLeft32(s, 16)) >> 16)
}

// csumFold is the checksum that goes into a header.
func csumFold(s uint32) uint16 { return ^csumFold16(s) }

// csumPartial adds the bytes of b to a partial sum.
func csumPartial(b []byte, sum uint32) uint32 {
	s, c := uint64(sum), uint64(0)
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(last[:]), c)
	}
	s, c = bits.Add64(s, 0, c)
	s += c
	return csumAdd(uint32(s), uint32(s>>32))
}

// csumReplace4 updates a header checksum for a 4-byte field that changed.
func csumReplace4(sum uint16, from, to uint32) uint16 {
	return csumFold(csumAdd(csumSub(uint32(^sum), from), to))
}

// csumReplaceDiff updates it for a difference of partial sums.
func csumReplaceDiff(sum uint16, diff uint32) uint16 {
	return csumFold(csumAdd(diff, uint32(^sum)))
}

// csumReplace2 updates it for a 2-byte field.
func csumReplace2(sum, from, to uint16) uint16 {
	return ^csum16Add(csum16Add(^sum, ^from), to)
}

func csum16Add(a, b uint16) uint16 {
	s := a + b
	if s < b {
		s++
	}
	return s
}
