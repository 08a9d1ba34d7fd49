package maps

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Header of a trie node; see LPMLayout for the whole.
const (
	nodeChild = 0  // two links
	nodeLen   = 8  // prefix length
	nodeElem  = 12 // not 0 if the node is an element; free-slot link while free
	nodeData  = 16

	// Bounds of how many bits are looked up in a table at first. More make for
	// shorter walks; a table is as many times 8 bytes as it has entries.
	minRootBits = 8
	maxRootBits = 16
)

// lpm is the store of LPMTrie: a binary trie with compressed paths, entered
// through a table indexed by the first bits.
//
// Lookups take no lock. A writer makes seq odd, changes links one at a time so
// that a reader always sees nodes, and makes seq even again; a reader that finds
// seq changed repeats under the lock.
type lpm struct {
	m       *Map
	max     uint32 // greatest prefix length
	words   int    // data words in a node
	keySize uintptr
	keyOff  uintptr
	valOff  uintptr
	vsize   uintptr
	base    unsafe.Pointer
	roots   unsafe.Pointer // 1<<bits pairs of links
	bits    uint32
	seq     *uint32

	mu    sync.Mutex
	root  uint32 // link
	count uint32
	slots slots
}

func newLPM(m *Map) (store, error) {
	s := &m.spec
	data := s.KeySize - 4
	t := &lpm{m: m, max: data * 8, words: int(round8(data) / 8), keySize: uintptr(s.KeySize), vsize: uintptr(s.ValueSize)}
	t.keyOff = nodeData + uintptr(t.words)*8
	t.valOff = t.keyOff + uintptr(round8(s.KeySize))
	stride := uint64(t.valOff) + uint64(round8(s.ValueSize))
	// n elements branch at n-1 places at most. A replacement needs one node more,
	// and node 0 is never used because link 0 means none.
	n := min(2*uint64(s.MaxEntries)+2, maxLinked/stride)
	t.bits = min(max(minRootBits, uint32(bits.Len32(s.MaxEntries))+4), maxRootBits, t.max)
	table, err := m.alloc(64+8<<t.bits, true)
	if err != nil {
		return nil, err
	}
	nodes, err := m.alloc(n*stride, false)
	if err != nil {
		return nil, err
	}
	t.base, t.roots, t.seq = nodes.base, table.at(64), (*uint32)(table.base)
	t.slots.init(nodes, uintptr(stride), uint32(n), nodeElem)
	t.slots.fresh = 1
	m.layout = Layout{
		Kind: LayoutLPM, Base: uintptr(t.base), Entries: s.MaxEntries, Stride: uintptr(stride),
		ValueOff: t.valOff, Seq: uintptr(unsafe.Pointer(t.seq)),
		LPM: LPMLayout{Roots: uintptr(t.roots), RootBits: t.bits, DataSize: data},
	}
	return t, nil
}

// A node is the address of one.
type node = unsafe.Pointer

func (t *lpm) node(link uint32) node {
	if link == 0 {
		return nil
	}
	return unsafe.Add(t.base, uintptr(link)*linkUnit)
}

func (t *lpm) link(n node) uint32 {
	if n == nil {
		return 0
	}
	return uint32((uintptr(n) - uintptr(t.base)) / linkUnit)
}

func child(n node, bit uint32) *uint32 { return (*uint32)(unsafe.Add(n, nodeChild+4*bit)) }
func plen(n node) *uint32              { return (*uint32)(unsafe.Add(n, nodeLen)) }
func isElem(n node) *uint32            { return (*uint32)(unsafe.Add(n, nodeElem)) }

func (t *lpm) data(n node) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Add(n, nodeData)), t.words)
}

func (t *lpm) key(n node) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(n, t.keyOff)), t.keySize)
}

func (t *lpm) value(n node) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(n, t.valOff)), t.vsize)
}

// prefix is a key taken apart: its length, and its data as big-endian words. Most
// keys fit into the small buffer, which is cheaper to clear.
type prefix struct {
	len  uint32
	data []uint64
}

type (
	smallData [4]uint64
	anyData   [maxLPMData / 8]uint64
)

// parse fills buf, which has as many words as a node, from a key.
func parse(key []byte, buf []uint64) prefix {
	d := key[4:]
	for n := range buf {
		if len(d) >= 8 {
			buf[n] = binary.BigEndian.Uint64(d)
			d = d[8:]
			continue
		}
		if len(d) == 4 {
			buf[n] = uint64(binary.BigEndian.Uint32(d)) << 32
			break
		}
		var last [8]byte
		copy(last[:], d)
		buf[n] = binary.BigEndian.Uint64(last[:])
	}
	return prefix{binary.NativeEndian.Uint32(key), buf}
}

// parse is for writers, who may allocate.
func (t *lpm) parse(key []byte) *prefix {
	p := parse(key, make([]uint64, t.words))
	return &p
}

// bit returns bit i of the data, counted from the top.
func bit(data []uint64, i uint32) uint32 { return uint32(data[i>>6]>>(63-i&63)) & 1 }

// match returns how many leading bits of a node's prefix and of p agree, at most
// the shorter of the two prefixes.
func (t *lpm) match(n node, p *prefix) uint32 {
	limit := min(*plen(n), p.len)
	for w, have := range t.data(n) {
		if x := have ^ p.data[w]; x != 0 {
			return min(limit, uint32(w*64+bits.LeadingZeros64(x)))
		}
		if uint32(w+1)*64 >= limit {
			break
		}
	}
	return limit
}

func (t *lpm) elem(key []byte, _ int) []byte {
	if t.words == 1 {
		return t.elemWord(key)
	}
	if t.words <= len(smallData{}) {
		var buf smallData
		p := parse(key, buf[:t.words])
		return t.elemOf(&p)
	}
	var buf anyData
	p := parse(key, buf[:t.words])
	return t.elemOf(&p)
}

func (t *lpm) elemOf(p *prefix) []byte {
	if p.len > t.max {
		return nil
	}
	if seq := atomic.LoadUint32(t.seq); seq&1 == 0 {
		n := t.lookup(p)
		if atomic.LoadUint32(t.seq) == seq {
			return t.found(n)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.found(t.lookup(p))
}

// elemWord is elem for keys with at most 8 bytes of data, such as IPv4 addresses.
func (t *lpm) elemWord(key []byte) []byte {
	var buf [1]uint64
	p := parse(key, buf[:])
	data := buf[0]
	seq := atomic.LoadUint32(t.seq)
	if seq&1 != 0 || p.len < t.bits || p.len > t.max {
		return t.elemOf(&p)
	}
	e := t.entry(uint32(data >> (64 - t.bits&63)))
	l, best := atomic.LoadUint32(&e[0]), atomic.LoadUint32(&e[1])
	for l != 0 {
		n := unsafe.Add(t.base, uintptr(l)*linkUnit)
		have := *plen(n)
		if have > p.len || (*(*uint64)(unsafe.Add(n, nodeData))^data)>>(64-have&127) != 0 {
			break
		}
		if *isElem(n) != 0 {
			best = l
		}
		if have >= t.max {
			break
		}
		l = atomic.LoadUint32(child(n, uint32(data>>(63-have&63))&1))
	}
	if atomic.LoadUint32(t.seq) != seq {
		return t.elemOf(&p)
	}
	return t.found(t.node(best))
}

func (t *lpm) found(n node) []byte {
	if n == nil {
		return nil
	}
	return t.value(n)
}

// lookup returns the longest element that covers p.
func (t *lpm) lookup(p *prefix) (best node) {
	n := t.node(atomic.LoadUint32(&t.root))
	if p.len >= t.bits {
		e := t.entry(uint32(p.data[0] >> (64 - t.bits&63)))
		n, best = t.node(atomic.LoadUint32(&e[0])), t.node(atomic.LoadUint32(&e[1]))
	}
	for n != nil {
		l := *plen(n)
		if l > p.len || t.match(n, p) < l {
			break
		}
		if *isElem(n) != 0 {
			best = n
		}
		if l >= t.max {
			break
		}
		n = t.node(atomic.LoadUint32(child(n, bit(p.data, l))))
	}
	return best
}

// entry returns the table's pair of links for a value of the first bits.
func (t *lpm) entry(b uint32) *[2]uint32 {
	return (*[2]uint32)(unsafe.Add(t.roots, uintptr(b)*8))
}
