package rdma

import "runtime/debug"

// Memory that is not Go's may go away while peers write to it: a file that is
// truncated, a mapping that its program undoes. Access to regions that say so is
// guarded: a fault becomes an error of the work request.

// guardedCopy copies len(dst) or len(src) bytes, whatever is less; false if one
// of them could not be touched.
func guardedCopy(dst, src []byte) (ok bool) {
	defer catchFault(debug.SetPanicOnFault(true), &ok)
	copy(dst, src)
	return true
}

// guardedAtomic is onWord for guarded memory.
func guardedAtomic(p *uint64, add bool, swapAdd, compare uint64) (orig uint64, ok bool) {
	defer catchFault(debug.SetPanicOnFault(true), &ok)
	return onWord(p, add, swapAdd, compare), true
}

// catchFault ends a guarded access. Only faults are caught; they are the runtime
// errors that have an address.
func catchFault(old bool, ok *bool) {
	debug.SetPanicOnFault(old)
	switch e := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }:
		*ok = false
	default:
		panic(e)
	}
}
