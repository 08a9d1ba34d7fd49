package rdma

import (
	"sync"
	"syscall"
)

// SRQ is a receive queue that queue pairs share.
type SRQ struct {
	pd   *PD
	id   uint32
	uses int // queue pairs, guarded by dev.mu

	mu    sync.Mutex // guards what follows
	queue recvRing
	limit int
}

// SRQInit describes a shared receive queue.
type SRQInit struct {
	MaxWR  int
	MaxSGE int
	Limit  int // see SRQ.Modify
}

// CreateSRQ makes a shared receive queue.
func (pd *PD) CreateSRQ(in SRQInit) (*SRQ, error) {
	const verb = "create_srq"
	d := pd.dev
	if in.MaxWR < 1 || in.MaxWR > d.limits.MaxSRQWR || in.MaxSGE < 0 || in.MaxSGE > d.limits.MaxSRQSGE || in.Limit < 0 || in.Limit > in.MaxWR {
		return nil, invalid(verb, "%d work requests of %d SGEs, limit %d; the most is %d of %d", in.MaxWR, in.MaxSGE, in.Limit, d.limits.MaxSRQWR, d.limits.MaxSRQSGE)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.srqs) >= d.limits.MaxSRQ {
		return nil, fail(verb, syscall.ENOMEM, "device %s has %d shared receive queues already", d.name, len(d.srqs))
	}
	s := &SRQ{pd: pd, id: d.id(), limit: in.Limit}
	s.queue.init(in.MaxWR, in.MaxSGE)
	d.srqs[s] = true
	pd.uses.Add(1)
	return s, nil
}

// ID is the queue's number in listings.
func (s *SRQ) ID() uint32 { return s.id }

// Query returns capacity, limit (0 when it has fired) and how many receives wait.
func (s *SRQ) Query() (init SRQInit, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SRQInit{len(s.queue.ring), s.queue.maxSGE, s.limit}, s.queue.len()
}

// SRQMask says which fields SRQ.Modify takes (enum ibv_srq_attr_mask).
type SRQMask uint8

// Fields of SRQ.Modify.
const (
	SRQMaxWR SRQMask = 1
	SRQLimit SRQMask = 2
)

// Modify changes the capacity, or arms the limit: the next time fewer receives
// than that wait, there is one SRQLimitReached event.
func (s *SRQ) Modify(in SRQInit, mask SRQMask) error {
	const verb = "modify_srq"
	s.mu.Lock()
	defer s.mu.Unlock()
	size := len(s.queue.ring)
	if mask&^(SRQMaxWR|SRQLimit) != 0 {
		return invalid(verb, "srq %d: unknown mask bits %#x", s.id, uint8(mask))
	}
	if mask&SRQMaxWR != 0 {
		if in.MaxWR < 1 || in.MaxWR > s.pd.dev.limits.MaxSRQWR || in.MaxWR < s.queue.len() {
			return invalid(verb, "srq %d: %d work requests, %d wait", s.id, in.MaxWR, s.queue.len())
		}
		size = in.MaxWR
	}
	if mask&SRQLimit != 0 && (in.Limit < 0 || in.Limit > size) {
		return invalid(verb, "srq %d: limit %d of %d", s.id, in.Limit, size)
	}
	if mask&SRQMaxWR != 0 {
		s.queue.resize(size)
	}
	if mask&SRQLimit != 0 {
		s.limit = in.Limit
	}
	return nil
}

// Destroy ends the queue. It fails with EBUSY while queue pairs use it.
func (s *SRQ) Destroy() error {
	d := s.pd.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.uses > 0 {
		return fail("destroy_srq", syscall.EBUSY, "srq %d: %d queue pairs use it", s.id, s.uses)
	}
	if !d.srqs[s] {
		return invalid("destroy_srq", "srq %d is gone already", s.id)
	}
	delete(d.srqs, s)
	s.pd.uses.Add(-1)
	return nil
}

// PostRecv posts receives; it returns how many were taken, and the error of the
// next one.
func (s *SRQ) PostRecv(wrs ...RecvWR) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range wrs {
		if err := s.queue.push(&wrs[i]); err != nil {
			return i, fail("post_srq_recv", err.(syscall.Errno), "srq %d: %d SGEs of %d, %d receives of %d", s.id, len(wrs[i].SGList), s.queue.maxSGE, s.queue.len(), len(s.queue.ring))
		}
	}
	return len(wrs), nil
}

// take moves the oldest receive to w.
func (s *SRQ) take(w *recvWQE) bool {
	s.mu.Lock()
	ok := s.queue.take(w)
	fire := ok && s.limit > 0 && s.queue.len() < s.limit
	if fire {
		s.limit = 0
	}
	s.mu.Unlock()
	if fire {
		s.pd.dev.event(Event{Type: SRQLimitReached, SRQ: s})
	}
	return ok
}
