package vm

import (
	"fmt"
	"syscall"
	"unsafe"

	"taproom/filter/helper"
)

func init() {
	helpers[helper.PerfEventOutput] = perfOutput
	helpers[helper.PerfEventRead] = func(r *Run, _, _, _, _, _ uint64) uint64 { return errno(syscall.ENOENT) }
	helpers[helper.PerfEventReadValue] = func(r *Run, _, _, buf, n, _ uint64) uint64 {
		if b := r.mem(buf, uint64(uint32(n)), true); b != nil {
			clear(b)
		}
		return errno(syscall.ENOENT)
	}
	helpers[helper.RingbufOutput] = ringOutput
	helpers[helper.RingbufReserve] = ringReserve
	helpers[helper.RingbufSubmit] = func(r *Run, p, flags, _, _, _ uint64) uint64 { return r.ringEnd(p, flags, false) }
	helpers[helper.RingbufDiscard] = func(r *Run, p, flags, _, _, _ uint64) uint64 { return r.ringEnd(p, flags, true) }
	helpers[helper.RingbufQuery] = func(r *Run, handle, what, _, _, _ uint64) uint64 {
		if m := r.mapOf(handle); m != nil {
			return m.Query(what)
		}
		return 0
	}
}

// Parts of the flags of bpf_perf_event_output.
const (
	perfIndex   = 1<<32 - 1
	perfCtxLen  = (1<<20 - 1) << 32 // bytes of the packet to append
	perfCtxBits = 32
)

// perfOutput is bpf_perf_event_output: data, and as much of the packet as the flags
// say.
func perfOutput(r *Run, _, handle, flags, data, n uint64) uint64 {
	m := r.mapOf(handle)
	b := r.mem(data, n, false)
	if m == nil || b == nil {
		return 0
	}
	if flags&^(perfIndex|perfCtxLen) != 0 {
		return eInval
	}
	extra := flags & perfCtxLen >> perfCtxBits
	if r.skb == nil || extra > uint64(r.skb.Len()) {
		if extra > 0 {
			return eFault
		}
	}
	if uint64(cap(r.scratch)) < extra {
		r.scratch = make([]byte, extra)
	}
	r.scratch = r.scratch[:extra]
	if extra > 0 {
		r.skb.CopyTo(r.scratch, 0)
	}
	return errno(m.PerfOutput(flags&perfIndex, int(r.st.CPU), b, r.scratch))
}

func ringOutput(r *Run, handle, data, n, flags, _ uint64) uint64 {
	m := r.mapOf(handle)
	b := r.mem(data, n, false)
	if m == nil || b == nil {
		return 0
	}
	return errno(m.Output(b, flags))
}

// ringReserve is bpf_ringbuf_reserve.
func ringReserve(r *Run, handle, n, flags, _, _ uint64) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	b := m.Reserve(n, flags)
	if b == nil {
		return 0
	}
	r.rings = append(r.rings, record{m, b})
	return r.grant(b, true)
}

// ringEnd is bpf_ringbuf_submit and bpf_ringbuf_discard.
func (r *Run) ringEnd(p, flags uint64, discard bool) uint64 {
	for i := range r.rings {
		rec := r.rings[i]
		if addressOf(rec.sample) != p {
			continue
		}
		last := len(r.rings) - 1
		r.rings[i], r.rings[last] = r.rings[last], record{}
		r.rings = r.rings[:last]
		if !r.native {
			r.extra.remove(p)
		}
		if discard {
			rec.m.Discard(rec.sample, flags)
		} else {
			rec.m.Submit(rec.sample, flags)
		}
		return 0
	}
	r.fail(fmt.Errorf("%w: %#x is not a reserved record", ErrCall, p))
	return 0
}

func addressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
