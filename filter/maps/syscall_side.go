package maps

import (
	"syscall"
)

// access tests what bpf(2) tests before any command: the map's own access flags,
// then whether it was frozen.
func (m *Map) readable() bool { return m.spec.Flags&WrOnly == 0 }
func (m *Map) writable() bool { return m.spec.Flags&RdOnly == 0 && !m.frozen.Load() }

// Lookup returns a copy of the value under key (BPF_MAP_LOOKUP_ELEM). flags may be
// FlagLock. Queues and stacks take a nil key and show their head. On per-CPU maps
// the values of all CPUs follow each other, each rounded up to 8 bytes.
func (m *Map) Lookup(key []byte, flags uint64) ([]byte, error) {
	out := make([]byte, m.vsize)
	if err := m.LookupInto(key, out, flags); err != nil {
		return nil, err
	}
	return out, nil
}

// LookupInto is Lookup into the caller's buffer of UserValueSize bytes. A bloom
// filter reads the value to look for from out.
func (m *Map) LookupInto(key, out []byte, flags uint64) error {
	const op = "lookup"
	switch {
	case flags&^FlagLock != 0:
		return m.fail(op, syscall.EINVAL, "unknown flags")
	case !m.readable():
		return m.fail(op, syscall.EPERM, "map is write-only")
	case flags&FlagLock != 0 && m.spec.SpinLock == 0:
		return m.fail(op, syscall.EINVAL, "value has no spin lock")
	case len(key) != int(m.spec.KeySize) && !m.spec.Type.Keyless():
		return m.failKey(op, key)
	case len(out) != int(m.vsize):
		return m.failValue(op, out)
	}
	return m.result(op, m.copyOut(key, out, flags))
}

// copyOut copies a value as the system call side sees it.
func (m *Map) copyOut(key, out []byte, flags uint64) syscall.Errno {
	if v, ok := m.store.(viewer); ok {
		return v.view(key, out)
	}
	if m.spec.Type.PerCPU() {
		each := int(round8(m.spec.ValueSize))
		for cpu := range m.spec.CPUs {
			v := m.peek(key, cpu)
			if v == nil {
				return syscall.ENOENT
			}
			copy(out[cpu*each:(cpu+1)*each], v)
		}
		return 0
	}
	v := m.peek(key, 0)
	if v == nil {
		return syscall.ENOENT
	}
	m.copyValue(out, v, flags)
	return 0
}

// viewer is implemented by stores whose values look different from outside.
type viewer interface {
	view(key, out []byte) syscall.Errno
}

// peeker is implemented by stores where a lookup has a side effect for programs
// (LRU) that the system call side must not have.
type peeker interface {
	peek(key []byte, cpu int) []byte
}

func (m *Map) peek(key []byte, cpu int) []byte {
	if p, ok := m.store.(peeker); ok {
		return p.peek(key, cpu)
	}
	return m.store.elem(key, cpu)
}

// Update stores a value under key (BPF_MAP_UPDATE_ELEM); value has UserValueSize
// bytes. flags is one of UpdateAny, UpdateNoExist, UpdateExist, with FlagLock if
// the value has a spin lock. For maps of maps and program arrays the value is the
// 4-byte id of the inner object.
func (m *Map) Update(key, value []byte, flags uint64) error {
	const op = "update"
	switch {
	case !m.writable():
		return m.fail(op, syscall.EPERM, "map is read-only")
	case flags&FlagLock != 0 && m.spec.SpinLock == 0:
		return m.fail(op, syscall.EINVAL, "value has no spin lock")
	}
	return m.update(key, value, flags)
}

func (m *Map) update(key, value []byte, flags uint64) error {
	const op = "update"
	if len(key) != int(m.spec.KeySize) {
		return m.failKey(op, key)
	}
	if len(value) != int(m.vsize) {
		return m.failValue(op, value)
	}
	return m.result(op, m.store.set(key, value, flags, allCPUs))
}

// Delete removes an element (BPF_MAP_DELETE_ELEM).
func (m *Map) Delete(key []byte) error {
	const op = "delete"
	if !m.writable() {
		return m.fail(op, syscall.EPERM, "map is read-only")
	}
	if len(key) != int(m.spec.KeySize) {
		return m.failKey(op, key)
	}
	return m.result(op, m.store.unset(key))
}

// NextKey returns the key that follows key (BPF_MAP_GET_NEXT_KEY). A nil key, or
// one that is not in the map, gives the first. At the end the error is ENOENT.
func (m *Map) NextKey(key []byte) ([]byte, error) {
	const op = "next key"
	if !m.readable() {
		return nil, m.fail(op, syscall.EPERM, "map is write-only")
	}
	if key != nil && len(key) != int(m.spec.KeySize) {
		return nil, m.failKey(op, key)
	}
	out := make([]byte, m.spec.KeySize)
	if e := m.store.next(key, out); e != 0 {
		return nil, m.fail(op, e, "")
	}
	return out, nil
}

// LookupAndDelete takes an element out (BPF_MAP_LOOKUP_AND_DELETE_ELEM); on queues
// and stacks it pops.
func (m *Map) LookupAndDelete(key []byte, flags uint64) ([]byte, error) {
	const op = "lookup and delete"
	t := m.spec.Type
	switch {
	case flags&^FlagLock != 0:
		return nil, m.fail(op, syscall.EINVAL, "unknown flags")
	case !m.readable() || !m.writable():
		return nil, m.fail(op, syscall.EPERM, "map is not readable and writable")
	case flags != 0 && (t == Queue || t == Stack):
		return nil, m.fail(op, syscall.EINVAL, "flags on a queue")
	case flags&FlagLock != 0 && m.spec.SpinLock == 0:
		return nil, m.fail(op, syscall.EINVAL, "value has no spin lock")
	case len(key) != int(m.spec.KeySize) && !t.Keyless():
		return nil, m.failKey(op, key)
	}
	taker, ok := m.store.(taker)
	if !ok {
		return nil, m.fail(op, ENOTSUPP, "")
	}
	out := make([]byte, m.vsize)
	if e := taker.take(key, out, flags); e != 0 {
		return nil, m.fail(op, e, "")
	}
	return out, nil
}

// taker is implemented by stores that can look up and delete in one step.
type taker interface {
	take(key, out []byte, flags uint64) syscall.Errno
}

// Freeze makes the map read-only for the system call side from now on
// (BPF_MAP_FREEZE). Programs may go on writing.
func (m *Map) Freeze() error {
	const op = "freeze"
	if m.spec.SpinLock != 0 || m.spec.Timer != 0 {
		return m.fail(op, ENOTSUPP, "value has a spin lock or a timer")
	}
	if m.spec.Flags&RdOnly != 0 || !m.frozen.CompareAndSwap(false, true) {
		return m.fail(op, syscall.EPERM, "map is read-only already")
	}
	return nil
}

// copyValue copies a live value out, leaving the fields that only programs may see
// (spin lock, timer) zero.
func (m *Map) copyValue(out, v []byte, flags uint64) {
	if flags&FlagLock != 0 {
		lock := m.spinLock(v)
		lock.lock()
		copy(out, v)
		lock.unlock()
	} else {
		copy(out, v)
	}
	m.clearSpecial(out)
}

func (m *Map) clearSpecial(v []byte) {
	if off := m.spec.SpinLock; off != 0 {
		clear(v[off-1 : off-1+4])
	}
	if off := m.spec.Timer; off != 0 {
		clear(v[off-1 : off-1+16])
	}
}

// storeValue writes src into a live value, all but the special fields.
func (m *Map) storeValue(v, src []byte) {
	lo, hi := m.spec.SpinLock, m.spec.Timer
	if lo == 0 && hi == 0 {
		copy(v, src)
		return
	}
	pos := uint32(0)
	skip := func(off, n uint32) {
		if off != 0 {
			copy(v[pos:off-1], src[pos:off-1])
			pos = off - 1 + n
		}
	}
	if lo != 0 && hi != 0 && hi < lo {
		skip(hi, 16)
		skip(lo, 4)
	} else {
		skip(lo, 4)
		skip(hi, 16)
	}
	copy(v[pos:], src[pos:])
}

func round8(n uint32) uint32 { return (n + 7) &^ 7 }

func (m *Map) result(op string, e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return m.fail(op, e, "")
}

func (m *Map) fail(op string, e syscall.Errno, why string) error { return m.spec.fail(op, e, why) }

func (m *Map) failKey(op string, key []byte) error {
	return m.fail(op, syscall.EINVAL, sizeText("key", len(key), int(m.spec.KeySize)))
}

func (m *Map) failValue(op string, value []byte) error {
	return m.fail(op, syscall.EINVAL, sizeText("value", len(value), int(m.vsize)))
}
