package rdma

import (
	"sync/atomic"
	"syscall"
)

// MWType is the type of a memory window (enum ibv_mw_type).
type MWType uint8

// Window types. Type 2 windows are of kind 2B: bound to a queue pair.
const (
	MWType1 MWType = 1
	MWType2 MWType = 2
)

// MW is a memory window: a key of its own for a part of a memory region, which
// can be bound and invalidated by work requests.
type MW struct {
	pd    *PD
	typ   MWType
	index int
	dead  atomic.Bool
}

// BindInfo says what a window shows: Length bytes of MR from Addr on.
type BindInfo struct {
	MR     *MR
	Addr   uint64
	Length uint64
	Access Access
}

// AllocMW makes a window that shows nothing yet.
func (pd *PD) AllocMW(t MWType) (*MW, error) {
	const verb = "alloc_mw"
	if t != MWType1 && t != MWType2 {
		return nil, invalid(verb, "type %d", t)
	}
	d := pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mws >= d.limits.MaxMW {
		return nil, fail(verb, syscall.ENOMEM, "device %s has %d memory windows already", d.name, d.mws)
	}
	mw := &MW{pd: pd, typ: t}
	mw.index = d.keys.put(func(i int) *region { return &region{key: uint32(i)<<8 | d.newKey(), pd: pd, mw: mw} })
	if mw.index < 0 {
		return nil, fail(verb, syscall.ENOMEM, "device %s has no key left", d.name)
	}
	d.mws++
	pd.uses.Add(1)
	return mw, nil
}

// RKey is the present key. Binding changes its lowest eight bits: those of a
// type 2 window to what the work request says, those of type 1 to others.
func (mw *MW) RKey() uint32 {
	if r := mw.pd.dev.keys.get(mw.index); r != nil {
		return r.key
	}
	return 0
}

// Type is the window's.
func (mw *MW) Type() MWType { return mw.typ }

// IncRKey is the next key of a window, for BIND_MW (ibv_inc_rkey).
func IncRKey(rkey uint32) uint32 { return rkey&^0xff | (rkey+1)&0xff }

// Dealloc ends the window, bound or not.
func (mw *MW) Dealloc() error {
	d := mw.pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if mw.dead.Swap(true) {
		return invalid("dealloc_mw", "the window is gone already")
	}
	r := d.keys.slot(mw.index).Load()
	d.keys.remove(mw.index)
	if r.valid {
		r.mr.windows.Add(-1)
	}
	d.mws--
	mw.pd.uses.Add(-1)
	return nil
}

// bind carries out BIND_MW (IBTA 10.6.7.2.6). Length 0 unbinds a type 1 window.
func (mw *MW) bind(q *QP, rkey uint32, b *BindInfo) bool {
	if mw.dead.Load() || mw.pd != q.pd || b.MR == nil || b.MR.dead.Load() || b.MR.fast && !b.MR.Valid() {
		return false
	}
	slot := q.dev.keys.slot(mw.index)
	old := slot.Load()
	r := b.MR.region()
	switch {
	case old == nil,
		mw.typ == MWType2 && (old.valid || int(rkey>>8) != mw.index || rkey == old.key || b.Length == 0),
		r.pd != q.pd || !r.valid || r.access&BindMW == 0,
		b.Access&^(remoteAny|ZeroBased) != 0,
		b.Access&(RemoteWrite|RemoteAtomic) != 0 && r.access&LocalWrite == 0,
		b.Access&ZeroBased != 0 && mw.typ == MWType1,
		!r.contains(b.Addr, b.Length):
		return false
	}
	w := *r
	w.va, w.n, w.access, w.mw = b.Addr, b.Length, b.Access, mw
	off := b.Addr - r.va
	if r.pages == nil {
		w.buf = r.buf[off : off+b.Length]
	} else {
		w.first = r.first + off
	}
	if b.Access&ZeroBased != 0 {
		w.va = 0
	}
	if mw.typ == MWType2 {
		w.key, w.qp = rkey, q
	} else {
		w.key, w.valid = IncRKey(old.key), b.Length > 0
	}
	if !slot.CompareAndSwap(old, &w) {
		return false
	}
	if old.valid {
		old.mr.windows.Add(-1)
	}
	if w.valid {
		r.mr.windows.Add(1)
	}
	return true
}
