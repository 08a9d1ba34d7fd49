package rdma

import (
	"encoding/binary"

	"taproom/rdma/roce"
)

// The responder takes requests in order, one message at a time, and queues the
// answers, which leave when the queue pair transmits next: at the end of the
// received frame. So one ACK can stand for a whole run of requests.

// responder is the receiving half of a queue pair.
type responder struct {
	psn     roce.PSN // expected
	msn     uint32   // messages completed, 24 bits
	nakSent bool     // and nothing in order since: no second NAK

	op     roce.Operation // message under way: OpSend, OpWrite or OpNone
	lost   bool           // UC: until the next FIRST or ONLY
	hasWQE bool
	wqe    recvWQE
	off    uint64 // bytes of the message so far
	va     uint64 // WRITE: where the next byte goes
	rkey   uint32
	left   uint64 // WRITE: bytes to come
	total  uint64

	saved []savedOp // ring of max_dest_rd_atomic, for duplicates
	next  int

	queue      []answer // ring of answers to send
	head, tail uint64
}

// savedOp is what a repeated READ or atomic needs (IBTA 9.4.5, 9.5).
type savedOp struct {
	used  bool
	op    roce.Operation
	psn   roce.PSN
	npkts int
	orig  uint64 // atomics: the answer
	last  uint64 // position of the answer in the queue, to see whether it has gone
	again bool   // that answer is a repetition
}

// size makes room for n READs and atomics.
func (r *responder) size(n int) {
	r.saved, r.next = make([]savedOp, n), 0
	if need := answersFor(n); r.idle() && len(r.queue) < need {
		r.queue, r.head, r.tail = make([]answer, need), 0, 0
	}
}

// answersFor is how long the queue of answers must be: every READ may be waiting
// with an ACK behind it, and rxe's way of one ACK for each packet needs a window
// of them.
func answersFor(reads int) int { return 2*reads + 192 }

func (r *responder) reset() {
	q, w := r.queue, r.wqe.sges
	*r = responder{queue: q}
	r.wqe.sges = w[:0]
}

// clear drops the answers that have not gone yet.
func (r *responder) clear() { r.head = r.tail }

// refusal is why a request is not carried out: what the peer is told, and what
// becomes of the receive that is under way, if one is.
type refusal struct {
	syndrome roce.Syndrome
	status   Status
	cause    Cause
	event    EventType
}

var (
	refuseInvalid  = refusal{roce.NakInvalidRequest, RemInvReqErr, CauseNakInvalid, QPReqErr}
	refuseAccess   = refusal{roce.NakRemoteAccess, RemAccessErr, CauseNakAccess, QPAccessErr}
	refuseTooShort = refusal{roce.NakRemoteOperation, LocQPOpErr, CauseRecvTooShort, QPFatal}
	refuseLocal    = refusal{roce.NakRemoteOperation, LocProtErr, CauseLKey, QPFatal}
	refuseOverflow = refusal{roce.NakRemoteOperation, LocQPOpErr, CauseCQOverflow, QPFatal}
	refuseInv      = refusal{roce.NakRemoteAccess, RemInvReqErr, CauseInvalidate, QPAccessErr}
	refuseFault    = refusal{roce.NakRemoteOperation, LocProtErr, CauseFault, QPFatal}
	refuseSync     = refusal{roce.NakRemoteOperation, LocQPOpErr, CauseNakOperation, QPFatal}
)

// refuse answers a request with a NAK and ends the queue pair.
func (q *QP) refuse(why *refusal, psn roce.PSN) {
	r := &q.resp
	if q.typ == RC {
		q.answer(answer{kind: ansAck, psn: psn, syndrome: why.syndrome})
	}
	if r.hasWQE {
		q.completeRecv(&WC{Status: why.status, Cause: why.cause, PSN: psn}, true)
	}
	q.dev.event(Event{Type: why.event, QP: q})
	q.errorLocked()
}

// respond takes a request on an RC queue pair.
func (q *QP) respond(x *rxPacket) {
	r := &q.resp
	psn := x.BTH.PSN()
	switch d := psn.Sub(r.psn); {
	case d > 0:
		q.count.OutOfSeqRequest++
		if !r.nakSent {
			r.nakSent = true
			q.answer(answer{kind: ansAck, psn: r.psn, syndrome: roce.NakSequence})
		}
		return
	case d < 0:
		q.count.DuplicateRequest++
		q.duplicate(x, psn)
		return
	}
	r.nakSent = false
	info := x.Info()
	// A message goes FIRST MIDDLE* LAST, or ONLY, and nothing comes in between.
	if first := info.Part&roce.First != 0; first && r.op != roce.OpNone || !first && r.op != info.Op {
		q.refuse(&refuseInvalid, psn)
		return
	}
	switch info.Op {
	case roce.OpSend:
		q.takeSend(x, psn)
	case roce.OpWrite:
		q.takeWrite(x, psn)
	case roce.OpReadRequest:
		q.takeRead(x, psn)
	case roce.OpCompareSwap, roce.OpFetchAdd:
		q.takeAtomic(x, psn)
	case roce.OpAtomicWrite:
		q.takeAtomicWrite(x, psn)
	case roce.OpFlush:
		q.takeFlush(x, psn)
	}
}

// sizeOK tells whether a SEND or WRITE packet has the length its part demands:
// all but the last are full (IBTA 9.7.4.1.6).
func (q *QP) sizeOK(info *roce.Info, n int) bool {
	switch {
	case info.Part&roce.Last == 0:
		return n == q.mtu
	case info.Part == roce.Last:
		return n >= 1 && n <= q.mtu
	}
	return n <= q.mtu
}

// accept moves on behind an RC packet that was carried out, and acknowledges it if
// asked to.
func (q *QP) accept(x *rxPacket, psn roce.PSN) {
	r := &q.resp
	r.psn = psn.Next()
	if x.Info().Part&roce.Last != 0 {
		r.msn = (r.msn + 1) & roce.PSNMask
		r.op = roce.OpNone
	}
	if x.BTH.AckReq() {
		q.answer(answer{kind: ansAck, psn: psn, syndrome: roce.AckNoCredits})
	}
}

// needWQE takes a receive for the message, unless it has one; without any, an RC
// peer gets an RNR NAK.
func (q *QP) needWQE(psn roce.PSN) bool {
	r := &q.resp
	if r.hasWQE {
		return true
	}
	if q.srq != nil {
		r.hasWQE = q.srq.take(&r.wqe)
	} else {
		r.hasWQE = q.rq.take(&r.wqe)
	}
	if !r.hasWQE && q.typ == RC {
		q.count.SendRNR++
		r.nakSent = true // what follows is out of sequence because of us
		q.answer(answer{kind: ansAck, psn: psn, syndrome: roce.RNR(q.attr.MinRNRTimer)})
	}
	return r.hasWQE
}

// takeSend carries out a packet of a SEND.
func (q *QP) takeSend(x *rxPacket, psn roce.PSN) {
	r, info := &q.resp, x.Info()
	if !q.sizeOK(info, len(x.Payload)) {
		q.refuse(&refuseInvalid, psn)
		return
	}
	if info.Part&roce.First != 0 {
		if !q.needWQE(psn) {
			return
		}
		r.op, r.off = roce.OpSend, 0
	}
	if why := q.fill(x.Payload); why != nil {
		q.refuse(why, psn)
		return
	}
	if info.Part&roce.Last != 0 && !q.finishSend(x, psn) {
		return
	}
	q.accept(x, psn)
}

// fill writes payload behind what the message has brought so far.
func (q *QP) fill(b []byte) *refusal {
	r := &q.resp
	if r.off+uint64(len(b)) > r.wqe.len {
		return &refuseTooShort
	}
	if !q.scatter(q.recvPD(), r.wqe.sges, r.off, b) {
		return &refuseLocal
	}
	r.off += uint64(len(b))
	return nil
}

// finishSend completes the receive of a SEND.
func (q *QP) finishSend(x *rxPacket, psn roce.PSN) bool {
	info := x.Info()
	wc := WC{Opcode: WCRecv, ByteLen: uint32(q.resp.off), Flags: WCGRH}
	if info.Imm {
		wc.Imm, wc.Flags = x.ImmDt().Value(), wc.Flags|WCWithImm
	}
	if info.Inv {
		wc.Imm, wc.Flags = x.IETH().RKey(), wc.Flags|WCWithInv
		if !q.invalidate(wc.Imm) {
			q.refuse(&refuseInv, psn)
			return false
		}
	}
	return q.finishRecv(&wc, x, psn)
}

// finishRecv completes the receive that is under way, and refuses the message if
// the completion queue has no room for it.
func (q *QP) finishRecv(wc *WC, x *rxPacket, psn roce.PSN) bool {
	if q.completeRecv(wc, x.BTH.Solicited()) {
		return true
	}
	q.resp.hasWQE = false
	q.refuse(&refuseOverflow, psn)
	return false
}

// takeWrite carries out a packet of a WRITE.
func (q *QP) takeWrite(x *rxPacket, psn roce.PSN) {
	r, info := &q.resp, x.Info()
	first := info.Part&roce.First != 0
	if q.attr.Access&RemoteWrite == 0 || !q.sizeOK(info, len(x.Payload)) {
		q.refuse(&refuseInvalid, psn)
		return
	}
	va, rkey, left := r.va, r.rkey, r.left
	if first {
		h := x.RETH()
		va, rkey, left = h.VA(), h.RKey(), uint64(h.Length())
	}
	n := uint64(len(x.Payload))
	if last := info.Part&roce.Last != 0; last && n != left || !last && n >= left {
		q.refuse(&refuseInvalid, psn)
		return
	}
	if info.Imm && !q.needWQE(psn) {
		return
	}
	if left > 0 {
		// All that is to come must hold, so that a bad message fails at its
		// first packet; afterwards the key may have been invalidated.
		m := q.remote(rkey, va, left, RemoteWrite)
		if m == nil {
			q.refuse(&refuseAccess, psn)
			return
		}
		if !m.copyIn(va, x.Payload) {
			q.refuse(&refuseFault, psn)
			return
		}
	}
	if first {
		r.op, r.total = roce.OpWrite, left
	}
	r.va, r.rkey, r.left = va+n, rkey, left-n
	if info.Imm {
		wc := WC{Opcode: WCRecvImm, ByteLen: uint32(r.total), Imm: x.ImmDt().Value(), Flags: WCGRH | WCWithImm}
		if !q.finishRecv(&wc, x, psn) {
			return
		}
	}
	q.accept(x, psn)
}

// completeRecv writes the completion of the receive under way; false if the
// queue is full.
func (q *QP) completeRecv(wc *WC, solicited bool) bool {
	r := &q.resp
	r.hasWQE = false
	wc.ID, wc.QPN, wc.Time = r.wqe.id, q.num, q.now
	q.count.RDMARecvs++
	return q.recvCQ.push(wc, solicited || wc.Status != Success)
}

// recvPD is the domain that receives' memory belongs to: with an SRQ, its own.
func (q *QP) recvPD() *PD {
	if q.srq != nil {
		return q.srq.pd
	}
	return q.pd
}

// scatter writes b into SGEs from offset off on.
func (q *QP) scatter(pd *PD, sges []SGE, off uint64, b []byte) bool {
	for i := range sges {
		if len(b) == 0 {
			break
		}
		g := &sges[i]
		if off >= uint64(g.Length) {
			off -= uint64(g.Length)
			continue
		}
		n := min(uint64(g.Length)-off, uint64(len(b)))
		m := q.dev.local(pd, g.LKey, g.Addr, uint64(g.Length), LocalWrite)
		if m == nil {
			return false
		}
		if !m.copyIn(g.Addr+off, b[:n]) {
			return false
		}
		b, off = b[n:], 0
	}
	return len(b) == 0
}

// flushRecvLocked completes all posted receives with the flush error. Those of
// an SRQ stay for others; the queue pair says that it takes no more.
func (q *QP) flushRecvLocked() {
	r := &q.resp
	q.now = q.dev.clock.Now()
	if r.hasWQE {
		q.completeRecv(&WC{Status: WRFlushErr, Cause: CauseQPError}, true)
	}
	if q.srq != nil {
		q.dev.event(Event{Type: QPLastWQEReached, QP: q})
		return
	}
	for q.rq.take(&r.wqe) {
		r.hasWQE = true
		if !q.completeRecv(&WC{Status: WRFlushErr, Cause: CauseQPError}, true) {
			q.rq.head = q.rq.tail
		}
	}
}

func putNative(b []byte, v uint64) { binary.NativeEndian.PutUint64(b, v) }
