package rdma

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// CQ is a completion queue.
type CQ struct {
	dev  *Device
	id   uint32
	ch   *CompChannel
	uses int // queue pairs and SRQs, guarded by dev.mu

	mu      sync.Mutex // guards what follows
	ring    []WC
	head, n int
	// some is not 0 while there may be something to poll: those who poll in a
	// loop do not take the lock from those who complete.
	some    atomic.Uint32
	overrun bool
	arm     armed
	total   uint64
}

type armed uint8

const (
	notArmed armed = iota
	armedSolicited
	armedAny
)

// CreateCQ makes a completion queue for cqe completions. ch may be nil: then
// only PollCQ tells of completions.
func (d *Device) CreateCQ(cqe int, ch *CompChannel) (*CQ, error) {
	if cqe < 1 || cqe > d.limits.MaxCQE {
		return nil, invalid("create_cq", "%d entries; 1 to %d", cqe, d.limits.MaxCQE)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.cqs) >= d.limits.MaxCQ {
		return nil, fail("create_cq", syscall.ENOMEM, "device %s has %d completion queues already", d.name, len(d.cqs))
	}
	cq := &CQ{dev: d, id: d.id(), ch: ch, ring: make([]WC, cqe)}
	d.cqs[cq] = true
	return cq, nil
}

// Destroy ends the queue. It fails with EBUSY while a queue pair uses it.
func (cq *CQ) Destroy() error {
	d := cq.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if cq.uses > 0 {
		return fail("destroy_cq", syscall.EBUSY, "cq %d: %d queue pairs use it", cq.id, cq.uses)
	}
	if !d.cqs[cq] {
		return invalid("destroy_cq", "cq %d is gone already", cq.id)
	}
	delete(d.cqs, cq)
	return nil
}

// ID is the queue's number in listings.
func (cq *CQ) ID() uint32 { return cq.id }

// Cap is how many completions the queue holds, and Len how many it has.
func (cq *CQ) Cap() int { cq.mu.Lock(); defer cq.mu.Unlock(); return len(cq.ring) }

// Len is how many completions wait to be polled.
func (cq *CQ) Len() int { cq.mu.Lock(); defer cq.mu.Unlock(); return cq.n }

// Poll moves completions to wcs and returns how many. After an overflow, once
// what the queue holds has been polled, it fails with EOVERFLOW: completions
// have been lost.
func (cq *CQ) Poll(wcs []WC) (int, error) {
	if cq.some.Load() == 0 {
		return 0, nil
	}
	cq.mu.Lock()
	defer cq.mu.Unlock()
	n := min(len(wcs), cq.n)
	k := copy(wcs[:n], cq.ring[cq.head:])
	copy(wcs[k:n], cq.ring)
	cq.n -= n
	if cq.head += n; cq.head >= len(cq.ring) {
		cq.head -= len(cq.ring)
	}
	if cq.n == 0 && !cq.overrun {
		cq.some.Store(0)
	}
	if n == 0 && cq.overrun && len(wcs) > 0 {
		return 0, fail("poll_cq", syscall.EOVERFLOW, "cq %d: completions were lost, it holds %d", cq.id, len(cq.ring))
	}
	return n, nil
}

// ReqNotify asks for one event on the queue's channel at the next completion
// (ibv_req_notify_cq), or at the next that is solicited or an error.
func (cq *CQ) ReqNotify(solicitedOnly bool) error {
	if cq.ch == nil {
		return invalid("req_notify_cq", "cq %d has no completion channel", cq.id)
	}
	cq.mu.Lock()
	defer cq.mu.Unlock()
	if !solicitedOnly {
		cq.arm = armedAny
	} else if cq.arm == notArmed {
		cq.arm = armedSolicited
	}
	return nil
}

// Resize changes the capacity. It fails with EINVAL if more completions wait.
func (cq *CQ) Resize(cqe int) error {
	if cqe < 1 || cqe > cq.dev.limits.MaxCQE {
		return invalid("resize_cq", "cq %d: %d entries; 1 to %d", cq.id, cqe, cq.dev.limits.MaxCQE)
	}
	cq.mu.Lock()
	defer cq.mu.Unlock()
	if cqe < cq.n {
		return invalid("resize_cq", "cq %d: %d entries, but %d completions wait", cq.id, cqe, cq.n)
	}
	ring := make([]WC, cqe)
	k := copy(ring[:cq.n], cq.ring[cq.head:])
	copy(ring[k:cq.n], cq.ring)
	cq.ring, cq.head = ring, 0
	return nil
}

// push adds a completion; false if there is no room, which is the end of the
// queue and of the queue pair that overran it (IBTA 11.6.3.6).
func (cq *CQ) push(wc *WC, solicited bool) bool {
	cq.mu.Lock()
	if cq.overrun || cq.n == len(cq.ring) {
		first := !cq.overrun
		cq.overrun = true
		cq.some.Store(1)
		cq.mu.Unlock()
		if first {
			cq.dev.event(Event{Type: CQErr, CQ: cq})
		}
		return false
	}
	i := cq.head + cq.n
	if i >= len(cq.ring) {
		i -= len(cq.ring)
	}
	cq.ring[i] = *wc
	cq.n++
	cq.some.Store(1)
	cq.total++
	ring := cq.arm == armedAny || cq.arm == armedSolicited && (solicited || wc.Status != Success)
	if ring {
		cq.arm = notArmed
	}
	cq.mu.Unlock()
	if ring {
		cq.ch.post(cq)
	}
	return true
}

// drop removes the completions of a queue pair that is reset or destroyed.
func (cq *CQ) drop(qpn uint32) {
	cq.mu.Lock()
	defer cq.mu.Unlock()
	kept := 0
	for i := range cq.n {
		wc := cq.ring[(cq.head+i)%len(cq.ring)]
		if wc.QPN != qpn {
			cq.ring[(cq.head+kept)%len(cq.ring)] = wc
			kept++
		}
	}
	cq.n = kept
}
