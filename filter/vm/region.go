package vm

import (
	"sort"
	"unsafe"
)

// region is a run of memory that a program may touch. Programs see real
// addresses, so that interpreted and compiled code and all helpers share one
// notion of a pointer; the interpreter holds every access against the regions of
// the run.
type region struct {
	base  uint64
	size  uint64
	ptr   unsafe.Pointer // to base; keeps Go memory alive
	write bool
}

func regionOf(b []byte, write bool) region {
	p := unsafe.Pointer(unsafe.SliceData(b))
	return region{base: uint64(uintptr(p)), size: uint64(len(b)), ptr: p, write: write}
}

// at returns a pointer to n bytes at address a, nil if they are not all inside.
func (g *region) at(a, n uint64) unsafe.Pointer {
	if o := a - g.base; o < g.size && g.size-o >= n {
		return unsafe.Add(g.ptr, o)
	}
	return nil
}

// regions is a set of regions that do not overlap, sorted by address. The zero
// value is empty.
type regions struct {
	list []region
	last int // where the previous hit was
}

// find returns the region that covers n bytes at a, nil if none does.
func (s *regions) find(a, n uint64) *region {
	if s.last < len(s.list) {
		if g := &s.list[s.last]; g.at(a, n) != nil {
			return g
		}
	}
	if i := s.search(a); i >= 0 && s.list[i].at(a, n) != nil {
		s.last = i
		return &s.list[i]
	}
	return nil
}

// search returns the last region that begins at or below a, -1 if there is none.
func (s *regions) search(a uint64) int {
	if len(s.list) <= 8 {
		for i := len(s.list) - 1; i >= 0; i-- {
			if s.list[i].base <= a {
				return i
			}
		}
		return -1
	}
	return sort.Search(len(s.list), func(i int) bool { return s.list[i].base > a }) - 1
}

// add puts a region into the set. One that begins at the same address is
// replaced.
func (s *regions) add(g region) {
	i := s.search(g.base)
	if i >= 0 && s.list[i].base == g.base {
		s.list[i] = g
		return
	}
	s.list = append(s.list, region{})
	copy(s.list[i+2:], s.list[i+1:])
	s.list[i+1] = g
	s.last = i + 1
}

// remove takes the region that begins at base out of the set.
func (s *regions) remove(base uint64) {
	if i := s.search(base); i >= 0 && s.list[i].base == base {
		s.list = append(s.list[:i], s.list[i+1:]...)
	}
}

// has reports whether a region begins at base.
func (s *regions) has(base uint64) bool {
	i := s.search(base)
	return i >= 0 && s.list[i].base == base
}

// reset empties the set.
func (s *regions) reset() {
	clear(s.list)
	s.list = s.list[:0]
}
