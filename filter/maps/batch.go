package maps

import (
	"errors"
	"syscall"
)

// batchTypes are the types that Linux has batch commands for; arrays cannot delete.
func (m *Map) batchable(deletes bool) bool {
	switch m.spec.Type {
	case Hash, PerCPUHash, LRUHash, LRUPerCPUHash, LPMTrie, HashOfMaps:
		return true
	case Array, PerCPUArray, ArrayOfMaps:
		return !deletes
	}
	return false
}

// Batch is the result of a batch lookup: as many keys and values, each of its
// size, one after the other.
type Batch struct {
	Keys, Values []byte
	// Next goes on where this batch ended; nil at the end of the map.
	Next []byte
}

// LookupBatch returns up to n elements (BPF_MAP_LOOKUP_BATCH). The first call has a
// nil from, the others the Next of the one before. At the end of the map the error
// is ENOENT, and the batch has what was left.
func (m *Map) LookupBatch(from []byte, n int, flags uint64) (Batch, error) {
	return m.batch("lookup batch", from, n, flags, false)
}

// LookupAndDeleteBatch is LookupBatch that removes what it returns.
func (m *Map) LookupAndDeleteBatch(from []byte, n int, flags uint64) (Batch, error) {
	return m.batch("lookup and delete batch", from, n, flags, true)
}

func (m *Map) batch(op string, from []byte, n int, flags uint64, remove bool) (b Batch, err error) {
	switch {
	case !m.readable() || remove && !m.writable():
		return b, m.fail(op, syscall.EPERM, "access flags")
	case !m.batchable(remove):
		return b, m.fail(op, ENOTSUPP, "")
	case flags&^FlagLock != 0 || flags&FlagLock != 0 && m.spec.SpinLock == 0:
		return b, m.fail(op, syscall.EINVAL, "flags")
	case from != nil && len(from) != int(m.spec.KeySize):
		return b, m.failKey(op, from)
	case n <= 0:
		return b, nil
	}
	key := make([]byte, m.spec.KeySize)
	value := make([]byte, m.vsize)
	e := m.store.next(from, key)
	for ; e == 0 && n > 0; n-- {
		// The next key first: removing this one would make the walk start again.
		after := make([]byte, m.spec.KeySize)
		end := m.store.next(key, after)
		if m.copyOut(key, value, flags) == 0 {
			b.Keys = append(b.Keys, key...)
			b.Values = append(b.Values, value...)
			b.Next = key
			if remove {
				m.store.unset(key)
			}
		}
		key, e = after, end
	}
	if e == syscall.ENOENT {
		b.Next = nil
		return b, m.fail(op, e, "end of map")
	}
	if remove {
		// What was returned is gone; the next batch begins at the front.
		b.Next = nil
	}
	return b, m.result(op, e)
}

// UpdateBatch stores elements until one fails, and returns how many it stored
// (BPF_MAP_UPDATE_BATCH). keys and values hold one after the other.
func (m *Map) UpdateBatch(keys, values []byte, flags uint64) (int, error) {
	const op = "update batch"
	switch {
	case !m.writable():
		return 0, m.fail(op, syscall.EPERM, "map is read-only")
	case !m.batchable(false):
		return 0, m.fail(op, ENOTSUPP, "")
	case flags&^FlagLock != 0 || flags&FlagLock != 0 && m.spec.SpinLock == 0:
		return 0, m.fail(op, syscall.EINVAL, "flags")
	}
	ks, vs := int(m.spec.KeySize), int(m.vsize)
	if len(keys)%ks != 0 || len(keys)/ks*vs != len(values) {
		return 0, m.fail(op, syscall.EINVAL, "keys and values do not go together")
	}
	for n := range len(keys) / ks {
		if err := m.update(keys[n*ks:(n+1)*ks], values[n*vs:(n+1)*vs], flags); err != nil {
			return n, err
		}
	}
	return len(keys) / ks, nil
}

// DeleteBatch removes elements until one fails, and returns how many it removed
// (BPF_MAP_DELETE_BATCH).
func (m *Map) DeleteBatch(keys []byte, flags uint64) (int, error) {
	const op = "delete batch"
	switch {
	case !m.writable():
		return 0, m.fail(op, syscall.EPERM, "map is read-only")
	case !m.batchable(true):
		return 0, m.fail(op, ENOTSUPP, "")
	case flags != 0:
		return 0, m.fail(op, syscall.EINVAL, "flags")
	}
	ks := int(m.spec.KeySize)
	if len(keys)%ks != 0 {
		return 0, m.fail(op, syscall.EINVAL, "keys are not whole")
	}
	for n := range len(keys) / ks {
		if err := m.Delete(keys[n*ks : (n+1)*ks]); err != nil {
			return n, err
		}
	}
	return len(keys) / ks, nil
}

// IsEnd reports whether a walk by NextKey or LookupBatch came to the end of the map.
func IsEnd(err error) bool { return errors.Is(err, syscall.ENOENT) }
