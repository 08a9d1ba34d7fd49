package maps

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const progSlot = 16 // bytes; see Layout

// tailOwner remembers what kind of program an array takes: the kind of the first
// program that used it.
type tailOwner struct{ kind atomic.Uint64 }

// progArray is the store of ProgArray.
type progArray struct {
	m     *Map
	slots []atomic.Pointer[Prog]
	mem   unsafe.Pointer
	mu    sync.Mutex // keeps a slot and its native twin together
}

func newProgArray(m *Map) (store, error) {
	n := m.spec.MaxEntries
	r, err := m.alloc(uint64(n)*(progSlot+8), true) // the pointers are ours to pay, too
	if err != nil {
		return nil, err
	}
	p := &progArray{m: m, slots: make([]atomic.Pointer[Prog], n), mem: r.base}
	m.layout = Layout{Kind: LayoutProgs, Base: uintptr(r.base), Entries: n, Stride: progSlot}
	return p, nil
}

// put replaces slot i and returns what was there.
func (p *progArray) put(i uint32, prog Prog) Prog {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := (*[2]uint64)(unsafe.Add(p.mem, uintptr(i)*progSlot))
	var next *Prog
	if prog == nil {
		atomic.StoreUint64(&slot[0], 0)
		atomic.StoreUint64(&slot[1], 0)
	} else {
		next = &prog
		atomic.StoreUint64(&slot[1], uint64(prog.ID()))
		atomic.StoreUint64(&slot[0], uint64(prog.Entry()))
	}
	if old := p.slots[i].Swap(next); old != nil {
		return *old
	}
	return nil
}

func (p *progArray) elem([]byte, int) []byte { return nil }

// set would take a descriptor, of which there are none here: use PutProg.
func (p *progArray) set(key, _ []byte, flags uint64, _ int) syscall.Errno {
	return refuseFD(key, flags, uint32(len(p.slots)))
}

// refuseFD is the answer of arrays of kernel objects to a number that is no
// object's descriptor.
func refuseFD(key []byte, flags uint64, n uint32) syscall.Errno {
	switch {
	case flags != UpdateAny:
		return syscall.EINVAL
	case index(key) >= n:
		return syscall.E2BIG
	}
	return syscall.EBADF
}

func (p *progArray) unset(key []byte) syscall.Errno {
	i := index(key)
	if i >= uint32(len(p.slots)) {
		return syscall.E2BIG
	}
	old := p.put(i, nil)
	if old == nil {
		return syscall.ENOENT
	}
	old.Release()
	return 0
}

func (p *progArray) next(key, out []byte) syscall.Errno {
	return nextIndex(key, out, uint32(len(p.slots)))
}

func (p *progArray) view(key, out []byte) syscall.Errno {
	prog := p.m.Prog(index(key))
	if prog == nil {
		return syscall.ENOENT
	}
	binary.NativeEndian.PutUint32(out, prog.ID())
	return 0
}

// dropUser empties the array: programs that still use it find nothing.
func (p *progArray) dropUser() {
	for i := range p.slots {
		if old := p.put(uint32(i), nil); old != nil {
			old.Release()
		}
	}
}

func (p *progArray) drop() { p.dropUser() }

// Prog returns the program in slot i of a program array, nil if there is none. The
// caller does not get a reference.
func (m *Map) Prog(i uint32) Prog {
	p, ok := m.store.(*progArray)
	if !ok || i >= uint32(len(p.slots)) {
		return nil
	}
	if prog := p.slots[i].Load(); prog != nil {
		return *prog
	}
	return nil
}

// PutProg stores a program in a program array, which takes a reference on it. The
// array only takes programs that are compatible with each other and with those
// that use it: see BindTail.
func (m *Map) PutProg(key []byte, prog Prog, flags uint64) error {
	const op = "update"
	p, ok := m.store.(*progArray)
	switch {
	case !ok || prog == nil:
		return m.fail(op, syscall.EINVAL, "not a program array, or no program")
	case len(key) != 4:
		return m.failKey(op, key)
	case flags != UpdateAny:
		return m.fail(op, syscall.EINVAL, "flags")
	case index(key) >= uint32(len(p.slots)):
		return m.fail(op, syscall.E2BIG, "")
	case !m.BindTail(prog.TailType()):
		return m.fail(op, syscall.EINVAL, "program is of another type than the array's")
	}
	prog.Hold()
	if old := p.put(index(key), prog); old != nil {
		old.Release()
	}
	return nil
}

// BindTail says that programs of a kind (Prog.TailType) are used with a program
// array, as a member or as a caller. The first call decides; later ones report
// whether the kind is the same.
func (m *Map) BindTail(kind uint64) bool {
	return m.tail.kind.CompareAndSwap(0, kind+1) || m.tail.kind.Load() == kind+1
}
