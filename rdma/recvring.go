package rdma

import "syscall"

// recvWQE is a posted receive.
type recvWQE struct {
	id   uint64
	sges []SGE
	len  uint64 // of all SGEs
}

// recvRing is a queue of posted receives. The SGEs are copied into memory that
// was made with the ring: posting allocates nothing.
type recvRing struct {
	ring   []recvWQE
	store  []SGE
	maxSGE int
	head   uint64
	tail   uint64
}

func (r *recvRing) init(n, sge int) {
	r.ring, r.store, r.maxSGE = make([]recvWQE, n), make([]SGE, n*sge), sge
}

func (r *recvRing) len() int { return int(r.tail - r.head) }

// push adds a receive; the error is the errno.
func (r *recvRing) push(wr *RecvWR) error {
	if len(wr.SGList) > r.maxSGE {
		return syscall.EINVAL
	}
	if r.len() >= len(r.ring) {
		return syscall.ENOMEM
	}
	var n uint64
	for i := range wr.SGList {
		n += uint64(wr.SGList[i].Length)
	}
	i := int(r.tail % uint64(len(r.ring)))
	s := r.store[i*r.maxSGE : (i+1)*r.maxSGE]
	r.ring[i] = recvWQE{id: wr.ID, sges: s[:copy(s, wr.SGList)], len: n}
	r.tail++
	return nil
}

// take moves the oldest receive to w, which keeps its own memory for SGEs.
func (r *recvRing) take(w *recvWQE) bool {
	if r.head == r.tail {
		return false
	}
	e := &r.ring[r.head%uint64(len(r.ring))]
	w.id, w.len = e.id, e.len
	w.sges = append(w.sges[:0], e.sges...)
	r.head++
	return true
}

func (r *recvRing) resize(n int) {
	old := *r
	r.init(n, old.maxSGE)
	r.head, r.tail = 0, 0
	for i := old.head; i != old.tail; i++ {
		e := &old.ring[i%uint64(len(old.ring))]
		_ = r.push(&RecvWR{e.id, e.sges})
	}
}
