package rdma

import (
	"taproom/rdma/roce"
)

// The completer takes answers to the requester's packets.

// reap completes what is complete, oldest first, and keeps the books that depend
// on it: una, the retry counters, the timer.
func (q *QP) reap(now int64) {
	r, s := &q.req, &q.sq
	for s.head != s.tail {
		w := s.at(s.head)
		if w.status != Success {
			q.failHead(w.status, w.cause, w.psn)
			return
		}
		if !w.started {
			break
		}
		if done, upTo := q.isDone(w); !done {
			q.progress(upTo, now)
			return
		}
		q.complete(w)
		if q.state == Err {
			return
		}
		if s.head++; s.next < s.head { // a late answer, after the cursor went back
			s.next = s.head - 1
			q.advance()
		}
	}
	q.progress(r.free, now)
	q.checkDrainedLocked()
}

// isDone tells whether a message that was started is complete, and if not, which
// of its PSNs is the first to wait for.
func (q *QP) isDone(w *sendWQE) (bool, roce.PSN) {
	r := &q.req
	switch {
	case w.info.local:
		return true, 0
	case q.typ != RC:
		return q.sq.head != q.sq.next, r.psn
	case w.info.explicit:
		return w.got == w.npkts, w.psn.Add(int(w.got))
	case r.acked.After(w.psn):
		return r.acked.After(w.last()), r.acked
	}
	return false, w.psn
}

// progress notes that everything before psn is done. Going forward, it gives the
// retries back and starts the timer anew.
func (q *QP) progress(psn roce.PSN, now int64) {
	r := &q.req
	if psn.After(r.una) {
		r.una = psn
		if r.acked.Before(psn) {
			r.acked = psn
		}
		if r.psn.Before(psn) && q.sq.next == q.sq.head {
			q.advanceTo(psn)
		}
		r.wentBack = false
		r.retries, r.rnrRetries = q.attr.RetryCnt, q.attr.RNRRetry
		if r.retryAt != 0 && now != 0 {
			r.probe.heard(psn, now)
			q.startProbe(now)
			q.startTimer(now)
		}
	}
	if r.una == r.max {
		r.retryAt, r.probe.at = 0, 0
	}
}

// advanceTo moves the cursor forward inside the oldest message.
func (q *QP) advanceTo(psn roce.PSN) {
	w := q.sq.at(q.sq.next)
	if q.sq.next != q.sq.tail && w.started && !w.info.explicit && !w.info.local {
		q.req.pkt, q.req.psn = uint32(psn.Sub(w.psn)), psn
	}
}

// complete writes the completion of the oldest message.
func (q *QP) complete(w *sendWQE) {
	if w.info.explicit {
		q.req.reads--
	}
	if !w.info.local {
		q.count.RDMASends++
	}
	if w.flags&Signaled == 0 && !q.sigAll {
		return
	}
	wc := WC{ID: w.id, Opcode: w.info.wc, QPN: q.num, Time: q.now}
	switch w.op {
	case WRRead, WRCompareSwap, WRFetchAdd:
		wc.ByteLen = w.length
	case WRSendImm, WRWriteImm:
		wc.Flags = WCWithImm // as rxe has it
	}
	if !q.sendCQ.push(&wc, false) {
		q.overflow()
	}
}

// overflow ends a queue pair whose completion queue is full.
func (q *QP) overflow() {
	if q.state != Err {
		q.dev.event(Event{Type: QPFatal, QP: q})
		q.state = Err // no flush: there is no room for it
		q.sq.head, q.sq.next = q.sq.tail, q.sq.tail
		q.req.idle()
	}
}

// failHead completes the oldest message with an error, and the queue pair with
// it: SQE for a fault of UC or UD, else ERR.
func (q *QP) failHead(st Status, c Cause, psn roce.PSN) {
	s := &q.sq
	w := s.at(s.head)
	wc := WC{ID: w.id, Status: st, Cause: c, Opcode: w.info.wc, QPN: q.num, PSN: psn, Time: q.now}
	s.head++
	if s.next < s.head {
		s.next = s.head
	}
	if !q.sendCQ.push(&wc, true) {
		q.overflow()
		return
	}
	if q.typ == RC {
		q.errorLocked()
		return
	}
	q.flushSendLocked()
	if q.state != Err {
		q.state = SQE
	}
}

// flushSendLocked completes all posted sends with the flush error.
func (q *QP) flushSendLocked() {
	s := &q.sq
	q.now = q.dev.clock.Now()
	for s.head != s.tail {
		w := s.at(s.head)
		s.head++
		wc := WC{ID: w.id, Status: WRFlushErr, Cause: CauseQPError, Opcode: w.info.wc, QPN: q.num, Time: q.now}
		if !q.sendCQ.push(&wc, true) {
			q.overflow()
			break
		}
	}
	s.head, s.next = s.tail, s.tail
	r := &q.req
	r.start(r.free)
}

// checkDrainedLocked tells, once, that nothing is under way in SQD.
func (q *QP) checkDrainedLocked() {
	r, s := &q.req, &q.sq
	if q.state != SQD || r.drained || s.head != s.tail && s.at(s.head).started {
		return
	}
	r.drained = true
	if q.attr.EnSQDAsyncNotify {
		q.dev.event(Event{Type: SQDrained, QP: q})
	}
}

// answered takes a packet that answers a request.
func (q *QP) answered(p *rxPacket, now int64) {
	r := &q.req
	psn := p.BTH.PSN()
	if q.state != RTS && q.state != SQD || psn.Sub(r.max) >= 0 || psn.Before(r.una) {
		q.count.Dropped++ // not, or no more, about anything under way
		return
	}
	switch p.Info().Op {
	case roce.OpAck:
		q.acknowledged(p.AETH(), psn, now)
	default:
		if a := p.AETH(); a != nil && !a.Syndrome().IsAck() {
			q.acknowledged(a, psn, now)
			return
		}
		q.responded(p, psn, now)
	}
}

// ackTo notes that everything before psn has arrived, and completes what that
// completes.
func (q *QP) ackTo(psn roce.PSN, now int64) {
	if psn.After(q.req.acked) {
		q.req.acked = psn
	}
	q.reap(now)
}

// acknowledged takes an ACK or a NAK (IBTA 9.7.5.1).
func (q *QP) acknowledged(a roce.AETH, psn roce.PSN, now int64) {
	syn := a.Syndrome()
	switch {
	case syn.IsAck():
		q.ackTo(psn.Next(), now)
		q.checkGap(psn.Next(), now)
	case syn.IsRNR():
		q.count.RcvdRNR++
		q.ackTo(psn, now)
		if q.checkGap(psn, now) || q.state == Err {
			return
		}
		q.rnrWait(syn.Value(), psn, now)
	case syn == roce.NakSequence:
		q.count.RcvdSeqErr++
		q.ackTo(psn, now)
		if q.checkGap(psn, now) || q.state == Err || q.req.wentBack || q.req.rnrAt > now {
			return
		}
		q.retry(now, CauseNakSequence)
	case syn == roce.NakInvalidRequest:
		q.refused(psn, RemInvReqErr, CauseNakInvalid, now)
	case syn == roce.NakRemoteAccess:
		q.refused(psn, RemAccessErr, CauseNakAccess, now)
	case syn == roce.NakRemoteOperation:
		q.refused(psn, RemOpErr, CauseNakOperation, now)
	default:
		q.count.BadResponses++
	}
}

// refused completes the message a NAK is about.
func (q *QP) refused(psn roce.PSN, st Status, c Cause, now int64) {
	q.ackTo(psn, now)
	if q.state == Err || q.sq.head == q.sq.tail {
		return
	}
	if q.checkGap(psn, now) {
		return
	}
	w := q.sq.at(q.sq.head)
	if w.info.explicit && w.psn != psn && !psn.In(w.psn, int(w.npkts)) {
		return
	}
	q.failHead(st, c, psn)
}

// checkGap sees whether an acknowledgement of what comes before psn leaves a READ
// or atomic without its response: then that is asked for again, at once, once.
func (q *QP) checkGap(psn roce.PSN, now int64) bool {
	r, s := &q.req, &q.sq
	if q.state == Err || s.head == s.tail {
		return false
	}
	w := s.at(s.head)
	if !w.started || !w.info.explicit || !psn.After(w.psn.Add(int(w.got))) {
		return false
	}
	if !r.wentBack && !q.dev.opts.LikeRxe {
		q.count.ImpliedNaks++
		r.wentBack = true
		q.goBack()
	}
	return true
}

// responded takes a response with data.
func (q *QP) responded(p *rxPacket, psn roce.PSN, now int64) {
	r, s := &q.req, &q.sq
	// A response stands for everything before its request.
	i := s.head
	for ; i != s.tail && s.at(i).started; i++ {
		if w := s.at(i); psn.Before(w.psn.Add(int(w.npkts))) && w.npkts > 0 {
			break
		}
	}
	if i == s.tail || !s.at(i).started {
		q.count.Dropped++
		return
	}
	w := s.at(i)
	if !w.info.explicit {
		q.badResponse(psn)
		return
	}
	q.ackTo(w.psn, now)
	if q.state == Err {
		return
	}
	expect := w.psn.Add(int(w.got))
	switch {
	case psn.Before(expect): // a repeated one
		q.count.Dropped++
		return
	case s.at(s.head) != w || psn.After(expect):
		q.checkGap(psn, now)
		return
	}
	if !q.fits(w, p) {
		q.badResponse(psn)
		return
	}
	if ok := q.deliver(w, p); !ok {
		q.failHead(LocProtErr, CauseLKey, psn)
		return
	}
	w.got++
	// The cursor may stand on this very message, to ask for the rest again.
	if s.next == s.head {
		if w.got == w.npkts {
			q.advance()
		} else {
			r.psn = w.psn.Add(int(w.got))
		}
	}
	if w.got == w.npkts && w.psn.Add(int(w.npkts)).After(r.acked) {
		r.acked = w.psn.Add(int(w.npkts))
	}
	q.reap(now)
}

// fits tells whether a response is of the kind and size that the request needs.
// READ may go on with FIRST, MIDDLE or LAST where it was interrupted: IBTA says
// FIRST or ONLY, rxe's responder goes on as if nothing had happened.
func (q *QP) fits(w *sendWQE, p *rxPacket) bool {
	info := p.Info()
	switch w.op {
	case WRCompareSwap, WRFetchAdd:
		return info.Op == roce.OpAtomicAck
	case WRFlush, WRAtomicWrite:
		return info.Op == roce.OpReadResponse && info.Part == roce.Only && len(p.Payload) == 0
	}
	off := uint64(w.got) * uint64(q.mtu)
	last := w.got == w.npkts-1
	return info.Op == roce.OpReadResponse && uint64(len(p.Payload)) == min(uint64(w.length)-off, uint64(q.mtu)) &&
		(info.Part&roce.Last != 0) == last
}

// deliver writes a response to the message's memory.
func (q *QP) deliver(w *sendWQE, p *rxPacket) bool {
	switch w.op {
	case WRRead:
		return q.scatter(q.pd, w.sges, uint64(w.got)*uint64(q.mtu), p.Payload)
	case WRCompareSwap, WRFetchAdd:
		var b [roce.AtomicLen]byte
		putNative(b[:], p.AtomicAckETH().Original())
		return q.scatter(q.pd, w.sges, 0, b[:])
	}
	return true
}

func (q *QP) badResponse(psn roce.PSN) {
	q.count.BadResponses++
	q.failHead(BadRespErr, CauseResponse, psn)
}
