package maps

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// spinLock is a struct bpf_spin_lock inside a value: 0 free, 1 taken. Programs
// take it with Lock and Unlock through their helpers; nothing waits long, since
// a program may not call anything between the two.
type spinLock uint32

func (l *spinLock) lock() {
	for spins := 0; !atomic.CompareAndSwapUint32((*uint32)(l), 0, 1); spins++ {
		if spins > 64 {
			runtime.Gosched()
		}
	}
}

func (l *spinLock) unlock() { atomic.StoreUint32((*uint32)(l), 0) }

// spinLock returns the lock in a live value. The spec has been checked: the field
// is there and aligned.
func (m *Map) spinLock(v []byte) *spinLock {
	return (*spinLock)(unsafe.Pointer(&v[m.spec.SpinLock-1]))
}

// SpinLock takes the bpf_spin_lock at the start of field (bpf_spin_lock helper);
// field is live value memory, 4-byte aligned.
func SpinLock(field []byte) { (*spinLock)(unsafe.Pointer(&field[0])).lock() }

// SpinUnlock releases it.
func SpinUnlock(field []byte) { (*spinLock)(unsafe.Pointer(&field[0])).unlock() }
