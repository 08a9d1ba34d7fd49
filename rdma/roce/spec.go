package roce

import (
	"encoding/binary"
	"fmt"
)

// Spec describes a whole packet: an inert value from which Append makes bytes,
// and which [Packet.Spec] gets back from them. Headers that the opcode does not
// have are ignored. It is for tests, tools and rare packets; the data path
// writes headers in place.
type Spec struct {
	Path
	ID uint16 // IPv4 identification
	// BTH. Pad is computed, not read.
	BTH       BTHFields
	DETH      DETHFields
	FETH      FETHFields
	RETH      RETHFields
	AtomicETH AtomicETHFields
	AETH      AETHFields
	Original  uint64 // AtomicAckETH
	Imm       uint32
	InvRKey   uint32 // IETH
	Payload   []byte // not copied by Packet.Spec
}

// Append appends the packet, IP header to ICRC, to dst. It fails for an unknown
// opcode, for payload where none belongs, and where the packet is too long for
// its IP header.
func (s *Spec) Append(dst []byte) ([]byte, error) {
	op := s.BTH.Opcode
	info := op.Info()
	switch {
	case !info.Known:
		return dst, fmt.Errorf("%w %#02x", ErrOpcode, uint8(op))
	case len(s.Payload) > 0 && !info.Payload:
		return dst, fmt.Errorf("%w: %v with payload", ErrMalformed, op)
	case !s.Src.IsValid() || !s.Dst.IsValid() || s.Src.Unmap().Is4() != s.Dst.Unmap().Is4():
		return dst, fmt.Errorf("%w: from %v to %v", ErrMalformed, s.Src, s.Dst)
	}
	pad := PadFor(len(s.Payload))
	n := op.HeaderLen() + len(s.Payload) + pad + ICRCLen
	hdr := s.HeaderLen()
	if hdr+n > 0xffff {
		return dst, fmt.Errorf("%w: payload of %d bytes", ErrMalformed, len(s.Payload))
	}
	start := len(dst)
	dst = append(dst, make([]byte, hdr+n)...)
	p := dst[start:]
	s.Put(p, n, s.ID)
	s.put(p[hdr:], info, pad)
	PutICRC(p)
	return dst, nil
}

// put writes BTH, extension headers and payload to b, which is zero.
func (s *Spec) put(b []byte, info *Info, pad int) {
	f := s.BTH
	f.Pad = uint8(pad)
	BTH(b).Encode(&f)
	v := Body{BTH: BTH(b), info: info}
	if h := v.DETH(); h != nil {
		h.Encode(&s.DETH)
	}
	if h := v.FETH(); h != nil {
		h.Encode(&s.FETH)
	}
	if h := v.RETH(); h != nil {
		h.Encode(&s.RETH)
	}
	if h := v.AtomicETH(); h != nil {
		h.Encode(&s.AtomicETH)
	}
	if h := v.AETH(); h != nil {
		h.Encode(&s.AETH)
	}
	if h := v.AtomicAckETH(); h != nil {
		h.Encode(s.Original)
	}
	if h := v.ImmDt(); h != nil {
		h.Encode(s.Imm)
	}
	if h := v.IETH(); h != nil {
		h.Encode(s.InvRKey)
	}
	copy(b[BTHLen+int(info.ExtLen):], s.Payload)
}

// Spec returns the contents of the packet. Its Payload shares the packet's
// memory.
func (p *Packet) Spec() Spec {
	s := Spec{
		Path: Path{Src: p.Src(), Dst: p.Dst(), SrcPort: p.SrcPort(), TOS: p.TOS(), TTL: p.TTL()},
		ID:   p.ID(), BTH: p.BTH.Fields(), Payload: p.Payload,
	}
	if p.V6() {
		s.FlowLabel = binary.BigEndian.Uint32(p.IP) & 0xfffff
	}
	if h := p.DETH(); h != nil {
		s.DETH = h.Fields()
	}
	if h := p.FETH(); h != nil {
		s.FETH = h.Fields()
	}
	if h := p.RETH(); h != nil {
		s.RETH = h.Fields()
	}
	if h := p.AtomicETH(); h != nil {
		s.AtomicETH = h.Fields()
	}
	if h := p.AETH(); h != nil {
		s.AETH = h.Fields()
	}
	if h := p.AtomicAckETH(); h != nil {
		s.Original = h.Original()
	}
	if h := p.ImmDt(); h != nil {
		s.Imm = h.Value()
	}
	if h := p.IETH(); h != nil {
		s.InvRKey = h.RKey()
	}
	return s
}
