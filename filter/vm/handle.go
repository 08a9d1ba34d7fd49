package vm

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"taproom/filter/maps"
)

// handle is what a register holds that points to a map: memory that looks like the
// start of the kernel's struct bpf_map to a program that reads it, with the map
// behind what it may read.
type handle struct {
	info [mapInfoSize]byte
	m    *maps.Map
}

// Offsets in struct bpf_map, those of filter/helper's table.
const (
	mapInfoSize   = 296
	mapInfoType   = 64
	mapInfoKey    = 68
	mapInfoValue  = 72
	mapInfoMax    = 76
	mapInfoExtra  = 80
	mapInfoFlags  = 88
	mapInfoID     = 92
	maxInnerCache = 256
)

func newHandle(m *maps.Map) *handle {
	h := &handle{m: m}
	le := binary.LittleEndian
	le.PutUint32(h.info[mapInfoType:], uint32(m.Type()))
	le.PutUint32(h.info[mapInfoKey:], uint32(m.KeySize()))
	le.PutUint32(h.info[mapInfoValue:], uint32(m.ValueSize()))
	le.PutUint32(h.info[mapInfoMax:], uint32(m.MaxEntries()))
	le.PutUint64(h.info[mapInfoExtra:], m.Spec().Extra)
	le.PutUint32(h.info[mapInfoFlags:], m.Flags())
	le.PutUint32(h.info[mapInfoID:], m.ID())
	return h
}

func (h *handle) addr() uint64 { return uint64(uintptr(unsafe.Pointer(h))) }

// handle answers the decoder: the value that stands for the i-th map.
func (p *Prog) handle(i int) (uint64, bool) {
	if i < 0 || i >= len(p.handles) {
		return 0, false
	}
	h := p.handles[i]
	p.static.add(regionOf(h.info[:], false))
	return h.addr(), true
}

// mapOf resolves a map in a register, nil (and the run stopped) if it is none.
func (r *Run) mapOf(v uint64) *maps.Map {
	if r.native {
		return (*handle)(pointer(v)).m
	}
	for _, h := range r.cur.handles {
		if h.addr() == v {
			return h.m
		}
	}
	for _, h := range r.inner {
		if h.addr() == v {
			return h.m
		}
	}
	r.fail(fmt.Errorf("%w: %#x is not a map", ErrCall, v))
	return nil
}

// innerHandle returns the handle of a map that was found in a map, 0 for nil. The run
// remembers it for later runs, so that looking up the same maps does not allocate.
func (r *Run) innerHandle(m *maps.Map) uint64 {
	if m == nil {
		return 0
	}
	for _, h := range r.inner {
		if h.m == m {
			if !r.native {
				r.grant(h.info[:], false)
			}
			return h.addr()
		}
	}
	h := newHandle(m)
	r.inner = append(r.inner, h)
	if !r.native {
		r.grant(h.info[:], false)
	}
	return h.addr()
}
