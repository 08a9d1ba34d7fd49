package packet

import "encoding/binary"

// FlowHash is a hash of the packet's addresses, protocol and ports, the same
// for all packets of a flow in one direction, fragments included (which go
// without ports). It is computed once and kept in Hash.
func (p *Packet) FlowHash() uint32 {
	if p.Hash == 0 {
		p.Hash = max(1, p.flowHash())
	}
	return p.Hash
}

func (p *Packet) flowHash() uint32 {
	l3, ok := p.L3()
	if !ok || l3 < 0 || l3 >= len(p.Head()) {
		return 1
	}
	b := p.Head()[l3:]
	t, ok := ParseTransport(b)
	if !ok {
		return 1
	}
	h := uint64(0x9e3779b97f4a7c15) ^ uint64(t.Proto)
	mix := func(v uint64) {
		h = (h ^ v) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	if b[0]>>4 == 4 {
		mix(binary.LittleEndian.Uint64(b[12:]))
	} else {
		for i := 8; i < 40; i += 8 {
			mix(binary.LittleEndian.Uint64(b[i:]))
		}
	}
	switch t.Proto {
	case ProtoTCP, ProtoUDP:
		if !t.Fragment && len(b) >= t.Offset+4 {
			mix(uint64(binary.LittleEndian.Uint32(b[t.Offset:])))
		}
	}
	return Mix(h)
}

// Mix makes a hash whose every bit depends on every bit of v (the finaliser of
// MurmurHash3).
func Mix(v uint64) uint32 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	v *= 0xc4ceb9fe1a85ec53
	v ^= v >> 33
	return uint32(v)
}
