package rdma

import "taproom/rdma/roce"

// sendWQE is a posted send. Its SGEs and inline bytes lie in memory that was made
// with the ring.
type sendWQE struct {
	id     uint64
	info   *wrInfo
	op     WROpcode
	flags  SendFlags
	inline bool
	sges   []SGE
	data   []byte // inline
	length uint32 // of the message

	imm    uint32 // immediate data, or the key to invalidate
	raddr  uint64
	rkey   uint32
	cmpAdd uint64
	swap   uint64
	place  roce.Placement
	sel    roce.Selectivity

	ep    *endpoint // UD
	rqpn  uint32
	rqkey uint32

	mw     *MW
	bind   BindInfo
	mr     *MR
	newKey uint32
	access Access

	// What has become of it. The PSNs are given when it is its turn, for good.
	started bool
	psn     roce.PSN // first
	npkts   uint32   // PSNs it takes, 0 for local work
	got     uint32   // responses received, of READs and others with their own
	status  Status   // of a fault found here; Success until then
	cause   Cause
}

// last is the last PSN the message takes.
func (w *sendWQE) last() roce.PSN { return w.psn.Add(int(w.npkts) - 1) }

// sendRing is the send queue. Positions count up for ever; at masks them.
//
//	head .. next   started, not completed (next itself may be half sent)
//	next .. tail   posted
type sendRing struct {
	ring   []sendWQE
	sges   []SGE
	data   []byte
	maxSGE int
	inline int
	head   uint64
	next   uint64
	tail   uint64
}

func (r *sendRing) init(c QPCap) {
	r.ring = make([]sendWQE, c.MaxSendWR)
	r.maxSGE, r.inline = c.MaxSendSGE, c.MaxInline
	r.sges, r.data = make([]SGE, c.MaxSendWR*c.MaxSendSGE), make([]byte, c.MaxSendWR*c.MaxInline)
}

func (r *sendRing) at(i uint64) *sendWQE { return &r.ring[i%uint64(len(r.ring))] }

func (r *sendRing) full() bool { return r.tail-r.head >= uint64(len(r.ring)) }

func (r *sendRing) reset() { r.head, r.next = r.tail, r.tail }

// memory returns where the SGEs and inline bytes of position i go.
func (r *sendRing) memory(i uint64) ([]SGE, []byte) {
	k := int(i % uint64(len(r.ring)))
	return r.sges[k*r.maxSGE : (k+1)*r.maxSGE], r.data[k*r.inline : (k+1)*r.inline]
}
