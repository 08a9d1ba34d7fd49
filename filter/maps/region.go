package maps

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageSize = 4096
	// growStep is how much of a reserved region is made usable at a time.
	growStep = 256 << 10
)

// region is a run of address space outside the Go heap. It is reserved whole,
// and its first used bytes are readable and writable, zero at first.
type region struct {
	base   unsafe.Pointer
	size   uintptr // reserved
	budget *Budget

	mu     sync.Mutex
	usable uintptr // charged to budget
}

// newRegion reserves size bytes. If whole is set they are usable and charged at
// once; if not, grow does that step by step.
func newRegion(b *Budget, size uint64, whole bool) (*region, error) {
	if size == 0 {
		size = 1
	}
	if size > 1<<40 {
		return nil, syscall.ENOMEM
	}
	r := &region{size: uintptr(size+pageSize-1) &^ (pageSize - 1), budget: b}
	prot := unix.PROT_NONE
	if whole {
		if err := b.charge(int64(r.size)); err != nil {
			return nil, err
		}
		prot, r.usable = unix.PROT_READ|unix.PROT_WRITE, r.size
	}
	p, err := unix.MmapPtr(-1, 0, nil, r.size, prot, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		if whole {
			b.credit(int64(r.size))
		}
		return nil, syscall.ENOMEM
	}
	r.base = p
	return r, nil
}

// grow makes at least the first n bytes usable.
func (r *region) grow(n uintptr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= r.usable {
		return nil
	}
	if n > r.size {
		return syscall.ENOMEM
	}
	to := min((n+growStep-1)&^(growStep-1), r.size)
	if err := r.budget.charge(int64(to - r.usable)); err != nil {
		return err
	}
	if err := unix.Mprotect(unsafe.Slice((*byte)(r.base), to), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		r.budget.credit(int64(to - r.usable))
		return syscall.ENOMEM
	}
	r.usable = to
	return nil
}

// at returns the address off bytes into the region. Arithmetic on addresses
// outside the Go heap is not subject to the collector.
func (r *region) at(off uintptr) unsafe.Pointer { return unsafe.Add(r.base, off) }

// free unmaps the region. Nothing may point into it any more.
func (r *region) free() {
	if r.base == nil {
		return
	}
	_ = unix.MunmapPtr(r.base, r.size)
	r.budget.credit(int64(r.usable))
	r.base = nil
}
