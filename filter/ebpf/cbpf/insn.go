package cbpf

import (
	"encoding/binary"
	"fmt"
)

// Insn is struct sock_filter of <linux/filter.h>.
type Insn struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// Parts of Code, as in <linux/bpf_common.h>.
const (
	ClassLD   = 0x00
	ClassLDX  = 0x01
	ClassST   = 0x02
	ClassSTX  = 0x03
	ClassALU  = 0x04
	ClassJMP  = 0x05
	ClassRET  = 0x06
	ClassMISC = 0x07

	SizeW = 0x00
	SizeH = 0x08
	SizeB = 0x10

	ModeImm = 0x00
	ModeAbs = 0x20
	ModeInd = 0x40
	ModeMem = 0x60
	ModeLen = 0x80
	ModeMsh = 0xa0

	OpAdd = 0x00
	OpSub = 0x10
	OpMul = 0x20
	OpDiv = 0x30
	OpOr  = 0x40
	OpAnd = 0x50
	OpLsh = 0x60
	OpRsh = 0x70
	OpNeg = 0x80
	OpMod = 0x90
	OpXor = 0xa0

	JmpA   = 0x00
	JmpEq  = 0x10
	JmpGT  = 0x20
	JmpGE  = 0x30
	JmpSet = 0x40

	SrcK = 0x00
	SrcX = 0x08
	RetA = 0x10

	MiscTAX = 0x00 // X = A
	MiscTXA = 0x80 // A = X
)

// MaxInsns is the greatest length of a filter (BPF_MAXINSNS).
const MaxInsns = 4096

// MemWords is the number of scratch words (BPF_MEMWORDS).
const MemWords = 16

// Offsets that mean something else than a place in the packet: see
// <linux/filter.h>.
const (
	ADOffset  = 0xfffff000 // -0x1000: ancillary data
	NetOffset = 0xfff00000 // -0x100000: relative to the network header
	LLOffset  = 0xffe00000 // -0x200000: relative to the link-layer header
)

// Ancillary data, as loaded from ADOffset plus the number.
const (
	ADProtocol       = 0
	ADPktType        = 4
	ADIfindex        = 8
	ADNlattr         = 12
	ADNlattrNest     = 16
	ADMark           = 20
	ADQueue          = 24
	ADHatype         = 28
	ADRXHash         = 32
	ADCPU            = 36
	ADAluXorX        = 40
	ADVLANTag        = 44
	ADVLANTagPresent = 48
	ADPayOffset      = 52
	ADRandom         = 56
	ADVLANTPID       = 60
	adEnd            = 64
)

// ancillary returns the number of the ancillary data that k names, false if it
// names none.
func ancillary(k uint32) (uint32, bool) {
	n := k - ADOffset
	return n, k >= ADOffset && n < adEnd && n%4 == 0
}

// Size is the size of an encoded instruction in bytes.
const Size = 8

// Decode reads instructions as the kernel takes them: struct sock_filter in the
// machine's byte order, which is little-endian.
func Decode(b []byte) ([]Insn, error) {
	if len(b)%Size != 0 {
		return nil, fmt.Errorf("cbpf: %d bytes are not whole instructions", len(b))
	}
	insns := make([]Insn, len(b)/Size)
	for n := range insns {
		s := b[n*Size:]
		insns[n] = Insn{binary.LittleEndian.Uint16(s), s[2], s[3], binary.LittleEndian.Uint32(s[4:])}
	}
	return insns, nil
}

// Encode is the inverse of Decode.
func Encode(insns []Insn) []byte {
	b := make([]byte, 0, len(insns)*Size)
	for _, i := range insns {
		b = binary.LittleEndian.AppendUint16(b, i.Code)
		b = append(b, i.JT, i.JF)
		b = binary.LittleEndian.AppendUint32(b, i.K)
	}
	return b
}
