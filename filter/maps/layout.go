package maps

// LayoutKind says how elements are arranged in memory.
type LayoutKind uint8

// The arrangements that native code can walk.
const (
	LayoutNone    LayoutKind = iota // go through Elem
	LayoutArray                     // Array, PerCPUArray
	LayoutHash                      // Hash, LRUHash, PerCPUHash, LRUPerCPUHash
	LayoutLPM                       // LPMTrie
	LayoutProgs                     // ProgArray
	LayoutRingBuf                   // RingBuf
)

// Layout tells where a map's memory is. All addresses and sizes are fixed for
// the life of the Map. Little-endian machines only.
//
// On per-CPU maps the value of CPU c is CPUStride*c bytes above that of CPU 0;
// on all others CPUStride is 0, so that the sum may always be done.
//
// # Array
//
// Element i < Entries is at Base + Stride*i; Stride is the value size rounded up
// to 8.
//
// # Hash
//
// Buckets is an array of BucketMask+1 uint32 links. A link with bit 31 clear is
// an element: its address is Base + 8*link. A link with bit 31 set ends the
// chain; the low 31 bits are the number of the bucket that the chain belongs
// to. An element is
//
//	+0           uint32  link to the next element
//	+4           uint32  upper half of the key's hash
//	+KeyOff              key, padded with zeros to a multiple of 8
//	+ValueOff            value
//
// LRU maps have more bytes before the key (KeyOff is 24): the byte at RefOff must
// be set to 1 by every lookup that a program makes (test it first, so that the
// cache line stays clean).
//
// To look up: compute the hash (see below), load the link of bucket
// hash & BucketMask, and follow the chain comparing keys. When a chain ends with
// a bucket number other than the one started from, an element was moved while it
// was walked: start again. Loads of links must be acquire loads or carry an
// address dependency (both true for plain loads on amd64, the latter on arm64).
//
// The hash of a key is, with all words little-endian, the last one padded with
// zero bytes, and fold(a, b) the exclusive or of the halves of the 128-bit
// product:
//
//	h = Seed[0]
//	for each pair of 8-byte words (a, b) of the key:  // b = 0 if there is none
//	        h = fold(a ^ Seed[1], b ^ h)
//	h = fold(h ^ Seed[2], Seed[3])   // only if the key is longer than 8 bytes
//
// # LPM trie
//
// See lpm.go for nodes; Seq is the address of a uint32 that is odd while the
// trie is being changed. Read it first (odd: go through Elem), walk, read it
// again; if it moved, go through Elem. The walk needs no other care: nodes stay
// nodes, and their prefix lengths grow along every path.
//
// # Program array
//
// Slot i < Entries is at Base + 16*i: uint64 entry address of the program's
// native code (0: none, or no program), uint64 program id (0: none).
//
// # Ring buffer
//
// Base is the data, Mask+1 bytes, mapped twice in a row. Ctl is the control
// block; see ringbuf.go.
type Layout struct {
	Kind      LayoutKind
	Base      uintptr
	Entries   uint32
	Stride    uintptr
	CPUStride uintptr

	Buckets    uintptr
	BucketMask uint32
	Seed       [4]uint64
	KeyOff     uintptr
	ValueOff   uintptr
	RefOff     uintptr // 0: not an LRU map

	LPM LPMLayout
	Seq uintptr

	Ctl  uintptr
	Mask uint64
}

// LPMLayout describes the nodes of an LPM trie. With n the number of data bytes
// rounded up to a multiple of 8, a node is
//
//	+0   uint32  link to the child whose next bit is 0
//	+4   uint32  link to the child whose next bit is 1
//	+8   uint32  prefix length in bits
//	+12  uint32  not 0 if the node is an element, 0 if it only branches
//	+16  prefix as n/8 uint64 words, each holding 8 data bytes as a big-endian
//	     number (bit 0 of the prefix is the top bit of word 0), bits beyond the
//	     prefix length zero
//	+16+n        the key as the program gave it (KeySize bytes, padded to 8)
//	+ValueOff    value
//
// A link is the node's address less Base, divided by 8; 0 is none. Roots is an
// array of 1<<RootBits entries, by the first RootBits bits of the data (the first of
// them the highest):
//
//	+0   uint32  link to the first node with a prefix of RootBits or more under
//	             these bits; 0: none
//	+4   uint32  link to the longest element with a shorter prefix that covers
//	             these bits; 0: none
//
// A lookup with a prefix length below RootBits goes through Elem.
type LPMLayout struct {
	Roots    uintptr
	RootBits uint32 // 8 to 16
	DataSize uint32 // bytes of prefix data: KeySize - 4
}
