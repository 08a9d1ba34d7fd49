package verifier

import "taproom/filter/ebpf"

// learnPacket draws conclusions from comparing a packet pointer with the end of
// the packet, or a metadata pointer with its start: below the end, all bytes up
// to the pointer are there, for every pointer with the same variable part.
func (v *verifier) learnPacket(s *state, op uint8, dst, src *reg, holds bool) {
	p, limit := dst, src
	if !packetBorder(p, limit) {
		p, limit, op = src, dst, flip(op)
		if !packetBorder(p, limit) {
			return
		}
	}
	switch op {
	case ebpf.JmpGT, ebpf.JmpGE, ebpf.JmpLT, ebpf.JmpLE:
	default:
		return
	}
	above := op == ebpf.JmpGT || op == ebpf.JmpGE
	if above == holds {
		// At or past the end.
		if p.kind == ptrPacket {
			p.rng = atEnd
			if strict := op == ebpf.JmpGT || op == ebpf.JmpLE; strict {
				p.rng = beyondEnd
			}
		}
		return
	}
	// Before the end: strictly if equality was on the other side.
	inside := *p
	v.extend(s, &inside, op == ebpf.JmpGE || op == ebpf.JmpLT)
}

// packetBorder reports whether comparing p with limit tells how far the memory
// at p goes.
func packetBorder(p, limit *reg) bool {
	switch p.kind {
	case ptrPacket:
		return limit.kind == ptrPacketEnd
	case ptrPacketMeta:
		// The start of the packet is the end of its metadata.
		return limit.kind == ptrPacket && limit.id == 0 && limit.off == 0 && limit.num.Is(0)
	}
	return false
}

// extend gives the range that a comparison of p proved to all pointers with the
// same variable part. strictly says that the byte at p itself is inside too.
func (v *verifier) extend(s *state, p *reg, strictly bool) {
	if p.off < 0 || p.off == 0 && strictly {
		// Nothing before p was asked for; a single byte at offset 0 is left out
		// as in Linux.
		return
	}
	if p.num.UMax > maxPacketOff || uint64(p.off)+p.num.UMax > maxPacketOff {
		return
	}
	rng := p.off
	if strictly {
		rng++
	}
	s.each(func(r *reg) {
		if r.kind == p.kind && r.id == p.id {
			r.rng = max(r.rng, rng)
		}
	})
}
