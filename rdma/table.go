package rdma

import (
	"sync"
	"sync/atomic"
)

// table is an array of pointers that grows, with lookups that take no lock.
// Slots are handed out in turn, so that a number comes back as late as possible.
type table[T any] struct {
	rows atomic.Pointer[[]*[tableRow]atomic.Pointer[T]]
	mu   sync.Mutex // guards what follows, and growth
	next int
	used int
	max  int
}

const tableRow = 512

// get returns what is in a slot, nil if nothing.
func (t *table[T]) get(i int) *T {
	rows := t.rows.Load()
	if rows == nil || uint(i)/tableRow >= uint(len(*rows)) {
		return nil
	}
	return (*rows)[i/tableRow][i%tableRow].Load()
}

// slot returns the place of an index that was handed out.
func (t *table[T]) slot(i int) *atomic.Pointer[T] {
	return &(*t.rows.Load())[i/tableRow][i%tableRow]
}

// put finds a free slot, lets make build what goes there, and returns its index;
// -1 if the table is full.
func (t *table[T]) put(build func(i int) *T) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used >= t.max {
		return -1
	}
	for range t.max {
		i := t.next
		if t.next++; t.next >= t.max {
			t.next = 0
		}
		t.growLocked(i)
		if s := t.slot(i); s.Load() == nil {
			s.Store(build(i))
			t.used++
			return i
		}
	}
	return -1
}

// putAt takes a given slot; false if it is taken.
func (t *table[T]) putAt(i int, v *T) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.growLocked(i)
	if s := t.slot(i); s.Load() == nil {
		s.Store(v)
		t.used++
		return true
	}
	return false
}

func (t *table[T]) growLocked(i int) {
	var rows []*[tableRow]atomic.Pointer[T]
	if p := t.rows.Load(); p != nil {
		rows = *p
	}
	if i/tableRow < len(rows) {
		return
	}
	grown := append([]*[tableRow]atomic.Pointer[T](nil), rows...)
	for i/tableRow >= len(grown) {
		grown = append(grown, new([tableRow]atomic.Pointer[T]))
	}
	t.rows.Store(&grown)
}

func (t *table[T]) remove(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.slot(i).Swap(nil) != nil {
		t.used--
	}
}

// all returns what is there now, in order of index.
func (t *table[T]) all() (s []*T) {
	if p := t.rows.Load(); p != nil {
		for _, row := range *p {
			for i := range row {
				if v := row[i].Load(); v != nil {
					s = append(s, v)
				}
			}
		}
	}
	return s
}

func (t *table[T]) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}
