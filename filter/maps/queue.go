package maps

import (
	"sync"
	"syscall"
	"unsafe"
)

// queue is the store of Queue and Stack: a ring of values.
type queue struct {
	m      *Map
	base   unsafe.Pointer
	stride uintptr
	vsize  uintptr
	lifo   bool

	mu   sync.Mutex
	head uint32 // oldest value
	len  uint32
	max  uint32
}

func newQueue(m *Map) (store, error) {
	s := &m.spec
	q := &queue{
		m: m, stride: uintptr(round8(s.ValueSize)), vsize: uintptr(s.ValueSize),
		lifo: s.Type == Stack, max: s.MaxEntries,
	}
	r, err := m.alloc(uint64(q.stride)*uint64(s.MaxEntries), true)
	if err != nil {
		return nil, err
	}
	q.base = r.base
	return q, nil
}

// at returns value i, counted from the oldest.
func (q *queue) at(i uint32) []byte {
	slot := uint64(q.head) + uint64(i)
	if slot >= uint64(q.max) {
		slot -= uint64(q.max)
	}
	return unsafe.Slice((*byte)(unsafe.Add(q.base, uintptr(slot)*q.stride)), q.vsize)
}

func (q *queue) push(value []byte, flags uint64) syscall.Errno {
	if flags > UpdateExist || flags&UpdateNoExist != 0 {
		return syscall.EINVAL
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.len == q.max {
		if flags != UpdateExist {
			return syscall.E2BIG
		}
		// The oldest value makes room.
		if q.head++; q.head == q.max {
			q.head = 0
		}
		q.len--
	}
	copy(q.at(q.len), value)
	q.len++
	return 0
}

func (q *queue) get(out []byte, remove bool) syscall.Errno {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.len == 0 {
		clear(out)
		return syscall.ENOENT
	}
	if q.lifo {
		copy(out, q.at(q.len-1))
	} else {
		copy(out, q.at(0))
	}
	if !remove {
		return 0
	}
	q.len--
	if !q.lifo {
		if q.head++; q.head == q.max {
			q.head = 0
		}
	}
	return 0
}

func (q *queue) elem([]byte, int) []byte                            { return nil }
func (q *queue) set(_, v []byte, flags uint64, _ int) syscall.Errno { return q.push(v, flags) }
func (q *queue) unset([]byte) syscall.Errno                         { return syscall.EINVAL }
func (q *queue) next(_, _ []byte) syscall.Errno                     { return syscall.EINVAL }
func (q *queue) view(_, out []byte) syscall.Errno                   { return q.get(out, false) }
func (q *queue) take(_, out []byte, _ uint64) syscall.Errno         { return q.get(out, true) }

// Push appends a value to a queue or stack, or adds it to a bloom filter
// (bpf_map_push_elem).
func (m *Map) Push(value []byte, flags uint64) syscall.Errno {
	if !m.spec.Type.Keyless() || len(value) != int(m.spec.ValueSize) {
		return syscall.EINVAL
	}
	return m.store.set(nil, value, flags, 0)
}

// Pop takes a value off a queue or stack (bpf_map_pop_elem).
func (m *Map) Pop(out []byte) syscall.Errno {
	q, ok := m.store.(*queue)
	if !ok || len(out) != int(q.vsize) {
		return syscall.EINVAL
	}
	return q.get(out, true)
}

// Peek copies the next value of a queue or stack, or asks a bloom filter whether
// it has seen the value in out (bpf_map_peek_elem).
func (m *Map) Peek(out []byte) syscall.Errno {
	if !m.spec.Type.Keyless() || len(out) != int(m.spec.ValueSize) {
		return syscall.EINVAL
	}
	return m.store.(viewer).view(nil, out)
}
