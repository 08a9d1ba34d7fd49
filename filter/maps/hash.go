package maps

import (
	"bytes"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Links between hash elements: see Layout.
const (
	linkEnd   = 1 << 31 // a chain ends here; the rest is the bucket number
	linkUnit  = 8
	maxLinked = uint64(linkEnd) * linkUnit // bytes that a link can reach
)

// Header of a hash element.
const (
	hashNext = 0 // link
	hashHigh = 4 // upper half of the hash; link to the next free slot while free
	hashKey  = 8
)

// hash is the store of all hash types: chained buckets of elements in a region,
// found without locks, changed under a lock for a group of buckets.
//
// A walk that steps onto an element just as it is removed and used again ends up
// in another bucket's chain. It notices at that chain's end, which names its
// bucket, and starts again.
type hash struct {
	m       *Map
	seeds   seeds
	buckets unsafe.Pointer // of uint32 links
	mask    uint32
	base    unsafe.Pointer // of elements
	keySize uintptr
	keyOff  uintptr
	valOff  uintptr
	vsize   uintptr
	perCPU  uintptr // distance between CPUs' values in an element; 0: one value
	slots   slots
	lru     *lru // nil: the map refuses new elements when full

	count   atomic.Int32
	max     int32
	stripes []stripe
}

// stripe locks the buckets whose number is its index modulo the number of stripes.
type stripe struct {
	sync.Mutex
	_ [56]byte // a cache line each
}

const maxStripes = 64

func newHash(m *Map) (store, error) {
	s := &m.spec
	h := &hash{
		m: m, seeds: newSeeds(s.Flags&ZeroSeed != 0),
		keySize: uintptr(s.KeySize), vsize: uintptr(s.ValueSize), keyOff: hashKey, max: int32(s.MaxEntries),
	}
	isLRU := s.Type == LRUHash || s.Type == LRUPerCPUHash
	if isLRU {
		h.keyOff = lruKey
	}
	h.valOff = h.keyOff + uintptr(round8(s.KeySize))
	stride := uint64(h.valOff) + uint64(round8(s.ValueSize))
	if s.Type.PerCPU() {
		// Each CPU's value on cache lines of its own.
		h.valOff = (h.valOff + 63) &^ 63
		h.perCPU = (h.vsize + 63) &^ 63
		stride = uint64(h.valOff) + uint64(h.perCPU)*uint64(s.CPUs)
	}
	n := pow2(s.MaxEntries)
	h.mask = n - 1
	h.stripes = make([]stripe, min(n, maxStripes))
	br, err := m.alloc(uint64(n)*4, true)
	if err != nil {
		return nil, err
	}
	h.buckets = br.base
	for b := range n {
		*h.bucket(b) = linkEnd | b
	}
	// A few more slots than elements: a replacement is linked before what it
	// replaces is free again.
	slots := uint64(s.MaxEntries)
	if !isLRU {
		slots += uint64(s.CPUs) + 2
	}
	if slots*stride > maxLinked {
		if s.Flags&NoPrealloc == 0 {
			return nil, syscall.ENOMEM
		}
		slots = maxLinked / stride
	}
	er, err := m.alloc(slots*stride, s.Flags&NoPrealloc == 0)
	if err != nil {
		return nil, err
	}
	h.base = er.base
	h.slots.init(er, uintptr(stride), uint32(slots), hashHigh)
	m.layout = Layout{
		Kind: LayoutHash, Base: uintptr(h.base), Entries: s.MaxEntries, Stride: uintptr(stride),
		CPUStride: h.perCPU, Buckets: uintptr(h.buckets), BucketMask: h.mask, Seed: h.seeds,
		KeyOff: h.keyOff, ValueOff: h.valOff,
	}
	if isLRU {
		m.layout.RefOff = lruRef
		h.lru = newLRU(h, int(s.MaxEntries), s.CPUs)
	}
	return h, nil
}

func (h *hash) bucket(b uint32) *uint32 {
	return (*uint32)(unsafe.Add(h.buckets, uintptr(b)*4))
}

// ref is the address of an element.
type ref = unsafe.Pointer

func (h *hash) ref(link uint32) ref { return unsafe.Add(h.base, uintptr(link)*linkUnit) }

func (h *hash) link(e ref) uint32 {
	return uint32((uintptr(e) - uintptr(h.base)) / linkUnit)
}

func nextOf(e ref) *uint32 { return (*uint32)(e) }

func (h *hash) high(e ref) *uint32 { return (*uint32)(unsafe.Add(e, hashHigh)) }

func (h *hash) key(e ref) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(e, h.keyOff)), h.keySize)
}

func (h *hash) value(e ref, cpu int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(e, h.valOff+uintptr(cpu)*h.perCPU)), h.vsize)
}

// find walks a key's chain without a lock.
func (h *hash) find(key []byte, sum uint64) ref {
	b := uint32(sum) & h.mask
	for {
		l := atomic.LoadUint32(h.bucket(b))
		for l&linkEnd == 0 {
			e := h.ref(l)
			if *h.high(e) == uint32(sum>>32) && bytes.Equal(h.key(e), key) {
				return e
			}
			l = atomic.LoadUint32(nextOf(e))
		}
		if l == linkEnd|b {
			return nil
		}
	}
}

// findLocked is find with the bucket's stripe held; it also returns the link that
// leads to the element.
func (h *hash) findLocked(key []byte, sum uint64) (e ref, at *uint32) {
	at = h.bucket(uint32(sum) & h.mask)
	for l := *at; l&linkEnd == 0; l = *at {
		e = h.ref(l)
		if *h.high(e) == uint32(sum>>32) && bytes.Equal(h.key(e), key) {
			return e, at
		}
		at = nextOf(e)
	}
	return nil, nil
}

func (h *hash) lock(sum uint64) *stripe {
	s := &h.stripes[uint32(sum)&h.mask&uint32(len(h.stripes)-1)]
	s.Lock()
	return s
}

func (h *hash) elem(key []byte, cpu int) []byte {
	e := h.find(key, h.seeds.hash(key))
	if e == nil {
		return nil
	}
	if h.lru != nil {
		touch(e)
	}
	return h.value(e, cpu)
}

// peek is elem for the system call side, which must not make an element look used.
func (h *hash) peek(key []byte, cpu int) []byte {
	e := h.find(key, h.seeds.hash(key))
	if e == nil {
		return nil
	}
	return h.value(e, cpu)
}

func (h *hash) set(key, value []byte, flags uint64, cpu int) syscall.Errno {
	if flags&^FlagLock > UpdateExist {
		return syscall.EINVAL
	}
	sum := h.seeds.hash(key)
	if flags&FlagLock != 0 && flags&UpdateNoExist == 0 {
		if e := h.find(key, sum); e != nil {
			h.m.overwrite(h.value(e, 0), value, flags)
			return 0
		}
	}
	if h.lru != nil {
		return h.lru.set(key, value, sum, flags, cpu)
	}
	s := h.lock(sum)
	defer s.Unlock()
	old, at := h.findLocked(key, sum)
	if e := checkExist(old != nil, flags); e != 0 {
		return e
	}
	if old != nil && (h.perCPU != 0 || flags&FlagLock != 0) {
		h.write(old, value, flags, cpu)
		return 0
	}
	if old == nil && h.count.Add(1) > h.max {
		h.count.Add(-1)
		return syscall.E2BIG
	}
	e, err := h.slots.get()
	if e == nil {
		if old == nil {
			h.count.Add(-1)
			return err
		}
		h.write(old, value, flags, cpu)
		return 0
	}
	h.prepare(e, key, value, sum, cpu)
	h.publish(e, sum, old, at)
	if old != nil {
		h.release(old)
	}
	return 0
}

func checkExist(exists bool, flags uint64) syscall.Errno {
	switch {
	case exists && flags&UpdateNoExist != 0:
		return syscall.EEXIST
	case !exists && flags&UpdateExist != 0:
		return syscall.ENOENT
	}
	return 0
}

// prepare fills a slot that is in no chain.
func (h *hash) prepare(e ref, key, value []byte, sum uint64, cpu int) {
	*h.high(e) = uint32(sum >> 32)
	copy(h.key(e), key)
	if h.perCPU == 0 {
		v := h.value(e, 0)
		h.m.storeValue(v, value)
		h.m.clearSpecial(v)
		return
	}
	if cpu != allCPUs {
		for c := range h.m.spec.CPUs {
			clear(h.value(e, c))
		}
	}
	h.write(e, value, 0, cpu)
}

// write overwrites an element's value in place.
func (h *hash) write(e ref, value []byte, flags uint64, cpu int) {
	switch {
	case h.perCPU == 0:
		h.m.overwrite(h.value(e, 0), value, flags)
	case cpu == allCPUs:
		each := int(round8(uint32(h.vsize)))
		for c := range h.m.spec.CPUs {
			copy(h.value(e, c), value[c*each:])
		}
	default:
		copy(h.value(e, cpu), value)
	}
}

// publish puts e at the head of its chain and takes old, which at leads to, out.
// A walker sees the new element, or both, never neither.
func (h *hash) publish(e ref, sum uint64, old ref, at *uint32) {
	head := h.bucket(uint32(sum) & h.mask)
	atomic.StoreUint32(nextOf(e), *head)
	atomic.StoreUint32(head, h.link(e))
	if old != nil {
		if at == head {
			at = nextOf(e)
		}
		h.unlink(old, at)
	}
}

// unlink takes an element out of its chain. Its own link stays, for walkers that
// stand on it.
func (h *hash) unlink(e ref, at *uint32) { atomic.StoreUint32(at, *nextOf(e)) }

// release makes an unlinked element's slot free.
func (h *hash) release(e ref) {
	h.m.dropped(h.value(e, 0))
	h.slots.put(e)
}

func (h *hash) unset(key []byte) syscall.Errno { return h.remove(key, nil, 0) }

func (h *hash) take(key, out []byte, flags uint64) syscall.Errno {
	return h.remove(key, out, flags)
}

// remove deletes an element, copying its value to out if that is not nil.
func (h *hash) remove(key, out []byte, flags uint64) syscall.Errno {
	sum := h.seeds.hash(key)
	s := h.lock(sum)
	e, at := h.findLocked(key, sum)
	if e == nil {
		s.Unlock()
		return syscall.ENOENT
	}
	if out != nil {
		h.copyAll(out, e, flags)
	}
	h.unlink(e, at)
	h.count.Add(-1)
	if h.lru == nil {
		h.release(e)
		s.Unlock()
		return 0
	}
	*stateOf(e) = slotIdle
	h.m.dropped(h.value(e, 0))
	s.Unlock()
	h.lru.gone(e)
	return 0
}

// copyAll copies a value as the system call side sees it.
func (h *hash) copyAll(out []byte, e ref, flags uint64) {
	if h.perCPU == 0 {
		h.m.copyValue(out, h.value(e, 0), flags)
		return
	}
	each := int(round8(uint32(h.vsize)))
	for c := range h.m.spec.CPUs {
		copy(out[c*each:(c+1)*each], h.value(e, c))
	}
}

func (h *hash) next(key, out []byte) syscall.Errno {
	b := uint32(0)
	if key != nil {
		sum := h.seeds.hash(key)
		if e := h.find(key, sum); e != nil {
			if l := atomic.LoadUint32(nextOf(e)); l&linkEnd == 0 {
				copy(out, h.key(h.ref(l)))
				return 0
			}
			b = uint32(sum)&h.mask + 1
		}
	}
	for ; b <= h.mask; b++ {
		if l := atomic.LoadUint32(h.bucket(b)); l&linkEnd == 0 {
			copy(out, h.key(h.ref(l)))
			return 0
		}
	}
	return syscall.ENOENT
}
