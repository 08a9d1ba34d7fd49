package verifier

import (
	"taproom/filter/maps"
	"taproom/filter/verifier/scalar"
)

// kind is what a register holds.
type kind uint8

const (
	notInit kind = iota
	number
	ptrCtx
	ptrMap        // a map itself
	ptrMapValue   // an element
	ptrMapKey     // the key given to a for_each callback; read-only
	ptrStack      // frame .frame
	ptrPacket     // .id names the variable part, .rng how far it was checked
	ptrPacketMeta // before the packet
	ptrPacketEnd
	ptrMem // .size bytes
	ptrSock
	ptrSockCommon
	ptrTCPSock
	ptrKernel // a structure .st of the kernel
	ptrFunc   // a subprogram, .off is its slot
)

// regFlags qualify a pointer.
type regFlags uint8

const (
	mayBeNull regFlags = 1 << iota
	readOnly
	record      // ptrMem that is a ring buffer record
	trusted     // ptrKernel that is known to be valid
	inner       // ptrMap and ptrMapValue out of a map of maps
	sliced      // ptrMem that is a dynptr's memory, .dyn says whose
	packetSlice // and the dynptr is over the packet
)

// Packet ranges that say where a packet pointer lies instead of how far it may
// be used.
const (
	beyondEnd = -1 // greater than packet end
	atEnd     = -2 // not less than packet end
)

// mapInfo is a map as the verifier needs it: looked up once.
type mapInfo struct {
	spec  maps.Spec
	m     *maps.Map // nil for the pattern of inner maps
	index int32     // in Program.Maps, -1 for inner ones
	inner *mapInfo
}

// reg is an abstract register. For pointers, num is the variable part of the
// offset and off the constant part.
type reg struct {
	kind  kind
	flags regFlags
	frame uint8 // ptrStack
	delta int32 // number: distance from the number that id names
	off   int32
	rng   int32  // ptrPacket, ptrPacketMeta
	size  uint32 // ptrMem
	id    uint32 // links copies: of a number, a maybe-null pointer, a packet pointer
	ref   uint32 // resource that must be released, 0 if none
	dyn   uint32 // ptrMem: dynptr it was sliced from
	uid   uint32 // maps out of a map of maps: which lookup it came from
	node  int32  // number: where its value comes from; see track.go
	m     *mapInfo
	st    *kstruct
	num   scalar.Range
}

func (r *reg) isPtr() bool    { return r.kind > number }
func (r *reg) isPacket() bool { return r.kind == ptrPacket || r.kind == ptrPacketMeta }
func (r *reg) maybeNull() bool {
	return r.flags&mayBeNull != 0
}

// isNull reports whether the register is known to hold 0.
func (r *reg) isNull() bool { return r.kind == number && r.num.Is(0) }

// notNull reports whether a comparison with 0 is decided. Contexts and the stack
// are not 0 either, but Linux leaves such comparisons open.
func (r *reg) notNull() bool {
	if r.maybeNull() {
		return false
	}
	switch r.kind {
	case ptrSock, ptrTCPSock, ptrMapValue, ptrMapKey, ptrSockCommon, ptrMem, ptrMap:
		return true
	case ptrKernel:
		return r.flags&trusted != 0
	}
	return false
}

func unknownReg() reg       { return reg{kind: number, num: scalar.Unknown()} }
func constReg(v uint64) reg { return reg{kind: number, num: scalar.Const(v)} }
func pointer(k kind) reg    { return reg{kind: k} }
func (r *reg) setUnknown()  { *r = unknownReg() }
func (r *reg) set(v uint64) { *r = constReg(v) }

// constOff is the whole constant offset of a pointer with a known variable part.
func (r *reg) constOff() int64 { return int64(r.off) + int64(r.num.Value()) }

// lockable reports whether the map value has a lock or timer in it, so that
// which element it is matters even when it cannot be null.
func (r *reg) lockable() bool {
	return r.m != nil && (r.m.spec.SpinLock != 0 || r.m.spec.Timer != 0)
}

var kindNames = [...]string{"?", "scalar", "ctx", "map_ptr", "map_value", "map_key", "fp", "pkt", "pkt_meta",
	"pkt_end", "mem", "sock", "sock_common", "tcp_sock", "ptr_", "func"}

// typeName is the kernel's word for the register's type.
func (r *reg) typeName() string {
	s := kindNames[r.kind]
	switch r.kind {
	case ptrKernel:
		s += r.st.Name
		if r.flags&trusted != 0 {
			s = "trusted_" + s
		}
	case ptrMem:
		if r.flags&record != 0 {
			s = "ringbuf_mem"
		} else if r.flags&readOnly != 0 {
			s = "rdonly_mem"
		}
	}
	if r.maybeNull() {
		s += "_or_null"
	}
	return s
}
