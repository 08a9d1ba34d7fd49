package maps

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"syscall"
)

// Parts of the flags of bpf_perf_event_output.
const (
	perfIndexMask  = 0xffffffff
	PerfCurrentCPU = 0xffffffff // in place of an index
)

// perf is the store of PerfEventArray: a buffer at each index that has a reader.
type perf struct {
	m     *Map
	slots []atomic.Pointer[perfBuffer]
}

func newPerf(m *Map) (store, error) {
	if m.spec.MaxEntries > 1<<20 {
		return nil, syscall.ENOMEM
	}
	return &perf{m: m, slots: make([]atomic.Pointer[perfBuffer], m.spec.MaxEntries)}, nil
}

func (p *perf) elem([]byte, int) []byte { return nil }

// set would take a perf event's descriptor, of which there are none here: use
// NewPerfReader.
func (p *perf) set(key, _ []byte, flags uint64, _ int) syscall.Errno {
	return refuseFD(key, flags, uint32(len(p.slots)))
}

func (p *perf) unset(key []byte) syscall.Errno {
	i := index(key)
	if i >= uint32(len(p.slots)) {
		return syscall.E2BIG
	}
	if p.slots[i].Swap(nil) == nil {
		return syscall.ENOENT
	}
	return 0
}

func (p *perf) next(key, out []byte) syscall.Errno {
	return nextIndex(key, out, uint32(len(p.slots)))
}

func (p *perf) view(_, _ []byte) syscall.Errno { return ENOTSUPP }

// PerfOutput is bpf_perf_event_output on a CPU slot: the record is data followed by
// extra (the part of the packet that the flags asked for). The lower half of flags
// is an index or PerfCurrentCPU.
func (m *Map) PerfOutput(flags uint64, cpu int, data, extra []byte) syscall.Errno {
	p, ok := m.store.(*perf)
	if !ok {
		return syscall.EINVAL
	}
	i := flags & perfIndexMask
	if i == PerfCurrentCPU {
		i = uint64(cpu)
	}
	if i >= uint64(len(p.slots)) {
		return syscall.E2BIG
	}
	b := p.slots[i].Load()
	switch {
	case b == nil:
		return syscall.ENOENT
	case int(i) != cpu:
		return syscall.EOPNOTSUPP
	}
	return b.put(data, extra)
}

// perfBuffer is a bounded ring of length-prefixed records.
type perfBuffer struct {
	mu   sync.Mutex
	buf  []byte
	head int // first record
	used int
	lost uint64
	wake chan struct{} // shared by the buffers of one reader
}

func (b *perfBuffer) put(parts ...[]byte) syscall.Errno {
	n := 4
	for _, p := range parts {
		n += len(p)
	}
	b.mu.Lock()
	if b.used+n > len(b.buf) {
		b.lost++
		b.mu.Unlock()
		return syscall.ENOSPC
	}
	var size [4]byte
	binary.NativeEndian.PutUint32(size[:], uint32(n-4))
	b.write(size[:])
	for _, p := range parts {
		b.write(p)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return 0
}

func (b *perfBuffer) write(p []byte) {
	at := (b.head + b.used) % len(b.buf)
	n := copy(b.buf[at:], p)
	copy(b.buf, p[n:])
	b.used += len(p)
}

func (b *perfBuffer) read(p []byte) {
	n := copy(p, b.buf[b.head:])
	copy(p[n:], b.buf)
	b.head = (b.head + len(p)) % len(b.buf)
	b.used -= len(p)
}

func (b *perfBuffer) get(out []byte) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used == 0 {
		return nil, false
	}
	var size [4]byte
	b.read(size[:])
	n := int(binary.NativeEndian.Uint32(size[:]))
	if cap(out) < n {
		out = make([]byte, n)
	}
	out = out[:n]
	b.read(out)
	return out, true
}

// PerfRecord is one record of a perf event array.
type PerfRecord struct {
	CPU  int
	Data []byte
}

// PerfReader takes records out of all buffers of a perf event array. It is not
// safe for concurrent use, except Close.
type PerfReader struct {
	m    *Map
	p    *perf
	bufs []*perfBuffer
	next int
	wake chan struct{}
	done chan struct{}
	over atomic.Bool
}

// NewPerfReader gives every index of a perf event array below CPUs a buffer of
// perCPU bytes and returns the reader of all of them. Buffers that were there
// before are cut off. It holds a reference until Close, which removes the buffers.
func (m *Map) NewPerfReader(perCPU int) (*PerfReader, error) {
	p, ok := m.store.(*perf)
	if !ok || perCPU < 8 || perCPU > 1<<30 {
		return nil, m.fail("read", syscall.EINVAL, "not a perf event array, or no room for a record")
	}
	r := &PerfReader{m: m.Hold(), p: p, wake: make(chan struct{}, 1), done: make(chan struct{})}
	for i := range min(len(p.slots), m.spec.CPUs) {
		b := &perfBuffer{buf: make([]byte, perCPU), wake: r.wake}
		r.bufs = append(r.bufs, b)
		p.slots[i].Store(b)
	}
	return r, nil
}

// TryRead returns the next record, or false if there is none. Records of one CPU
// come in order. The data is in buf if it fits.
func (r *PerfReader) TryRead(buf []byte) (PerfRecord, bool) {
	for range r.bufs {
		cpu := r.next
		if r.next++; r.next == len(r.bufs) {
			r.next = 0
		}
		if data, ok := r.bufs[cpu].get(buf); ok {
			r.next = cpu
			return PerfRecord{CPU: cpu, Data: data}, true
		}
	}
	return PerfRecord{}, false
}

// Read is TryRead that waits for a record, for ctx, or for Close.
func (r *PerfReader) Read(ctx context.Context, buf []byte) (PerfRecord, error) {
	for {
		if rec, ok := r.TryRead(buf); ok {
			return rec, nil
		}
		select {
		case <-r.wake:
		case <-r.done:
			return PerfRecord{}, ErrClosed
		case <-ctx.Done():
			return PerfRecord{}, ctx.Err()
		}
	}
}

// Lost returns how many records found no room.
func (r *PerfReader) Lost() uint64 {
	var n uint64
	for _, b := range r.bufs {
		b.mu.Lock()
		n += b.lost
		b.mu.Unlock()
	}
	return n
}

// Close removes the buffers, ends a waiting Read and drops the reference.
func (r *PerfReader) Close() {
	if !r.over.CompareAndSwap(false, true) {
		return
	}
	for i, b := range r.bufs {
		r.p.slots[i].CompareAndSwap(b, nil)
	}
	close(r.done)
	r.m.Close()
}
