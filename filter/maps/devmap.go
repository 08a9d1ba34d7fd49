package maps

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// maxCPUQueue is the greatest queue that a cpumap entry may ask for.
const maxCPUQueue = 16384

// sparse is the store of array-like maps whose slots may be empty, of devices
// (DevMap), processors (CPUMap) and sockets (XSKMap). A slot whose first four
// bytes are 0 is empty.
type sparse struct {
	array
}

func newSparse(m *Map) (store, error) {
	s, err := newArray(m)
	if err != nil {
		return nil, err
	}
	m.layout = Layout{}
	return &sparse{*s.(*array)}, nil
}

func (d *sparse) elem(key []byte, _ int) []byte {
	v := d.array.elem(key, 0)
	if v == nil || index(v) == 0 {
		return nil
	}
	return v
}

func (d *sparse) set(key, value []byte, flags uint64, _ int) syscall.Errno {
	i := index(key)
	switch {
	case flags > UpdateExist:
		return syscall.EINVAL
	case i >= d.n:
		return syscall.E2BIG
	case flags == UpdateNoExist && d.m.spec.Type != XSKMap:
		return syscall.EEXIST
	}
	if e := d.m.admit(i, value); e != 0 {
		return e
	}
	storeEntry(d.at(i, 0), value)
	return 0
}

// storeEntry writes the first number of an entry, at once; the second, a program's
// id, is always 0.
func storeEntry(v, value []byte) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&v[0])), binary.NativeEndian.Uint32(value))
}

// admit applies the rules for values of maps of devices and processors. An empty
// entry (0 first) is fine as long as it names no program.
func (m *Map) admit(key uint32, value []byte) syscall.Errno {
	first := binary.NativeEndian.Uint32(value)
	if m.spec.Type == XSKMap {
		return syscall.EBADF // no such sockets here
	}
	if len(value) == 8 {
		// A program per entry is XDP's; there is none to name.
		if fd := int32(binary.NativeEndian.Uint32(value[4:])); fd > 0 {
			return syscall.EINVAL
		}
	}
	if m.spec.Type == CPUMap {
		switch {
		case first > maxCPUQueue:
			return syscall.EOVERFLOW
		case key >= uint32(m.spec.CPUs):
			return syscall.ENODEV
		}
		return 0
	}
	if first != 0 && m.spec.Interface != nil && !m.spec.Interface(first) {
		return syscall.EINVAL
	}
	return 0
}

func (d *sparse) unset(key []byte) syscall.Errno {
	i := index(key)
	if i >= d.n {
		return syscall.EINVAL
	}
	storeEntry(d.at(i, 0), []byte{0, 0, 0, 0})
	return 0
}

func (d *sparse) view(key, out []byte) syscall.Errno {
	if d.m.spec.Type == XSKMap {
		return syscall.EOPNOTSUPP
	}
	v := d.elem(key, 0)
	if v == nil {
		return syscall.ENOENT
	}
	copy(out, v)
	return 0
}

// devHash is the store of DevMapHash: devices under arbitrary 4-byte keys.
type devHash struct {
	m    *Map
	hash *hash
}

func newDevHash(m *Map) (store, error) {
	s, err := newHash(m)
	if err != nil {
		return nil, err
	}
	m.layout = Layout{}
	return devHash{m, s.(*hash)}, nil
}

func (d devHash) set(key, value []byte, flags uint64, cpu int) syscall.Errno {
	if flags > UpdateExist {
		return syscall.EINVAL
	}
	if index(value) == 0 {
		return syscall.EINVAL
	}
	if flags == UpdateNoExist && d.hash.elem(key, 0) != nil {
		return syscall.EEXIST
	}
	if e := d.m.admit(index(key), value); e != 0 {
		return e
	}
	entry := make([]byte, len(value))
	storeEntry(entry, value)
	return d.hash.set(key, entry, flags&UpdateNoExist, cpu)
}

func (d devHash) elem(key []byte, _ int) []byte      { return d.hash.elem(key, 0) }
func (d devHash) unset(key []byte) syscall.Errno     { return d.hash.unset(key) }
func (d devHash) next(key, out []byte) syscall.Errno { return d.hash.next(key, out) }

// fdArray is the store of arrays of kernel objects that do not exist here
// (CGroupArray): always empty.
type fdArray struct{ n uint32 }

func newFDArray(m *Map) (store, error) { return fdArray{m.spec.MaxEntries}, nil }

func (fdArray) elem([]byte, int) []byte { return nil }

func (f fdArray) set(key, _ []byte, flags uint64, _ int) syscall.Errno {
	return refuseFD(key, flags, f.n)
}

func (f fdArray) unset(key []byte) syscall.Errno {
	if index(key) >= f.n {
		return syscall.E2BIG
	}
	return syscall.ENOENT
}

func (f fdArray) next(key, out []byte) syscall.Errno { return nextIndex(key, out, f.n) }
func (fdArray) view(_, _ []byte) syscall.Errno       { return ENOTSUPP }
