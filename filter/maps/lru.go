package maps

import (
	"sync"
	"syscall"
	"unsafe"
)

// Header of an element of an LRU map, behind that of any hash element.
const (
	lruRef   = 8  // uint8: looked up by a program since it was last considered
	lruState = 9  // uint8: see below
	lruList  = 10 // uint8: which list it is on
	lruOlder = 12 // link to the neighbours in the order of insertion
	lruNewer = 16
	lruKey   = 24
)

// States of a slot.
const (
	slotIdle   = iota // not an element; not to be touched by evictions
	slotActive        // an element in its chain
)

// lru makes room in a full hash map. Slots are handed out from a small stock. When it
// is used up it is filled again, first with slots that were never used, then by
// evictions, and elements are sorted into lists, by age in each: those added since
// (pending) into those that were looked up when they were last considered (active)
// and those that were not (inactive), of which the oldest are evicted.
//
// As in Linux a slot is taken before anything is looked at, so that an update of an
// existing element of a full map evicts others.
//
// Locks: mu comes before a bucket's lock. A slot is on a list from before it is in a
// chain until after: who unlinks an element under its bucket's lock marks it idle,
// and takes it off the list when that lock is released.
type lru struct {
	h     *hash
	batch int // what the stock is filled to

	mu    sync.Mutex
	lists [lists]ageList
	stock int // free slots to hand out
	spare int // free slots beside them
}

// The lists.
const (
	pending = iota
	active
	inactive
	lists
)

// ageList is a list of slots by links; noSlot at both ends if it is empty.
type ageList struct {
	oldest, newest uint32
	n              int
}

// maxScan bounds how many elements are evicted, or considered, at once.
const maxScan = 128

func newLRU(h *hash, entries, cpus int) *lru {
	u := &lru{h: h, batch: min(max(entries/cpus/2, 1), maxScan), spare: entries}
	for i := range u.lists {
		u.lists[i].oldest, u.lists[i].newest = noSlot, noSlot
	}
	return u
}

func listOf(e ref) *uint8   { return (*uint8)(unsafe.Add(e, lruList)) }
func refByte(e ref) *uint8  { return (*uint8)(unsafe.Add(e, lruRef)) }
func stateOf(e ref) *uint8  { return (*uint8)(unsafe.Add(e, lruState)) }
func olderOf(e ref) *uint32 { return (*uint32)(unsafe.Add(e, lruOlder)) }
func newerOf(e ref) *uint32 { return (*uint32)(unsafe.Add(e, lruNewer)) }

// touch marks an element as used. The test keeps the cache line shared.
func touch(e ref) {
	if p := refByte(e); *p == 0 {
		*p = 1
	}
}

func (u *lru) set(key, value []byte, sum uint64, flags uint64, cpu int) syscall.Errno {
	h := u.h
	var e ref
	if h.perCPU == 0 || flags != UpdateExist {
		if e = u.room(); e == nil {
			return syscall.ENOMEM
		}
		h.prepare(e, key, value, sum, cpu)
	}
	s := h.lock(sum)
	old, at := h.findLocked(key, sum)
	err := checkExist(old != nil, flags)
	switch {
	case err != 0:
	case old != nil && h.perCPU != 0:
		h.write(old, value, flags, cpu)
		touch(old)
	default:
		*stateOf(e) = slotActive
		h.publish(e, sum, old, at)
		if old == nil {
			h.count.Add(1)
		} else {
			touch(e)
			*stateOf(old) = slotIdle
			h.m.dropped(h.value(old, 0))
		}
		e = old // what is to be given back
	}
	s.Unlock()
	if e != nil {
		u.gone(e)
	}
	return err
}

// gone takes an idle element off its list and makes its slot free.
func (u *lru) gone(e ref) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.free(e)
}

// free takes a slot off its list. One that was handed out since the stock was filled
// goes back to it, any other to the rest.
func (u *lru) free(e ref) {
	if *listOf(e) == pending {
		u.stock++
	} else {
		u.spare++
	}
	u.detach(e)
	u.h.slots.put(e)
}

// append makes an element the newest of a list, as not looked up.
func (u *lru) append(e ref, list uint8) {
	a := &u.lists[list]
	l := u.h.link(e)
	*listOf(e), *refByte(e) = list, 0
	*olderOf(e), *newerOf(e) = a.newest, noSlot
	if a.newest == noSlot {
		a.oldest = l
	} else {
		*newerOf(u.h.ref(a.newest)) = l
	}
	a.newest = l
	a.n++
}

func (u *lru) detach(e ref) {
	a := &u.lists[*listOf(e)]
	older, newer := *olderOf(e), *newerOf(e)
	if older == noSlot {
		a.oldest = newer
	} else {
		*newerOf(u.h.ref(older)) = newer
	}
	if newer == noSlot {
		a.newest = older
	} else {
		*olderOf(u.h.ref(newer)) = older
	}
	a.n--
}

// room returns a free slot that is on the list of pending ones.
func (u *lru) room() ref {
	h := u.h
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stock == 0 {
		u.refill()
	}
	e, _ := h.slots.get()
	if e == nil {
		return nil
	}
	u.stock--
	*stateOf(e) = slotIdle
	u.append(e, pending)
	return e
}

// refill sorts the elements and fills the stock.
func (u *lru) refill() {
	u.sort(pending, active, inactive, u.lists[pending].n)
	if u.lists[inactive].n < u.lists[active].n {
		u.sort(active, active, inactive, maxScan)
	}
	u.promote()
	n := min(u.batch, u.spare)
	u.spare -= n
	u.stock += n
	if n < u.batch {
		u.shrink(u.batch - n)
	}
}

// promote moves inactive elements that were looked up to the active ones.
func (u *lru) promote() {
	l := u.lists[inactive].oldest
	for n := min(u.lists[inactive].n, maxScan); n > 0; n-- {
		e := u.h.ref(l)
		l = *newerOf(e)
		if *refByte(e) != 0 {
			u.move(e, active)
		}
	}
}

// shrink evicts up to n inactive elements; if all were looked up meanwhile, one goes
// all the same.
func (u *lru) shrink(n int) {
	evicted := false
	for tries := min(u.lists[inactive].n, maxScan); tries > 0 && n > 0; tries-- {
		e := u.h.ref(u.lists[inactive].oldest)
		switch {
		case *refByte(e) != 0:
			u.move(e, active)
		case u.evict(e):
			u.restock(e)
			evicted = true
			n--
		default:
			u.move(e, inactive) // being added just now
		}
	}
	for _, list := range []uint8{inactive, active, pending} {
		for tries := u.lists[list].n; tries > 0 && !evicted; tries-- {
			e := u.h.ref(u.lists[list].oldest)
			if evicted = u.evict(e); evicted {
				u.restock(e)
			} else {
				u.move(e, list)
			}
		}
	}
}

// restock puts an evicted element's slot into the stock.
func (u *lru) restock(e ref) {
	u.detach(e)
	u.h.slots.put(e)
	u.stock++
}

// sort moves up to n of the oldest elements of a list to one of two others, by
// whether they were looked up.
func (u *lru) sort(from, used, unused uint8, n int) {
	for n = min(n, u.lists[from].n); n > 0; n-- {
		e := u.h.ref(u.lists[from].oldest)
		if *refByte(e) != 0 {
			u.move(e, used)
		} else {
			u.move(e, unused)
		}
	}
}

func (u *lru) move(e ref, to uint8) {
	u.detach(e)
	u.append(e, to)
}

// evict unlinks an element, unless somebody else just did.
func (u *lru) evict(e ref) bool {
	h := u.h
	sum := h.seeds.hash(h.key(e))
	s := h.lock(sum)
	defer s.Unlock()
	if *stateOf(e) != slotActive {
		return false
	}
	at := h.bucket(uint32(sum) & h.mask)
	for l := *at; l&linkEnd == 0; l = *at {
		if h.ref(l) == e {
			h.unlink(e, at)
			*stateOf(e) = slotIdle
			h.count.Add(-1)
			h.m.dropped(h.value(e, 0))
			return true
		}
		at = nextOf(h.ref(l))
	}
	return false
}
