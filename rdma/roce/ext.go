package roce

import "encoding/binary"

// Lengths of the extension headers.
const (
	DETHLen         = 8
	RETHLen         = 16
	FETHLen         = 4
	AtomicETHLen    = 28
	AtomicAckETHLen = 8
	ImmLen          = 4
	IETHLen         = 4
	CNPReservedLen  = 16
	// AtomicLen is the size of every atomic operand, in memory and on the wire.
	AtomicLen = 8
)

// DETH is a datagram extended transport header (IBTA 9.3.2): Q_Key, 8 reserved
// bits, source QP.
type DETH []byte

// DETHFields are the contents of a DETH.
type DETHFields struct {
	QKey  uint32
	SrcQP uint32 // 24 bits
}

// Valid tells whether d is long enough.
func (d DETH) Valid() bool { return len(d) >= DETHLen }

// Encode writes all eight bytes.
func (d DETH) Encode(f *DETHFields) {
	d.SetQKey(f.QKey)
	binary.BigEndian.PutUint32(d[4:], f.SrcQP&0xffffff)
}

// Fields returns the contents of d.
func (d DETH) Fields() DETHFields { return DETHFields{d.QKey(), d.SrcQP()} }

// QKey returns the queue key.
func (d DETH) QKey() uint32 { return binary.BigEndian.Uint32(d) }

// SetQKey sets the queue key.
func (d DETH) SetQKey(k uint32) { binary.BigEndian.PutUint32(d, k) }

// SrcQP returns the number of the queue pair that sent the datagram.
func (d DETH) SrcQP() uint32 { return uint24(d[5:]) }

// SetSrcQP sets the source queue pair.
func (d DETH) SetSrcQP(n uint32) { putUint24(d[5:], n) }

// RETH is an RDMA extended transport header (IBTA 9.3.3). WRITE, READ, FLUSH
// and ATOMIC WRITE carry the same one; ATOMIC WRITE's length is always 8.
type RETH []byte

// RETHFields are the contents of an RETH.
type RETHFields struct {
	VA     uint64
	RKey   uint32
	Length uint32 // of the whole message in bytes
}

// Valid tells whether r is long enough.
func (r RETH) Valid() bool { return len(r) >= RETHLen }

// Encode writes all sixteen bytes.
func (r RETH) Encode(f *RETHFields) { r.SetVA(f.VA); r.SetRKey(f.RKey); r.SetLength(f.Length) }

// Fields returns the contents of r.
func (r RETH) Fields() RETHFields { return RETHFields{r.VA(), r.RKey(), r.Length()} }

// VA returns the remote virtual address.
func (r RETH) VA() uint64 { return binary.BigEndian.Uint64(r) }

// SetVA sets the remote virtual address.
func (r RETH) SetVA(v uint64) { binary.BigEndian.PutUint64(r, v) }

// RKey returns the remote key.
func (r RETH) RKey() uint32 { return binary.BigEndian.Uint32(r[8:]) }

// SetRKey sets the remote key.
func (r RETH) SetRKey(k uint32) { binary.BigEndian.PutUint32(r[8:], k) }

// Length returns the length of the whole message in bytes.
func (r RETH) Length() uint32 { return binary.BigEndian.Uint32(r[12:]) }

// SetLength sets the length of the whole message.
func (r RETH) SetLength(n uint32) { binary.BigEndian.PutUint32(r[12:], n) }

// FETH is a flush extended transport header (IBTA A19.4.1). In a FLUSH it
// stands before the RETH.
type FETH []byte

// Placement is what a FLUSH waits for; a set.
type Placement uint8

// Placement types.
const (
	PlaceVisible    Placement = 1 // globally visible
	PlacePersistent Placement = 2 // persistent
)

// Selectivity is the memory a FLUSH is about.
type Selectivity uint8

// Selectivity levels.
const (
	SelectRange  Selectivity = 0 // the bytes named by the RETH
	SelectRegion Selectivity = 1 // the whole memory region of the rkey
)

// FETHFields are the contents of a FETH.
type FETHFields struct {
	Placement   Placement   // 4 bits
	Selectivity Selectivity // 2 bits
}

// Valid tells whether f is long enough and its reserved bits are zero.
func (f FETH) Valid() bool { return len(f) >= FETHLen && binary.BigEndian.Uint32(f)>>6 == 0 }

// Encode writes all four bytes.
func (f FETH) Encode(v *FETHFields) {
	binary.BigEndian.PutUint32(f, uint32(v.Placement&0x0f)|uint32(v.Selectivity&3)<<4)
}

// Fields returns the contents of f.
func (f FETH) Fields() FETHFields { return FETHFields{f.Placement(), f.Selectivity()} }

// Placement returns the placement types asked for.
func (f FETH) Placement() Placement { return Placement(f[3] & 0x0f) }

// Selectivity returns the selectivity level.
func (f FETH) Selectivity() Selectivity { return Selectivity(f[3] >> 4 & 3) }

// AtomicETH is an atomic extended transport header (IBTA 9.3.4). Operands are
// big endian here and in host order in memory.
type AtomicETH []byte

// AtomicETHFields are the contents of an AtomicETH.
type AtomicETHFields struct {
	VA      uint64 // a multiple of eight
	RKey    uint32
	SwapAdd uint64 // the value to store, or to add
	Compare uint64 // for CMP_SWAP; FETCH_ADD sends 0
}

// Valid tells whether a is long enough.
func (a AtomicETH) Valid() bool { return len(a) >= AtomicETHLen }

// Encode writes all 28 bytes.
func (a AtomicETH) Encode(f *AtomicETHFields) {
	_ = a[AtomicETHLen-1]
	binary.BigEndian.PutUint64(a, f.VA)
	binary.BigEndian.PutUint32(a[8:], f.RKey)
	binary.BigEndian.PutUint64(a[12:], f.SwapAdd)
	binary.BigEndian.PutUint64(a[20:], f.Compare)
}

// Fields returns the contents of a.
func (a AtomicETH) Fields() AtomicETHFields {
	return AtomicETHFields{a.VA(), a.RKey(), a.SwapAdd(), a.Compare()}
}

// VA returns the remote virtual address.
func (a AtomicETH) VA() uint64 { return binary.BigEndian.Uint64(a) }

// RKey returns the remote key.
func (a AtomicETH) RKey() uint32 { return binary.BigEndian.Uint32(a[8:]) }

// SwapAdd returns the value to store (CMP_SWAP) or to add (FETCH_ADD).
func (a AtomicETH) SwapAdd() uint64 { return binary.BigEndian.Uint64(a[12:]) }

// Compare returns the value CMP_SWAP compares with.
func (a AtomicETH) Compare() uint64 { return binary.BigEndian.Uint64(a[20:]) }

// AtomicAckETH is an atomic acknowledge extended transport header (IBTA
// 9.5.3): the value the memory held before the operation.
type AtomicAckETH []byte

// Valid tells whether a is long enough.
func (a AtomicAckETH) Valid() bool { return len(a) >= AtomicAckETHLen }

// Original returns the value before the operation.
func (a AtomicAckETH) Original() uint64 { return binary.BigEndian.Uint64(a) }

// Encode writes the value before the operation.
func (a AtomicAckETH) Encode(original uint64) { binary.BigEndian.PutUint64(a, original) }

// ImmDt is an immediate data header (IBTA 9.3.6). Verbs hand its bytes through
// in network order; Value reads them as a big endian number.
type ImmDt []byte

// Valid tells whether i is long enough.
func (i ImmDt) Valid() bool { return len(i) >= ImmLen }

// Value returns the immediate data.
func (i ImmDt) Value() uint32 { return binary.BigEndian.Uint32(i) }

// Encode writes the immediate data.
func (i ImmDt) Encode(v uint32) { binary.BigEndian.PutUint32(i, v) }

// IETH is an invalidate extended transport header (IBTA 9.3.7).
type IETH []byte

// Valid tells whether i is long enough.
func (i IETH) Valid() bool { return len(i) >= IETHLen }

// RKey returns the key the receiver shall invalidate.
func (i IETH) RKey() uint32 { return binary.BigEndian.Uint32(i) }

// Encode writes the key the receiver shall invalidate.
func (i IETH) Encode(rkey uint32) { binary.BigEndian.PutUint32(i, rkey) }
