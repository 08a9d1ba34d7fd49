package maps

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The control block of a ring buffer, at Layout.Ctl: one page, directly before the
// data. Positions only grow; masked they are offsets into the data.
const (
	ringConsumer = 0  // uint64: read up to here
	ringProducer = 64 // uint64: reserved up to here
)

// A record is a header of 8 bytes and the sample, and begins on a multiple of 8. What
// is not reserved is zero throughout, so that a reader takes a header that nobody has
// written yet for one of a record that is not ready.
//
//	+0  uint32  length with the bits below; written last, 0 until then
//	+4  uint32  length, written by who reserves
//
// To reserve is to move the producer's position on by compare-and-swap, if the end
// stays within Mask bytes of the consumer's. To submit is to store the first word.
const (
	ringHeader  = 8
	ringReady   = 1 << 31
	ringDiscard = 1 << 30 // to be skipped by the reader
	ringMaxSize = 1<<30 - 1
)

// Flags of the ring buffer helpers.
const (
	RingNoWakeup    = 1
	RingForceWakeup = 2
)

// What Query can ask.
const (
	RingAvailable = 0
	RingSize      = 1
	RingConsPos   = 2
	RingProdPos   = 3
)

// ring is the store of RingBuf: many producers, one reader. The data is mapped
// twice in a row, so that a record is always contiguous.
type ring struct {
	noElems
	m    *Map
	ctl  unsafe.Pointer
	data unsafe.Pointer
	size uint64
	wake chan struct{} // capacity 1
}

func newRing(m *Map) (store, error) {
	size := uintptr(m.spec.MaxEntries)
	fd, err := unix.MemfdCreate("taproom-ringbuf", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(pageSize+size)); err != nil {
		return nil, err
	}
	r, err := m.alloc(uint64(pageSize+2*size), true)
	if err != nil {
		return nil, err
	}
	const prot, how = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_FIXED
	if _, err := unix.MmapPtr(fd, 0, r.base, pageSize+size, prot, how); err != nil {
		return nil, err
	}
	if _, err := unix.MmapPtr(fd, pageSize, r.at(pageSize+size), size, prot, how); err != nil {
		return nil, err
	}
	b := &ring{m: m, ctl: r.base, data: r.at(pageSize), size: uint64(size), wake: make(chan struct{}, 1)}
	m.layout = Layout{Kind: LayoutRingBuf, Base: uintptr(b.data), Ctl: uintptr(b.ctl), Mask: b.size - 1}
	return b, nil
}

func pos(ctl unsafe.Pointer, at uintptr) *uint64 { return (*uint64)(unsafe.Add(ctl, at)) }

// header is a record's length word; the sample begins 8 bytes after it.
func (b *ring) header(at uint64) *uint32 {
	return (*uint32)(unsafe.Add(b.data, at&(b.size-1)))
}

// recordSize is what a sample of n bytes takes in the ring.
func recordSize(n uint32) uint64 { return (uint64(n&ringMaxSize) + ringHeader + 7) &^ 7 }

func (b *ring) reserve(n uint64) []byte {
	if n > ringMaxSize || recordSize(uint32(n)) > b.size {
		return nil
	}
	prod, cons := pos(b.ctl, ringProducer), pos(b.ctl, ringConsumer)
	for {
		at := atomic.LoadUint64(prod)
		end := at + recordSize(uint32(n))
		if end-atomic.LoadUint64(cons) > b.size-1 {
			return nil
		}
		if atomic.CompareAndSwapUint64(prod, at, end) {
			h := unsafe.Pointer(b.header(at))
			*(*uint32)(unsafe.Add(h, 4)) = uint32(n)
			return unsafe.Slice((*byte)(unsafe.Add(h, ringHeader)), n)
		}
	}
}

func (b *ring) commit(sample unsafe.Pointer, flags uint64, discard bool) {
	h := (*uint32)(unsafe.Add(sample, -ringHeader))
	n := *(*uint32)(unsafe.Add(sample, -ringHeader+4)) | ringReady
	if discard {
		n |= ringDiscard
	}
	atomic.StoreUint32(h, n)
	// Wake the reader if it is waiting for just this record, unless told otherwise.
	at := uint64(uintptr(unsafe.Pointer(h)) - uintptr(b.data))
	caught := atomic.LoadUint64(pos(b.ctl, ringConsumer))&(b.size-1) == at
	if flags&RingForceWakeup != 0 || caught && flags&RingNoWakeup == 0 {
		b.notify()
	}
}

func (b *ring) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (m *Map) ring() *ring { b, _ := m.store.(*ring); return b }

// Reserve takes n bytes of a ring buffer for a record (bpf_ringbuf_reserve). It
// returns nil if there is no room or flags are not 0. The memory is the program's
// until Submit or Discard.
func (m *Map) Reserve(n, flags uint64) []byte {
	b := m.ring()
	if b == nil || flags != 0 {
		return nil
	}
	return b.reserve(n)
}

// Submit publishes a reserved record; sample is what Reserve returned.
func (m *Map) Submit(sample []byte, flags uint64) { m.finish(sample, flags, false) }

// Discard gives a reserved record up: the reader skips it.
func (m *Map) Discard(sample []byte, flags uint64) { m.finish(sample, flags, true) }

func (m *Map) finish(sample []byte, flags uint64, discard bool) {
	if b := m.ring(); b != nil {
		b.commit(unsafe.Pointer(unsafe.SliceData(sample)), flags, discard)
		runtime.KeepAlive(m)
	}
}

// Wake tells the reader of a ring buffer that there is a record: for compiled
// code that submits on its own.
func (m *Map) Wake() {
	if b := m.ring(); b != nil {
		b.notify()
	}
}

// Output copies data into a new record (bpf_ringbuf_output).
func (m *Map) Output(data []byte, flags uint64) syscall.Errno {
	b := m.ring()
	if b == nil || flags&^(RingNoWakeup|RingForceWakeup) != 0 {
		return syscall.EINVAL
	}
	s := b.reserve(uint64(len(data)))
	if s == nil {
		return syscall.EAGAIN
	}
	copy(s, data)
	b.commit(unsafe.Pointer(unsafe.SliceData(s)), flags, false)
	return 0
}

// Query answers bpf_ringbuf_query; an unknown question gives 0.
func (m *Map) Query(what uint64) uint64 {
	b := m.ring()
	if b == nil {
		return 0
	}
	cons, prod := atomic.LoadUint64(pos(b.ctl, ringConsumer)), atomic.LoadUint64(pos(b.ctl, ringProducer))
	switch what {
	case RingAvailable:
		return prod - cons
	case RingSize:
		return b.size
	case RingConsPos:
		return cons
	case RingProdPos:
		return prod
	}
	return 0
}
