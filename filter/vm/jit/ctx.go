package jit

// Ctx says which structure the context register points to.
type Ctx uint8

// The context structures of uapi linux/bpf.h.
const (
	SKB Ctx = iota
	XDP
	Netfilter
	None
)

// PacketField returns the offset in State of the packet pointer that a 4-byte load
// from offset o of a context gives, -1 if the field is plain memory. To the program
// these fields are 32 bits wide; the register receives a whole address.
func PacketField(c Ctx, o int32) int32 {
	switch c {
	case SKB:
		switch o {
		case 76:
			return OffData
		case 80:
			return OffDataEnd
		case 140:
			return OffDataMeta
		}
	case XDP:
		switch o {
		case 0:
			return OffData
		case 4:
			return OffDataEnd
		case 8:
			return OffDataMeta
		}
	}
	return -1
}

// ShortField reports whether a 4-byte store to offset o of a context keeps 16 bits
// only, and whether a value of 0xffff and more is not stored at all.
func ShortField(c Ctx, o int32) (short, bounded bool) {
	if c != SKB {
		return false, false
	}
	return o == 12 || o == 44 || o == 72, o == 12
}
