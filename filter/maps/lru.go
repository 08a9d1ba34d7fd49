package maps

import (
	"sync"
	"syscall"
	"unsafe"
)

// lru makes room in a full hash map. A hand goes round over the slots in the order
// of their addresses, which is about the order of insertion: an element that was
// looked up since the hand last came by is spared once, any other is evicted.
//
// As in Linux the room is made before anything is looked at, so that an update of
// an existing element of a full map evicts another one.
type lru struct {
	h *hash

	mu   sync.Mutex
	hand uint32
}

// touch marks an element as used. The test keeps the cache line shared.
func touch(e ref) {
	if p := (*uint8)(unsafe.Add(e, hashRef)); *p == 0 {
		*p = 1
	}
}

func (u *lru) set(key, value []byte, sum uint64, flags uint64, cpu int) syscall.Errno {
	h := u.h
	if h.perCPU != 0 || flags != 0 {
		// Nothing to make room for: the element stays, or must not be added.
		s := h.lock(sum)
		old, _ := h.findLocked(key, sum)
		if e := checkExist(old != nil, flags); e != 0 || (old != nil && h.perCPU != 0) {
			if e == 0 {
				h.write(old, value, flags, cpu)
				touch(old)
			}
			s.Unlock()
			return e
		}
		s.Unlock()
	}
	e := u.room()
	if e == nil {
		return syscall.ENOMEM
	}
	h.prepare(e, key, value, sum, cpu)
	s := h.lock(sum)
	defer s.Unlock()
	old, at := h.findLocked(key, sum)
	if err := checkExist(old != nil, flags); err != 0 {
		h.slots.put(e)
		return err
	}
	*(*uint16)(unsafe.Add(e, hashRef)) = 1 << 8 // not used yet; holds an element
	h.publish(e, sum, old, at)
	if old == nil {
		h.count.Add(1)
		return 0
	}
	touch(e)
	u.gone(old)
	h.release(old)
	return 0
}

// gone marks an unlinked element's slot as empty. The bucket is locked.
func (u *lru) gone(e ref) { *(*uint8)(unsafe.Add(e, hashState)) = 0 }

// room returns a free slot, evicting an element if there is none.
func (u *lru) room() ref {
	h := u.h
	u.mu.Lock()
	defer u.mu.Unlock()
	if e, _ := h.slots.get(); e != nil {
		return e
	}
	// Twice round clears every mark; a third time covers slots that were being
	// filled as the hand passed.
	for range 3 * h.slots.n {
		e := h.slots.r.at(uintptr(u.hand) * h.slots.stride)
		if u.hand++; u.hand == h.slots.n {
			u.hand = 0
		}
		used := (*uint8)(unsafe.Add(e, hashRef))
		if *(*uint8)(unsafe.Add(e, hashState)) == 0 {
			continue
		}
		if *used != 0 {
			*used = 0
			continue
		}
		if u.evict(e) {
			return e
		}
	}
	e, _ := h.slots.get()
	return e
}

// evict unlinks an element if it is still in its chain.
func (u *lru) evict(e ref) bool {
	h := u.h
	sum := h.seeds.hash(h.key(e))
	s := h.lock(sum)
	defer s.Unlock()
	at := h.bucket(uint32(sum) & h.mask)
	for l := *at; l&linkEnd == 0; l = *at {
		if h.ref(l) == e {
			h.unlink(e, at)
			u.gone(e)
			h.count.Add(-1)
			h.m.dropped(h.value(e, 0))
			return true
		}
		at = nextOf(h.ref(l))
	}
	return false
}

// dropped tells the runner that a value has left the map, for timers in it.
func (m *Map) dropped(value []byte) {
	if f := m.onDrop.Load(); f != nil {
		(*f)(value)
	}
}

// OnDrop sets a function that is called with each value that leaves the map, while
// it is still intact; it must not call the map. The runner cancels timers there.
func (m *Map) OnDrop(f func(value []byte)) { m.onDrop.Store(&f) }
