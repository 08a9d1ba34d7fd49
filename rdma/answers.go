package rdma

import (
	"encoding/binary"

	"taproom/rdma/roce"
)

type answerKind uint8

const (
	ansAck    answerKind = iota // ACK, NAK or RNR NAK
	ansRead                     // READ responses, one or many
	ansAtomic                   // ATOMIC ACK
	ansDone                     // READ RESPONSE ONLY without payload: ATOMIC WRITE, FLUSH
	ansCNP                      // congestion notification
	ansNone                     // taken back
)

// answer waits to be sent. One of a READ stays at the head of the queue and
// shrinks until it is done.
type answer struct {
	kind     answerKind
	first    bool // READ: the next packet is a FIRST or ONLY
	syndrome roce.Syndrome
	psn      roce.PSN // of the next packet
	npkts    int
	msn      uint32
	rkey     uint32
	va       uint64
	left     uint64
	orig     uint64
}

func (r *responder) idle() bool { return r.head == r.tail }

// noAnswer is no position in the queue.
const noAnswer = ^uint64(0)

// answer queues an answer with the present MSN. An ACK takes the place of one
// that waits just before it, unless each shall go.
func (q *QP) answer(a answer) {
	r := &q.resp
	a.msn = r.msn
	full := r.tail-r.head == uint64(len(r.queue))
	if a.kind == ansAck && a.syndrome.IsAck() && !r.idle() && (full || !q.dev.opts.LikeRxe) {
		if p := &r.queue[(r.tail-1)%uint64(len(r.queue))]; p.kind == ansAck && p.syndrome.IsAck() {
			if a.psn.After(p.psn) {
				*p = a
			}
			q.count.AckDeferred++
			return
		}
	}
	if full {
		q.count.Dropped++ // the requester asks again
		for i := range r.saved {
			if r.saved[i].last == r.tail {
				r.saved[i].last = noAnswer
			}
		}
		return
	}
	r.queue[r.tail%uint64(len(r.queue))] = a
	r.tail++
}

// answerOne sends the next packet of the oldest answer, if there is one.
func (q *QP) answerOne(now int64) bool {
	r := &q.resp
	if r.idle() || q.ep == nil {
		return false
	}
	a := &r.queue[r.head%uint64(len(r.queue))]
	more := r.tail-r.head > 1
	switch a.kind {
	case ansAck:
		b := q.begin(q.ep, roce.RCAck, q.attr.DestQPN, a.psn, false, false, 0, more)
		putAETH(b[roce.BTHLen:], a)
		q.end(b, q.seed(b, roce.AETHLen), now)
		q.count.SentAcks++
	case ansAtomic:
		b := q.begin(q.ep, roce.RCAtomicAck, q.attr.DestQPN, a.psn, false, false, 0, more)
		a.syndrome = roce.AckNoCredits
		putAETH(b[roce.BTHLen:], a)
		roce.AtomicAckETH(b[roce.BTHLen+roce.AETHLen:]).Encode(a.orig)
		q.end(b, q.seed(b, roce.AETHLen+roce.AtomicAckETHLen), now)
	case ansDone:
		b := q.begin(q.ep, roce.RCReadRespOnly, q.attr.DestQPN, a.psn, false, false, 0, more)
		a.syndrome = roce.AckNoCredits
		putAETH(b[roce.BTHLen:], a)
		q.end(b, q.seed(b, roce.AETHLen), now)
	case ansCNP:
		q.sendCNP(now)
	case ansRead:
		if q.cong.paced && !q.cong.ready(now) {
			q.arm(q.cong.wakeAt(now))
			return false
		}
		if !q.sendReadResponse(a, now) {
			return true
		}
	}
	r.head++
	return true
}

// sendReadResponse sends one packet, and tells whether it was the last.
func (q *QP) sendReadResponse(a *answer, now int64) bool {
	n := min(a.left, uint64(q.mtu))
	last := n == a.left
	op, ext := roce.RCReadRespMiddle, 0
	switch {
	case a.first && last:
		op = roce.RCReadRespOnly
	case a.first:
		op = roce.RCReadRespFirst
	case last:
		op = roce.RCReadRespLast
	}
	m := (*region)(nil)
	if n > 0 {
		if m = q.remote(a.rkey, a.va, a.left, RemoteRead); m == nil { // gone meanwhile
			psn := a.psn
			q.resp.clear()
			q.refuse(&refuseAccess, psn)
			return false
		}
	}
	b := q.begin(q.ep, op, q.attr.DestQPN, a.psn, false, false, int(n), !last)
	if op != roce.RCReadRespMiddle {
		ext = roce.AETHLen
		a.syndrome = roce.AckNoCredits
		putAETH(b[roce.BTHLen:], a)
	}
	s := q.seed(b, ext)
	if n > 0 {
		hdr := roce.BTHLen + ext
		var ok bool
		if s, ok = m.copyOut(b[hdr:hdr+int(n)], a.va, s); !ok {
			psn := a.psn
			q.out.abandon(len(b))
			q.resp.clear()
			q.refuse(&refuseFault, psn)
			return false
		}
	}
	q.end(b, s, now)
	q.cong.sent(len(b), now)
	a.psn, a.va, a.left, a.first = a.psn.Next(), a.va+n, a.left-n, false
	return last
}

func putAETH(b []byte, a *answer) {
	binary.BigEndian.PutUint32(b, uint32(a.syndrome)<<24|a.msn&roce.PSNMask)
}

func getNative(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
