package rdma

import (
	"math/bits"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// MR is a memory region. The memory belongs to the caller, who must not let it
// go before Dereg; peers read and write it at any time in between.
type MR struct {
	pd      *PD
	index   int
	fast    bool // made by AllocMR, registered by REG_MR
	maxPage int
	windows atomic.Int32 // memory windows bound to it
	sync    func([]byte) error
	mapped  atomic.Pointer[region] // what REG_MR will publish
	dead    atomic.Bool
}

// MRInit describes a memory region. Only Buf is needed.
type MRInit struct {
	Buf    []byte
	Access Access
	// IOVA is the address peers and SGEs use for the first byte, with HasIOVA;
	// otherwise that is the address of Buf in this process, or 0 with ZeroBased.
	IOVA    uint64
	HasIOVA bool
	// Guard says that touching Buf may fault, because it is memory that somebody
	// else can take away. A fault is then an error of the work request that met
	// it, and not the end of the program.
	Guard bool
	// Sync makes memory persistent, for FLUSH (an msync, for example). A region
	// with FlushPersistent needs it.
	Sync func([]byte) error
}

// RegMR registers memory.
func (pd *PD) RegMR(buf []byte, access Access) (*MR, error) {
	return pd.RegMRInit(MRInit{Buf: buf, Access: access})
}

// RegMRInit registers memory with all there is to say about it.
func (pd *PD) RegMRInit(in MRInit) (*MR, error) {
	mr := &MR{pd: pd, sync: in.Sync}
	r, err := mr.describe("reg_mr", pd, in)
	if err != nil {
		return nil, err
	}
	return mr, mr.enter("reg_mr", r)
}

func (mr *MR) describe(verb string, pd *PD, in MRInit) (*region, error) {
	if err := in.Access.check(verb); err != nil {
		return nil, err
	}
	if len(in.Buf) == 0 {
		return nil, invalid(verb, "the region is empty")
	}
	if in.Access&FlushPersistent != 0 && in.Sync == nil && mr.sync == nil {
		return nil, fail(verb, syscall.EOPNOTSUPP, "flush_persistent without a Sync function")
	}
	r := &region{pd: pd, va: uint64(uintptr(unsafe.Pointer(&in.Buf[0]))), n: uint64(len(in.Buf)), access: in.Access, valid: true, buf: in.Buf, mr: mr, guard: in.Guard}
	if in.Access&ZeroBased != 0 {
		r.va = 0
	}
	if in.HasIOVA {
		r.va = in.IOVA
	}
	if r.va+r.n-1 < r.va {
		return nil, invalid(verb, "%d bytes from %#x on pass the end of the address space", r.n, r.va)
	}
	return r, nil
}

// enter gives the region its key and publishes it.
func (mr *MR) enter(verb string, r *region) error {
	d := mr.pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mrs >= d.limits.MaxMR {
		return fail(verb, syscall.ENOMEM, "device %s has %d memory regions already", d.name, d.mrs)
	}
	mr.index = d.keys.put(func(i int) *region {
		r.key = uint32(i)<<8 | d.newKey()
		return r
	})
	if mr.index < 0 {
		return fail(verb, syscall.ENOMEM, "device %s has no key left", d.name)
	}
	d.mrs++
	mr.pd.uses.Add(1)
	return nil
}

func (mr *MR) region() *region {
	if r := mr.pd.dev.keys.get(mr.index); r != nil && r.mr == mr {
		return r
	}
	return new(region)
}

// PD is the domain the region was registered in, or re-registered to.
func (mr *MR) PD() *PD { return mr.region().pd }

// LKey is the key for SGEs.
func (mr *MR) LKey() uint32 { return mr.region().key }

// RKey is the key for peers: LKey, or 0 if the region has no remote right.
func (mr *MR) RKey() uint32 {
	if r := mr.region(); r.access&remoteAny != 0 {
		return r.key
	}
	return 0
}

// Addr is the address of the first byte, for SGEs and peers.
func (mr *MR) Addr() uint64 { return mr.region().va }

// Len is the length in bytes.
func (mr *MR) Len() int { return int(mr.region().n) }

// Access is what may be done with the region.
func (mr *MR) Access() Access { return mr.region().access }

// Valid is false for a fast-register region before REG_MR and after LOCAL_INV.
func (mr *MR) Valid() bool { return mr.region().valid }

// SGE describes n bytes of the region from offset off on.
func (mr *MR) SGE(off, n int) SGE {
	r := mr.region()
	return SGE{Addr: r.va + uint64(off), Length: uint32(n), LKey: r.key}
}

// Dereg ends the region. It fails with EBUSY while windows are bound to it.
func (mr *MR) Dereg() error {
	d := mr.pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if mr.dead.Load() {
		return invalid("dereg_mr", "the region is gone already")
	}
	if n := mr.windows.Load(); n > 0 {
		return fail("dereg_mr", syscall.EBUSY, "lkey %#x: %d windows are bound", mr.LKey(), n)
	}
	mr.dead.Store(true)
	r := mr.region()
	d.keys.remove(mr.index)
	d.mrs--
	r.pd.uses.Add(-1)
	return nil
}

// Rereg replaces domain, access and, if in.Buf is not nil, the memory. The key
// stays. pd may be nil: as it is.
func (mr *MR) Rereg(pd *PD, in MRInit) error {
	const verb = "rereg_mr"
	d := mr.pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	old := mr.region()
	switch {
	case mr.dead.Load():
		return invalid(verb, "the region is gone already")
	case mr.fast:
		return fail(verb, syscall.EOPNOTSUPP, "lkey %#x is a fast-register region", old.key)
	case mr.windows.Load() > 0:
		return fail(verb, syscall.EBUSY, "lkey %#x: windows are bound", old.key)
	case pd != nil && pd.dev != d:
		return invalid(verb, "lkey %#x: the domain is of another device", old.key)
	}
	if pd == nil {
		pd = old.pd
	}
	if in.Buf == nil {
		in.Buf, in.IOVA, in.HasIOVA, in.Guard = old.buf, old.va, true, old.guard
	}
	r, err := mr.describe(verb, pd, in)
	if err != nil {
		return err
	}
	if in.Sync != nil {
		mr.sync = in.Sync
	}
	r.key = old.key
	pd.uses.Add(1)
	old.pd.uses.Add(-1)
	d.keys.slot(mr.index).Store(r)
	return nil
}

// AllocMR makes a fast-register region: MapPages says which memory it is, and a
// REG_MR work request makes it valid, with a key and rights.
func (pd *PD) AllocMR(maxPages int) (*MR, error) {
	if l := pd.dev.limits.MaxFastRegPages; maxPages < 1 || maxPages > l {
		return nil, invalid("alloc_mr", "%d pages; 1 to %d", maxPages, l)
	}
	mr := &MR{pd: pd, fast: true, maxPage: maxPages}
	return mr, mr.enter("alloc_mr", &region{pd: pd, mr: mr})
}

// MapPages sets the memory that the next REG_MR registers: pages of one size, a
// power of two (the last may be shorter), which answer to addresses from iova on.
func (mr *MR) MapPages(pages [][]byte, iova uint64) error {
	const verb = "map_mr_sg"
	if !mr.fast {
		return invalid(verb, "lkey %#x is not a fast-register region", mr.LKey())
	}
	if len(pages) == 0 || len(pages) > mr.maxPage {
		return invalid(verb, "%d pages; 1 to %d", len(pages), mr.maxPage)
	}
	size := len(pages[0])
	if size == 0 || len(pages) > 1 && size&(size-1) != 0 {
		return invalid(verb, "pages of %d bytes; a power of two is needed", size)
	}
	r := &region{pd: mr.pd, va: iova, mr: mr, pages: pages, shift: uint(bits.Len(uint(size - 1)))}
	for i, p := range pages {
		if len(p) != size && (i < len(pages)-1 || len(p) > size || len(p) == 0) {
			return invalid(verb, "page %d has %d bytes, the first %d", i, len(p), size)
		}
		r.n += uint64(len(p))
	}
	if iova+r.n-1 < iova {
		return invalid(verb, "%d bytes from %#x on pass the end of the address space", r.n, iova)
	}
	mr.mapped.Store(r)
	return nil
}

// register carries out REG_MR.
func (mr *MR) register(q *QP, key uint32, access Access) bool {
	m := mr.mapped.Load()
	if !mr.fast || m == nil || mr.pd != q.pd || int(key>>8) != mr.index || mr.dead.Load() {
		return false
	}
	if access.check("reg_mr") != nil || access&FlushPersistent != 0 {
		return false
	}
	slot := mr.pd.dev.keys.slot(mr.index)
	old := slot.Load()
	if old == nil || old.valid {
		return false
	}
	r := *m
	r.key, r.access, r.valid = key, access, true
	return slot.CompareAndSwap(old, &r)
}
