package maps

import (
	"sync"
	"syscall"
	"unsafe"
)

// slots hands out equal pieces of a region. Freed ones are reused oldest first,
// and only when enough of them wait (or no fresh one is left): a program that still holds a
// pointer to a freed one then most probably finds it unchanged. Four bytes at linkAt
// of a free slot link it to the next; the rest of it stays as it was.
type slots struct {
	r      *region
	stride uintptr
	linkAt uintptr

	mu    sync.Mutex
	fresh uint32 // slots never handed out begin here
	n     uint32
	freed uint32 // how many free slots wait
	first uint32 // oldest free slot, as a link; noSlot if none
	last  uint32
}

// minWaiting is how many free slots must wait before one is reused although there
// are fresh ones.
const minWaiting = 256

const noSlot = ^uint32(0)

func (s *slots) init(r *region, stride uintptr, n uint32, linkAt uintptr) {
	s.r, s.stride, s.n, s.linkAt = r, stride, n, linkAt
	s.first, s.last = noSlot, noSlot
}

func (s *slots) freeLink(link uint32) *uint32 {
	return (*uint32)(s.r.at(uintptr(link)*linkUnit + s.linkAt))
}

// get returns a slot, or nil with the errno to report. A fresh slot is zero, a
// reused one holds what it held.
func (s *slots) get() (unsafe.Pointer, syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh < s.n && s.freed < minWaiting {
		end := uintptr(s.fresh+1) * s.stride
		if end <= s.r.usable || s.r.grow(end) == nil {
			s.fresh++
			return s.r.at(end - s.stride), 0
		}
	}
	if s.first == noSlot {
		return nil, syscall.ENOMEM
	}
	l := s.first
	s.freed--
	s.first = *s.freeLink(l)
	if s.first == noSlot {
		s.last = noSlot
	}
	return s.r.at(uintptr(l) * linkUnit), 0
}

// put gives a slot back.
func (s *slots) put(p unsafe.Pointer) {
	l := uint32((uintptr(p) - uintptr(s.r.base)) / linkUnit)
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.freeLink(l) = noSlot
	if s.last == noSlot {
		s.first = l
	} else {
		*s.freeLink(s.last) = l
	}
	s.last = l
	s.freed++
}
