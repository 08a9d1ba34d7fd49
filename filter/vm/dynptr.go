package vm

import (
	"encoding/binary"
	"math"
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
)

// dynptr is struct bpf_dynptr in the program's memory, laid out as the kernel's: an
// address (or a mark for the packet), the size with type and flag in its top bits, and
// an offset.
type dynptr []byte

const (
	dynptrLen     = 16
	dynptrMaxSize = 1<<24 - 1
	dynptrShift   = 28
	dynptrRdonly  = 1 << 31

	dynptrLocal  = 1
	dynptrRing   = 2
	dynptrPacket = 3
)

func (d dynptr) data() uint64             { return binary.LittleEndian.Uint64(d) }
func (d dynptr) word() uint32             { return binary.LittleEndian.Uint32(d[8:]) }
func (d dynptr) size() uint64             { return uint64(d.word() & dynptrMaxSize) }
func (d dynptr) kind() uint32             { return d.word() >> dynptrShift & 7 }
func (d dynptr) rdonly() bool             { return d.word()&dynptrRdonly != 0 }
func (d dynptr) off() uint64              { return uint64(binary.LittleEndian.Uint32(d[12:])) }
func (d dynptr) clear()                   { clear(d[:dynptrLen]) }
func (d dynptr) holds(off, n uint64) bool { return n <= d.size() && off <= d.size()-n }

func (d dynptr) set(data uint64, size uint64, kind, flags uint32) {
	binary.LittleEndian.PutUint64(d, data)
	binary.LittleEndian.PutUint32(d[8:], uint32(size)|kind<<dynptrShift|flags)
	binary.LittleEndian.PutUint32(d[12:], 0)
}

func (d dynptr) adjust(start, end uint64) {
	binary.LittleEndian.PutUint32(d[8:], d.word()&^dynptrMaxSize|uint32(end-start))
	binary.LittleEndian.PutUint32(d[12:], uint32(d.off()+start))
}

func init() {
	helpers[helper.DynptrFromMem] = dynptrFromMem
	helpers[helper.DynptrRead] = dynptrRead
	helpers[helper.DynptrWrite] = dynptrWrite
	helpers[helper.DynptrData] = dynptrData
	helpers[helper.RingbufReserveDynptr] = ringReserveDynptr
	helpers[helper.RingbufSubmitDynptr] = func(r *Run, p, flags, _, _, _ uint64) uint64 { return r.ringEndDynptr(p, flags, false) }
	helpers[helper.RingbufDiscardDynptr] = func(r *Run, p, flags, _, _, _ uint64) uint64 { return r.ringEndDynptr(p, flags, true) }

	kfuncs[helper.DynptrFromSKB] = dynptrFromPacket
	kfuncs[helper.DynptrFromXDP] = dynptrFromPacket
	kfuncs[helper.DynptrSlice] = dynptrSlice
	kfuncs[helper.DynptrSliceRdwr] = func(r *Run, p, off, buf, n, e uint64) uint64 {
		if d := r.dynptr(p, false); d == nil || d.rdonly() {
			return 0
		}
		return dynptrSlice(r, p, off, buf, n, e)
	}
	kfuncs[helper.DynptrAdjust] = dynptrAdjust
	kfuncs[helper.DynptrIsNull] = func(r *Run, p, _, _, _, _ uint64) uint64 {
		d := r.dynptr(p, false)
		return truth(d == nil || d.data() == 0)
	}
	kfuncs[helper.DynptrIsRdonly] = func(r *Run, p, _, _, _, _ uint64) uint64 {
		d := r.dynptr(p, false)
		return truth(d != nil && d.data() != 0 && d.rdonly())
	}
	kfuncs[helper.DynptrSize] = func(r *Run, p, _, _, _, _ uint64) uint64 {
		d := r.dynptr(p, false)
		if d == nil || d.data() == 0 {
			return uint64(uint32(eInval))
		}
		return d.size()
	}
	kfuncs[helper.DynptrClone] = func(r *Run, p, to, _, _, _ uint64) uint64 {
		d, c := r.dynptr(p, false), r.dynptr(to, true)
		if d == nil || c == nil {
			return 0
		}
		copy(c, d)
		if d.data() == 0 {
			return eInval
		}
		return 0
	}
	kfuncs[helper.RCUReadLock] = zero
	kfuncs[helper.RCUReadUnlock] = zero
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// dynptr returns the dynptr at address p, nil if that is not the program's memory.
func (r *Run) dynptr(p uint64, write bool) dynptr {
	b := r.mem(p, dynptrLen, write)
	if b == nil {
		return nil
	}
	return dynptr(b)
}

func dynptrFromMem(r *Run, data, n, flags, p, _ uint64) uint64 {
	d, n := r.dynptr(p, true), uint64(uint32(n))
	if d == nil || r.mem(data, n, true) == nil {
		return 0
	}
	d.clear()
	switch {
	case n > dynptrMaxSize:
		return errno(syscall.E2BIG)
	case flags != 0:
		return eInval
	}
	d.set(data, n, dynptrLocal, 0)
	return 0
}

// dynptrFromPacket is bpf_dynptr_from_skb and bpf_dynptr_from_xdp.
func dynptrFromPacket(r *Run, _, flags, p, _, _ uint64) uint64 {
	d := r.dynptr(p, true)
	if d == nil {
		return 0
	}
	d.clear()
	if flags != 0 || r.skb == nil {
		return eInval
	}
	ro := uint32(0)
	if r.kind == ctxNetfilter || r.cur.src.Type == ebpf.SocketFilter {
		ro = dynptrRdonly
	}
	d.set(r.st.CtxAddr, min(uint64(r.skb.Len()), dynptrMaxSize), dynptrPacket, ro)
	return 0
}

func dynptrRead(r *Run, to, n, p, off, flags uint64) uint64 {
	n, off = uint64(uint32(n)), uint64(uint32(off))
	d, dst := r.dynptr(p, false), r.mem(to, n, true)
	switch {
	case d == nil || dst == nil:
		return 0
	case d.data() == 0 || flags != 0:
		return eInval
	case !d.holds(off, n):
		return errno(syscall.E2BIG)
	}
	if d.kind() == dynptrPacket {
		if !r.copyPacket(dst, d.off()+off) {
			return eFault
		}
		return 0
	}
	if src := r.mem(d.data()+d.off()+off, n, false); src != nil {
		copy(dst, src)
	}
	return 0
}

func dynptrWrite(r *Run, p, off, from, n, flags uint64) uint64 {
	n, off = uint64(uint32(n)), uint64(uint32(off))
	d, src := r.dynptr(p, false), r.mem(from, n, false)
	switch {
	case d == nil || src == nil:
		return 0
	case d.data() == 0 || d.rdonly():
		return eInval
	case !d.holds(off, n):
		return errno(syscall.E2BIG)
	case d.kind() == dynptrPacket && r.kind == ctxXDP:
		if flags != 0 {
			return eInval
		}
		return errnoIf(!r.skb.Store(src, int(d.off()+off)), eFault)
	case d.kind() == dynptrPacket:
		return skbStoreBytes(r, 0, d.off()+off, from, n, flags)
	case flags != 0:
		return eInval
	}
	if dst := r.mem(d.data()+d.off()+off, n, true); dst != nil {
		copy(dst, src)
	}
	return 0
}

func errnoIf(failed bool, e uint64) uint64 {
	if failed {
		return e
	}
	return 0
}

func dynptrData(r *Run, p, off, n, _, _ uint64) uint64 {
	n, off = uint64(uint32(n)), uint64(uint32(off))
	d := r.dynptr(p, false)
	if d == nil || d.data() == 0 || d.rdonly() || d.kind() == dynptrPacket || !d.holds(off, n) {
		return 0
	}
	return d.data() + d.off() + off
}

// dynptrSlice is bpf_dynptr_slice: a pointer to the bytes if they are contiguous in
// memory, or the buffer with a copy of them.
func dynptrSlice(r *Run, p, off, buf, n, _ uint64) uint64 {
	n, off = uint64(uint32(n)), uint64(uint32(off))
	d := r.dynptr(p, false)
	if d == nil || d.data() == 0 || !d.holds(off, n) {
		return 0
	}
	if d.kind() != dynptrPacket {
		return d.data() + d.off() + off
	}
	if r.skb == nil {
		return 0
	}
	at := d.off() + off
	if at <= math.MaxInt32 && at+n <= uint64(len(r.skb.Head())) {
		return r.st.Data + at
	}
	if buf == 0 {
		return 0
	}
	dst := r.mem(buf, n, true)
	if dst == nil || !r.copyPacket(dst, at) {
		return 0
	}
	return buf
}

func dynptrAdjust(r *Run, p, start, end, _, _ uint64) uint64 {
	start, end = uint64(uint32(start)), uint64(uint32(end))
	d := r.dynptr(p, true)
	switch {
	case d == nil:
		return 0
	case d.data() == 0 || start > end:
		return eInval
	case start > d.size() || end > d.size():
		return eRange
	}
	d.adjust(start, end)
	return 0
}

// ringReserveDynptr is bpf_ringbuf_reserve_dynptr; submitting and discarding a dynptr
// that holds nothing does nothing.
func ringReserveDynptr(r *Run, m, n, flags, p, _ uint64) uint64 {
	n = uint64(uint32(n))
	d := r.dynptr(p, true)
	if d == nil {
		return 0
	}
	d.clear()
	switch {
	case flags != 0:
		return eInval
	case n > dynptrMaxSize:
		return errno(syscall.E2BIG)
	}
	a := ringReserve(r, m, n, 0, 0, 0)
	if a == 0 {
		return eNoMem
	}
	d.set(a, n, dynptrRing, 0)
	return 0
}

func (r *Run) ringEndDynptr(p, flags uint64, discard bool) uint64 {
	d := r.dynptr(p, true)
	if d == nil || d.data() == 0 {
		return 0
	}
	data := d.data()
	d.clear()
	return r.ringEnd(data, flags, discard)
}
