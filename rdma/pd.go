package rdma

import (
	"sync/atomic"
	"syscall"
)

// PD is a protection domain: what binds queue pairs to the memory they may use.
type PD struct {
	dev  *Device
	id   uint32
	uses atomic.Int32
}

// AllocPD makes a protection domain.
func (d *Device) AllocPD() (*PD, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pds) >= d.limits.MaxPD {
		return nil, fail("alloc_pd", syscall.ENOMEM, "device %s has %d protection domains already", d.name, len(d.pds))
	}
	pd := &PD{dev: d, id: d.id()}
	d.pds[pd] = true
	return pd, nil
}

// Dealloc ends the domain. It fails with EBUSY while anything is in it.
func (pd *PD) Dealloc() error {
	d := pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := pd.uses.Load(); n > 0 {
		return fail("dealloc_pd", syscall.EBUSY, "pd %d: %d objects are left", pd.id, n)
	}
	if !d.pds[pd] {
		return invalid("dealloc_pd", "pd %d is not there", pd.id)
	}
	delete(d.pds, pd)
	return nil
}

// Device is the domain's device.
func (pd *PD) Device() *Device { return pd.dev }

// ID is the domain's number in listings.
func (pd *PD) ID() uint32 { return pd.id }
