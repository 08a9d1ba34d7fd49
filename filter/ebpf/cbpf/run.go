package cbpf

import "encoding/binary"

// Keep runs the filter and returns how many bytes of the packet to keep; 0 means
// to drop it.
func (f *Filter) Keep(data []byte, m *Meta) int {
	return int(min(uint64(f.Run(data, m)), uint64(length(data, m))))
}

// Run runs the filter over a packet that begins with data and returns its value,
// for cls_bpf a class or an action, for sockets a number of bytes. A load from
// outside the packet and a division by zero end it with 0. m may be nil.
func (f *Filter) Run(data []byte, m *Meta) uint32 {
	var a, x uint32
	var mem [MemWords]uint32
	prog := f.prog
	pc := uint(0)
	for pc < uint(len(prog)) {
		o := &prog[pc]
		pc = uint(o.jt)
		switch o.code {
		case opRetK:
			return o.k
		case opRetA:
			return a
		case opLdHJeq:
			if uint64(o.k)+2 <= uint64(len(data)) {
				a = uint32(binary.BigEndian.Uint16(data[o.k:]))
			} else if !f.load(data, m, o.k, 2, &a) {
				return 0
			}
			if a != o.k2 {
				pc = uint(o.jf)
			}
		case opLdBJeq:
			if uint64(o.k) < uint64(len(data)) {
				a = uint32(data[o.k])
			} else if !f.load(data, m, o.k, 1, &a) {
				return 0
			}
			if a != o.k2 {
				pc = uint(o.jf)
			}
		case opLdWJeq:
			if uint64(o.k)+4 <= uint64(len(data)) {
				a = binary.BigEndian.Uint32(data[o.k:])
			} else if !f.load(data, m, o.k, 4, &a) {
				return 0
			}
			if a != o.k2 {
				pc = uint(o.jf)
			}
		case opLdHJset:
			if uint64(o.k)+2 <= uint64(len(data)) {
				a = uint32(binary.BigEndian.Uint16(data[o.k:]))
			} else if !f.load(data, m, o.k, 2, &a) {
				return 0
			}
			if a&o.k2 == 0 {
				pc = uint(o.jf)
			}
		case opLdBJset:
			if uint64(o.k) < uint64(len(data)) {
				a = uint32(data[o.k])
			} else if !f.load(data, m, o.k, 1, &a) {
				return 0
			}
			if a&o.k2 == 0 {
				pc = uint(o.jf)
			}
		case opIndHJeq:
			at := x + o.k
			if uint64(at)+2 <= uint64(len(data)) {
				a = uint32(binary.BigEndian.Uint16(data[at:]))
			} else if !f.load(data, m, at, 2, &a) {
				return 0
			}
			if a != o.k2 {
				pc = uint(o.jf)
			}
		case opJeq:
			if a != o.k {
				pc = uint(o.jf)
			}
		case opJgt:
			if a <= o.k {
				pc = uint(o.jf)
			}
		case opJge:
			if a < o.k {
				pc = uint(o.jf)
			}
		case opJset:
			if a&o.k == 0 {
				pc = uint(o.jf)
			}
		case opMsh:
			if uint64(o.k) < uint64(len(data)) {
				x = uint32(data[o.k]&0xf) << 2
				break
			}
			if !f.load(data, m, o.k, 1, &x) {
				return 0
			}
			x = x & 0xf << 2
		case opLdW:
			if !f.load(data, m, o.k, 4, &a) {
				return 0
			}
		case opLdH:
			if !f.load(data, m, o.k, 2, &a) {
				return 0
			}
		case opLdB:
			if !f.load(data, m, o.k, 1, &a) {
				return 0
			}
		case opIndW:
			if !f.load(data, m, x+o.k, 4, &a) {
				return 0
			}
		case opIndH:
			if !f.load(data, m, x+o.k, 2, &a) {
				return 0
			}
		case opIndB:
			if !f.load(data, m, x+o.k, 1, &a) {
				return 0
			}
		case opAnc:
			a = m.ask(o.k, data, a, x)
		case opJa:
		case opJeqX:
			if a != x {
				pc = uint(o.jf)
			}
		case opJgtX:
			if a <= x {
				pc = uint(o.jf)
			}
		case opJgeX:
			if a < x {
				pc = uint(o.jf)
			}
		case opJsetX:
			if a&x == 0 {
				pc = uint(o.jf)
			}
		case opImm:
			a = o.k
		case opLen:
			a = length(data, m)
		case opMem:
			a = mem[o.k&(MemWords-1)]
		case opXImm:
			x = o.k
		case opXLen:
			x = length(data, m)
		case opXMem:
			x = mem[o.k&(MemWords-1)]
		case opSt:
			mem[o.k&(MemWords-1)] = a
		case opStX:
			mem[o.k&(MemWords-1)] = x
		case opTax:
			x = a
		case opTxa:
			a = x
		default:
			var ok bool
			if a, ok = alu(o.code, a, x, o.k); !ok {
				return 0
			}
		}
	}
	return 0
}

// alu does arithmetic; false is a division by zero.
func alu(code opcode, a, x, k uint32) (uint32, bool) {
	if code >= opAddX {
		code, k = code-opAddX+opAdd, x
		if code >= opNeg {
			return 0, false
		}
	}
	switch code {
	case opAdd:
		return a + k, true
	case opSub:
		return a - k, true
	case opMul:
		return a * k, true
	case opDiv:
		if k == 0 {
			return 0, false
		}
		return a / k, true
	case opMod:
		if k == 0 {
			return 0, false
		}
		return a % k, true
	case opAnd:
		return a & k, true
	case opOr:
		return a | k, true
	case opXor:
		return a ^ k, true
	case opLsh:
		return a << (k & 31), true
	case opRsh:
		return a >> (k & 31), true
	case opNeg:
		return -a, true
	}
	return 0, false
}

func length(data []byte, m *Meta) uint32 {
	if m != nil && m.Rest != nil {
		return uint32(m.Rest.Len())
	}
	return uint32(len(data))
}

// load reads size bytes, big-endian, at an offset that may be negative (relative to
// a header) or beyond the linear bytes.
func (f *Filter) load(data []byte, m *Meta, k uint32, size int, out *uint32) bool {
	at := int64(int32(k))
	if at < 0 {
		var ok bool
		if at, ok = header(data, m, k); !ok {
			return false
		}
		if at < 0 || at+int64(size) > int64(len(data)) {
			return false
		}
	}
	var over [4]byte
	b := over[:size]
	switch {
	case at+int64(size) <= int64(len(data)):
		b = data[at : at+int64(size)]
	case m == nil || m.Rest == nil || m.Rest.CopyTo(b, int(at)) < size:
		return false
	}
	switch size {
	case 1:
		*out = uint32(b[0])
	case 2:
		*out = uint32(binary.BigEndian.Uint16(b))
	default:
		*out = binary.BigEndian.Uint32(b)
	}
	return true
}

// header resolves an offset relative to the network or link-layer header.
func header(data []byte, m *Meta, k uint32) (int64, bool) {
	net, link := 14, 0
	if m != nil {
		net, link = m.NetHeader, m.MACHeader
	}
	switch {
	case k >= NetOffset:
		return int64(net) + int64(k-NetOffset), true
	case k >= LLOffset:
		return int64(link) + int64(k-LLOffset), true
	}
	return 0, false
}
