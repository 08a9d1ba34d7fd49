package maps

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// ErrClosed is returned by readers after Close.
var ErrClosed = errors.New("maps: reader is closed")

// RingReader takes records out of a ring buffer in order. There should be one per
// ring; it is not safe for concurrent use, except Close.
type RingReader struct {
	m    *Map
	b    *ring
	done chan struct{}
	over atomic.Bool
}

// NewRingReader returns a reader of a ring buffer. It holds a reference until
// Close.
func (m *Map) NewRingReader() (*RingReader, error) {
	b := m.ring()
	if b == nil {
		return nil, m.fail("read", syscall.EINVAL, "not a ring buffer")
	}
	return &RingReader{m: m.Hold(), b: b, done: make(chan struct{})}, nil
}

// TryRead appends the next record to buf[:0] and returns it, or false if there is
// none yet. A record that a program still fills holds back those after it.
func (r *RingReader) TryRead(buf []byte) ([]byte, bool) {
	b := r.b
	cons := pos(b.ctl, ringConsumer)
	for {
		at := *cons
		if at == atomic.LoadUint64(pos(b.ctl, ringProducer)) {
			return nil, false
		}
		h := b.header(at)
		n := atomic.LoadUint32(h)
		if n&ringReady == 0 {
			return nil, false
		}
		// The length is in memory that programs can reach.
		size := min(recordSize(n), b.size)
		record := unsafe.Slice((*byte)(unsafe.Pointer(h)), size)
		discarded := n&ringDiscard != 0
		if !discarded {
			buf = append(buf[:0], record[ringHeader:min(uint64(n&ringMaxSize)+ringHeader, size)]...)
		}
		clear(record)
		atomic.StoreUint64(cons, at+size)
		if !discarded {
			return buf, true
		}
	}
}

// Read is TryRead that waits for a record, for ctx, or for Close.
func (r *RingReader) Read(ctx context.Context, buf []byte) ([]byte, error) {
	for {
		if out, ok := r.TryRead(buf); ok {
			return out, nil
		}
		select {
		case <-r.b.wake:
		case <-r.done:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends a waiting Read and drops the reference.
func (r *RingReader) Close() {
	if r.over.CompareAndSwap(false, true) {
		close(r.done)
		r.m.Close()
	}
}
