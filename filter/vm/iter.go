package vm

import (
	"encoding/binary"
	"syscall"

	"taproom/filter/helper"
)

// Open-coded iterators over numbers: struct bpf_iter_num holds the current and the end
// value.

func init() {
	kfuncs[helper.IterNumNew] = iterNew
	kfuncs[helper.IterNumNext] = iterNext
	kfuncs[helper.IterNumDestroy] = func(r *Run, it, _, _, _, _ uint64) uint64 {
		if b := r.mem(it, iterLen, true); b != nil {
			clear(b)
		}
		return 0
	}
}

const iterLen = 8

func iterNew(r *Run, it, start, end, _, _ uint64) uint64 {
	b := r.mem(it, iterLen, true)
	if b == nil {
		return 0
	}
	clear(b)
	s, e := int64(int32(start)), int64(int32(end))
	switch {
	case s > e:
		return eInval
	case e-s > maxLoops:
		return errno(syscall.E2BIG)
	}
	binary.LittleEndian.PutUint32(b, uint32(s-1))
	binary.LittleEndian.PutUint32(b[4:], uint32(e))
	return 0
}

// iterNext returns the address of the next number, 0 at the end.
func iterNext(r *Run, it, _, _, _, _ uint64) uint64 {
	b := r.mem(it, iterLen, true)
	if b == nil {
		return 0
	}
	cur, end := int32(binary.LittleEndian.Uint32(b)), int32(binary.LittleEndian.Uint32(b[4:]))
	if int64(cur)+1 >= int64(end) {
		clear(b)
		return 0
	}
	binary.LittleEndian.PutUint32(b, uint32(cur+1))
	return it
}
