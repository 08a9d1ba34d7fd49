package maps

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// array is the store of Array and PerCPUArray: MaxEntries values in a row for each
// CPU, all there from the start.
type array struct {
	m      *Map
	base   unsafe.Pointer
	n      uint32
	vsize  uintptr
	stride uintptr
	perCPU uintptr // distance between two CPUs' values; 0 for plain arrays
}

func newArray(m *Map) (store, error) {
	s := &m.spec
	a := &array{m: m, n: s.MaxEntries, vsize: uintptr(s.ValueSize), stride: uintptr(round8(s.ValueSize))}
	size := uint64(a.stride) * uint64(a.n)
	if s.Type.PerCPU() {
		// A page of distance keeps CPUs off each other's cache lines.
		each := (size + pageSize - 1) &^ (pageSize - 1)
		a.perCPU, size = uintptr(each), each*uint64(s.CPUs)
	}
	r, err := m.alloc(size, true)
	if err != nil {
		return nil, err
	}
	a.base = r.base
	m.layout = Layout{Kind: LayoutArray, Base: uintptr(r.base), Entries: a.n, Stride: a.stride, CPUStride: a.perCPU}
	return a, nil
}

func index(key []byte) uint32 { return binary.NativeEndian.Uint32(key) }

func (a *array) at(i uint32, cpu int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(a.base, uintptr(i)*a.stride+uintptr(cpu)*a.perCPU)), a.vsize)
}

func (a *array) elem(key []byte, cpu int) []byte {
	i := index(key)
	if i >= a.n {
		return nil
	}
	return a.at(i, cpu)
}

func (a *array) set(key, value []byte, flags uint64, cpu int) syscall.Errno {
	i := index(key)
	switch {
	case flags&^FlagLock > UpdateExist:
		return syscall.EINVAL
	case i >= a.n:
		return syscall.E2BIG
	case flags&UpdateNoExist != 0:
		return syscall.EEXIST
	}
	switch {
	case a.perCPU != 0 && cpu == allCPUs:
		for c := range a.m.spec.CPUs {
			copy(a.at(i, c), value[uintptr(c)*a.stride:])
		}
	case a.perCPU != 0:
		copy(a.at(i, cpu), value)
	default:
		v := a.at(i, 0)
		a.m.overwrite(v, value, flags)
		if a.m.spec.Timer != 0 {
			a.m.dropped(v) // a new value, though in the old one's place
		}
	}
	return 0
}

// overwrite stores a value in place, under its spin lock if flags say so.
func (m *Map) overwrite(v, value []byte, flags uint64) {
	if flags&FlagLock != 0 {
		l := m.spinLock(v)
		l.lock()
		defer l.unlock()
	}
	m.storeValue(v, value)
}

func (a *array) unset([]byte) syscall.Errno { return syscall.EINVAL }

func (a *array) next(key, out []byte) syscall.Errno { return nextIndex(key, out, a.n) }

// nextIndex walks the keys 0 to n-1; a key that is none of them gives the first.
func nextIndex(key, out []byte, n uint32) syscall.Errno {
	i := uint32(0)
	if key != nil {
		switch k := index(key); {
		case k >= n:
		case k == n-1:
			return syscall.ENOENT
		default:
			i = k + 1
		}
	}
	binary.NativeEndian.PutUint32(out, i)
	return 0
}

func putIndex(key []byte, i uint32) { binary.NativeEndian.PutUint32(key, i) }
