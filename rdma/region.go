package rdma

import (
	"sync/atomic"
	"unsafe"

	"taproom/rdma/roce"
)

// region is what a key stands for at one moment: a memory region, or a window
// onto one. It never changes; a change of the object publishes another region in
// the key's slot, which packets under way see at their next look.
type region struct {
	key    uint32 // all 32 bits: index and the 8-bit key
	pd     *PD
	va, n  uint64 // the addresses it answers to
	access Access
	valid  bool
	buf    []byte   // the memory, or
	pages  [][]byte // its pages, each 1<<shift long
	shift  uint
	guard  bool   // touching the memory may fault
	first  uint64 // offset of va in the first page
	mr     *MR    // whose memory it is
	mw     *MW    // the window, nil for a region proper
	qp     *QP    // type 2 windows: whose peer may use it
}

// contains tells whether n bytes from va on are inside; no sum can overflow.
func (r *region) contains(va, n uint64) bool {
	return va >= r.va && va-r.va <= r.n && n <= r.n-(va-r.va)
}

// at returns the memory from va on: up to n bytes, fewer where a page ends. The
// caller has checked the range.
func (r *region) at(va, n uint64) []byte {
	off := va - r.va
	if r.pages == nil {
		return r.buf[off : off+n]
	}
	off += r.first
	p := r.pages[off>>r.shift]
	in := off & (1<<r.shift - 1)
	return p[in:min(in+n, uint64(len(p)))]
}

// copyIn writes b to memory from va on; false if that faulted.
func (r *region) copyIn(va uint64, b []byte) bool {
	for len(b) > 0 {
		m := r.at(va, uint64(len(b)))
		if r.guard {
			if !guardedCopy(m, b[:len(m)]) {
				return false
			}
		} else {
			copy(m, b)
		}
		b, va = b[len(m):], va+uint64(len(m))
	}
	return true
}

// copyOut reads memory from va on into dst and adds it to the ICRC; false if
// that faulted.
func (r *region) copyOut(dst []byte, va uint64, s roce.Sum) (roce.Sum, bool) {
	for len(dst) > 0 {
		m := r.at(va, uint64(len(dst)))
		if r.guard {
			if !guardedCopy(dst, m) {
				return s, false
			}
			s = s.Add(dst[:len(m)])
		} else {
			s = s.Copy(dst, m)
		}
		dst, va = dst[len(m):], va+uint64(len(m))
	}
	return s, true
}

// word returns an aligned 8-byte word of the memory for atomic access, or nil
// where the machine cannot have one there: an address of the region may be a
// multiple of eight when that of its memory is not.
func (r *region) word(va uint64) *uint64 {
	b := r.at(va, roce.AtomicLen)
	if len(b) < roce.AtomicLen || uintptr(unsafe.Pointer(&b[0]))%8 != 0 {
		return nil
	}
	return (*uint64)(unsafe.Pointer(&b[0]))
}

// local finds the memory of an SGE, or nil if key, domain, range or right do
// not hold.
func (d *Device) local(pd *PD, key uint32, va, n uint64, need Access) *region {
	r := d.keys.get(int(key >> 8))
	if r == nil || !r.valid || r.key != key || r.mw != nil || r.pd != pd || r.access&need != need || !r.contains(va, n) {
		return nil
	}
	return r
}

// remote finds the memory that a peer named by rkey, or nil.
func (q *QP) remote(key uint32, va, n uint64, need Access) *region {
	r := q.dev.keys.get(int(key >> 8))
	if r == nil || !r.valid || r.key != key || r.pd != q.pd || r.access&need != need || !r.contains(va, n) {
		return nil
	}
	if r.qp != nil && r.qp != q {
		return nil
	}
	return r
}

// slotOf is the slot a key's index names, nil if there is none.
func (d *Device) slotOf(key uint32) *atomic.Pointer[region] {
	if d.keys.get(int(key>>8)) == nil {
		return nil
	}
	return d.keys.slot(int(key >> 8))
}

// invalidate makes a key useless until it is bound or registered anew, as
// LOCAL_INV and SEND with invalidate do: type 2 windows of this queue pair, and
// fast-register regions without windows. A key that is not live is refused.
func (q *QP) invalidate(key uint32) bool {
	slot := q.dev.slotOf(key)
	if slot == nil {
		return false
	}
	r := slot.Load()
	if r == nil || !r.valid || r.key != key || r.pd != q.pd {
		return false
	}
	switch {
	case r.mw != nil:
		if r.mw.typ != MWType2 || r.qp != q {
			return false
		}
	case !r.mr.fast || r.mr.windows.Load() > 0:
		return false
	}
	dead := *r
	dead.valid, dead.qp = false, nil
	if !slot.CompareAndSwap(r, &dead) {
		return false
	}
	if r.mw != nil {
		r.mr.windows.Add(-1)
	}
	return true
}
