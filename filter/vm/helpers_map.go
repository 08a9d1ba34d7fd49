package vm

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"taproom/filter/helper"
	"taproom/filter/maps"
)

func init() {
	helpers[helper.MapLookupElem] = mapLookup
	helpers[helper.MapLookupPercpuElem] = mapLookupCPU
	helpers[helper.MapUpdateElem] = mapUpdate
	helpers[helper.MapDeleteElem] = mapDelete
	helpers[helper.MapPushElem] = mapPush
	helpers[helper.MapPopElem] = mapPop
	helpers[helper.MapPeekElem] = mapPeek
	helpers[helper.ForEachMapElem] = forEach
	helpers[helper.Loop] = loop
	helpers[helper.SpinLockID] = spinLock
	helpers[helper.SpinUnlockID] = spinUnlock
	helpers[helper.TailCall] = func(r *Run, _, array, i, _, _ uint64) uint64 {
		r.fail(fmt.Errorf("%w: tail call from a helper table", ErrCall)) // both engines do it themselves
		return 0
	}
}

// mapLookup is bpf_map_lookup_elem: the address of the value, 0 if there is none. In
// a map of maps it is the handle of the inner map.
func mapLookup(r *Run, m, key, _, _, _ uint64) uint64 {
	return r.lookup(m, key, int(r.st.CPU))
}

func mapLookupCPU(r *Run, m, key, cpu, _, _ uint64) uint64 {
	if cpu >= uint64(maps.NumCPU()) {
		return 0
	}
	return r.lookup(m, key, int(cpu))
}

func (r *Run) lookup(handle, key uint64, cpu int) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	k := r.mem(key, uint64(m.KeySize()), false)
	if k == nil {
		return 0
	}
	if m.Type().OfMaps() {
		return r.innerHandle(m.Inner(k))
	}
	v, ok := m.Elem(k, cpu)
	if !ok {
		return 0
	}
	return r.grant(v, m.Flags()&maps.RdOnlyProg == 0)
}

func mapUpdate(r *Run, handle, key, value, flags, _ uint64) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	k, v := r.mem(key, uint64(m.KeySize()), false), r.mem(value, uint64(m.ValueSize()), false)
	if k == nil || v == nil {
		return 0
	}
	return errno(m.Set(k, v, flags, int(r.st.CPU)))
}

func mapDelete(r *Run, handle, key, _, _, _ uint64) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	k := r.mem(key, uint64(m.KeySize()), false)
	if k == nil {
		return 0
	}
	return errno(m.Unset(k))
}

func mapPush(r *Run, handle, value, flags, _, _ uint64) uint64 {
	return r.withValue(handle, value, false, func(m *maps.Map, v []byte) syscall.Errno { return m.Push(v, flags) })
}

func mapPop(r *Run, handle, value, _, _, _ uint64) uint64 {
	return r.withValue(handle, value, true, (*maps.Map).Pop)
}

func mapPeek(r *Run, handle, value, _, _, _ uint64) uint64 {
	return r.withValue(handle, value, true, (*maps.Map).Peek)
}

func (r *Run) withValue(handle, value uint64, write bool, f func(*maps.Map, []byte) syscall.Errno) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	v := r.mem(value, uint64(m.ValueSize()), write)
	if v == nil {
		return 0
	}
	return errno(f(m, v))
}

// loop is bpf_loop: fn(i, ctx) until it returns 1 or i reaches n.
func loop(r *Run, n, fn, ctx, flags, _ uint64) uint64 {
	switch n = uint64(uint32(n)); {
	case flags != 0:
		return eInval
	case n > maxLoops:
		return errno(syscall.E2BIG)
	}
	for i := uint64(0); i < n; i++ {
		v, ok := r.invoke(fn, i, ctx, 0, 0, 0)
		if !ok {
			return 0
		}
		if v != 0 {
			return i + 1
		}
	}
	return n
}

// forEach is bpf_for_each_map_elem: fn(map, key, value, ctx) on every element until
// it returns 1.
func forEach(r *Run, handle, fn, ctx, flags, _ uint64) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	if flags != 0 {
		return eInval
	}
	// Two keys: the callback has one while the other finds the next element, so that
	// it may delete the one it was given.
	var buf [2][]byte
	for i := range buf {
		buf[i] = make([]byte, m.KeySize())
	}
	var done uint64
	var key []byte
	for n := m.MaxEntries(); n > 0; n-- {
		next := buf[n&1]
		k, err := m.NextKey(key)
		if err != nil {
			break
		}
		copy(next, k)
		key = next
		v, ok := m.Elem(key, int(r.st.CPU))
		if !ok {
			continue
		}
		held := r.extra.has(regionOf(v, true).base)
		ka, va := r.grant(key, false), r.grant(v, true)
		res, ok := r.invoke(fn, handle, ka, va, ctx, 0)
		r.extra.remove(ka)
		if !held {
			r.extra.remove(va)
		}
		if !ok {
			return 0
		}
		done++
		if res != 0 {
			break
		}
	}
	runtime.KeepAlive(buf)
	return done
}

// spinLock is bpf_spin_lock. A program that was verified holds a lock for a few
// instructions; one that was not may lock twice, and then runs out of its budget.
func spinLock(r *Run, p, _, _, _, _ uint64) uint64 {
	b := r.mem(p, 4, true)
	if b == nil {
		return 0
	}
	l := (*uint32)(unsafe.Pointer(unsafe.SliceData(b)))
	if p%4 != 0 {
		r.fail(fmt.Errorf("%w: spin lock at %#x is not aligned", ErrCall, p))
		return 0
	}
	for spins := 0; !atomic.CompareAndSwapUint32(l, 0, 1); spins++ {
		if spins > 64 {
			runtime.Gosched()
		}
		if r.st.Budget--; r.st.Budget < 0 {
			r.fail(ErrBudget)
			return 0
		}
	}
	return 0
}

func spinUnlock(r *Run, p, _, _, _, _ uint64) uint64 {
	if b := r.mem(p, 4, true); b != nil && p%4 == 0 {
		atomic.StoreUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), 0)
	}
	return 0
}
