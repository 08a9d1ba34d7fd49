package rdma

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"taproom/rdma/roce"
)

// QPType is a queue pair's transport service.
type QPType uint8

// Queue pair types. The numbers of RC, UC and UD are those of enum ibv_qp_type;
// GSI is QP 1, which only connection management uses.
const (
	GSI QPType = 1
	RC  QPType = 2
	UC  QPType = 3
	UD  QPType = 4
)

// String returns RC, UC, UD or GSI.
func (t QPType) String() string {
	switch t {
	case RC:
		return "RC"
	case UC:
		return "UC"
	case UD:
		return "UD"
	case GSI:
		return "GSI"
	}
	return fmt.Sprintf("qp-type-%d", uint8(t))
}

// GSIQKey is QP 1's well-known Q_Key (IBTA 3.5.3).
const GSIQKey = 0x80010000

// QPCap are a queue pair's sizes (struct ibv_qp_cap).
type QPCap struct {
	MaxSendWR  int
	MaxRecvWR  int
	MaxSendSGE int
	MaxRecvSGE int
	MaxInline  int // bytes
}

// QPInit describes a queue pair (struct ibv_qp_init_attr).
type QPInit struct {
	Type    QPType
	SendCQ  *CQ
	RecvCQ  *CQ
	SRQ     *SRQ // receives come from here; may be nil
	Cap     QPCap
	SigAll  bool   // every work request completes with an entry
	WantQPN uint32 // a number to have, for tests and for programs that share a device; 0 for any
}

// QP is a queue pair.
//
// One lock guards it. Work that came in is done under the lock, on the goroutine
// that brought it; packets that go out are built under it and sent without it,
// by one goroutine at a time (see kick). No other queue pair's lock is ever
// taken meanwhile; those of CQ, SRQ and the timer are taken inside it.
type QP struct {
	dev    *Device
	pd     *PD
	typ    QPType
	num    uint32
	sendCQ *CQ
	recvCQ *CQ
	srq    *SRQ
	sigAll bool
	cap    QPCap

	work atomic.Int32 // see kick
	out  builder      // of whoever transmits

	mu      sync.Mutex // guards what follows
	state   QPState
	attr    QPAttr
	pkey    uint16
	mtu     int       // bytes
	window  int       // packets
	ep      *endpoint // of the peer, RC and UC
	srcPort uint16
	dead    bool
	commEst bool
	sq      sendRing
	rq      recvRing
	req     requester
	resp    responder
	cong    congestion
	count   Counters
	trace   traceRing
	armedAt int64
	now     int64 // when what is being done began: the time of completions
}

// CreateQP makes a queue pair in state RESET.
func (pd *PD) CreateQP(in QPInit) (*QP, error) {
	const verb = "create_qp"
	d, l := pd.dev, &pd.dev.limits
	c := in.Cap
	switch {
	case in.Type < GSI || in.Type > UD:
		return nil, fail(verb, syscall.EOPNOTSUPP, "queue pairs of %v", in.Type)
	case in.SendCQ == nil || in.RecvCQ == nil || in.SendCQ.dev != d || in.RecvCQ.dev != d:
		return nil, invalid(verb, "a send and a receive completion queue of device %s are needed", d.name)
	case in.SRQ != nil && in.SRQ.pd.dev != d:
		return nil, invalid(verb, "srq %d is of another device", in.SRQ.id)
	case c.MaxSendWR < 0 || c.MaxSendWR > l.MaxQPWR || c.MaxRecvWR < 0 || c.MaxRecvWR > l.MaxQPWR:
		return nil, invalid(verb, "%d and %d work requests, the most is %d", c.MaxSendWR, c.MaxRecvWR, l.MaxQPWR)
	case c.MaxSendSGE < 0 || c.MaxSendSGE > l.MaxSGE || c.MaxRecvSGE < 0 || c.MaxRecvSGE > l.MaxSGE:
		return nil, invalid(verb, "%d and %d SGEs, the most is %d", c.MaxSendSGE, c.MaxRecvSGE, l.MaxSGE)
	case c.MaxInline < 0 || c.MaxInline > l.MaxInline:
		return nil, invalid(verb, "%d bytes inline, the most is %d", c.MaxInline, l.MaxInline)
	case in.WantQPN > roce.PSNMask-1 || in.WantQPN == 1 && in.Type != GSI:
		return nil, invalid(verb, "queue pair number %#x", in.WantQPN)
	}
	q := &QP{dev: d, pd: pd, typ: in.Type, sendCQ: in.SendCQ, recvCQ: in.RecvCQ, srq: in.SRQ, sigAll: in.SigAll, cap: c}
	q.out.id = d.opts.FirstIPID
	q.sq.init(c)
	if q.srq == nil {
		q.rq.init(c.MaxRecvWR, c.MaxRecvSGE)
	}
	q.trace.ring = make([]traceEntry, d.opts.TraceDepth)
	q.resp.queue = make([]answer, answersFor(0))
	if err := d.number(q, in.WantQPN); err != nil {
		return nil, err
	}
	d.mu.Lock()
	in.SendCQ.uses++
	in.RecvCQ.uses++
	if q.srq != nil {
		q.srq.uses++
	}
	d.mu.Unlock()
	pd.uses.Add(1)
	return q, nil
}

// number gives a queue pair its number: 1 to the GSI, others in turn.
func (d *Device) number(q *QP, want uint32) error {
	if q.typ == GSI {
		want = 1
	}
	if want == 0 {
		// The table counts from 0, so the low numbers must be there to be skipped.
		for range d.limits.LastQPN {
			i := d.qps.put(func(i int) *QP { q.num = uint32(i); return q })
			if i < 0 || d.qps.count() > d.limits.MaxQP+1 {
				break
			}
			if uint32(i) >= d.limits.FirstQPN {
				return nil
			}
			d.qps.remove(i)
		}
		return fail("create_qp", syscall.ENOMEM, "device %s has %d queue pairs already", d.name, d.qps.count())
	}
	q.num = want
	if !d.qps.putAt(int(want), q) {
		return fail("create_qp", syscall.EBUSY, "device %s has a queue pair %#x already", d.name, want)
	}
	return nil
}

// Destroy ends the queue pair. Completions that wait to be polled are removed,
// and none comes any more when it has returned.
func (q *QP) Destroy() error {
	d := q.dev
	q.settle()
	q.mu.Lock()
	if q.dead {
		q.mu.Unlock()
		return invalid("destroy_qp", "qp %#x is gone already", q.num)
	}
	q.dead = true
	q.resetLocked()
	count := q.count
	q.mu.Unlock()
	d.qps.remove(int(q.num))
	d.timers.remove(q)
	q.sendCQ.drop(q.num)
	q.recvCQ.drop(q.num)
	d.leaveAll(q)
	d.mu.Lock()
	d.dead.add(&count)
	q.sendCQ.uses--
	q.recvCQ.uses--
	if q.srq != nil {
		q.srq.uses--
	}
	d.mu.Unlock()
	q.pd.uses.Add(-1)
	return nil
}

// Num is the queue pair's number.
func (q *QP) Num() uint32 { return q.num }

// Type is the queue pair's.
func (q *QP) Type() QPType { return q.typ }

// PD is the queue pair's protection domain, Device its device.
func (q *QP) PD() *PD { return q.pd }

// Device is the queue pair's.
func (q *QP) Device() *Device { return q.dev }

// State is the present state.
func (q *QP) State() QPState {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state
}

// connected tells whether the queue pair has one peer.
func (q *QP) connected() bool { return q.typ == RC || q.typ == UC }

// resetLocked forgets everything but what the queue pair was created with.
func (q *QP) resetLocked() {
	q.state, q.attr, q.ep = Reset, QPAttr{}, nil
	q.sq.reset()
	q.rq.head = q.rq.tail
	q.req = requester{}
	q.resp.reset()
	q.cong = congestion{}
	q.commEst = false
	q.srcPort = 0
}
