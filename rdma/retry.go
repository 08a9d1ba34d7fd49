package rdma

import (
	"time"

	"taproom/rdma/roce"
)

// startTimer starts the acknowledgement timer. Time-out code 0 means none.
func (q *QP) startTimer(now int64) {
	t := roce.AckTimeout(q.attr.Timeout)
	if t == 0 {
		return
	}
	q.req.retryAt = now + int64(t)
	q.arm(q.req.retryAt)
}

// wake is called when the entry of the queue pair in the timer heap is due.
func (q *QP) wake(at, now int64) {
	q.mu.Lock()
	if at != q.armedAt || q.dead {
		q.mu.Unlock()
		return
	}
	q.armedAt, q.now = 0, now
	r := &q.req
	due := r.rnrAt != 0 && now >= r.rnrAt || q.cong.paced && q.cong.ready(now)
	if r.retryAt != 0 && now >= r.retryAt {
		r.retryAt, due = 0, true
		q.timeout(now)
	}
	if r.probe.at != 0 && now >= r.probe.at {
		due = true
		q.sendProbe()
	}
	next := int64(0)
	for _, t := range [...]int64{r.retryAt, r.rnrAt, r.probe.at, q.cong.wakeAt(now)} {
		if t > now && (next == 0 || t < next) {
			next = t
		}
	}
	if next != 0 {
		q.arm(next)
	}
	q.mu.Unlock()
	if due {
		q.kick()
	}
}

// timeout is the acknowledgement timer's end: nothing has been heard.
func (q *QP) timeout(now int64) {
	if q.state != RTS && q.state != SQD || q.req.una == q.req.max {
		return
	}
	q.count.Timeouts++
	q.retry(now, CauseNoAnswer)
}

// retry uses up a retry and goes back to the first packet that is not done, or
// ends the queue pair if there is none left (IBTA 9.9.2.1.2).
func (q *QP) retry(now int64, c Cause) {
	r := &q.req
	if r.retries == 0 {
		q.count.RetryExceeded++
		q.failHead(RetryExcErr, c, r.una)
		return
	}
	r.retries--
	q.count.CompleterRetry++
	// A NAK that comes again for the same PSN is a copy; after a time-out a new
	// one may be about the repetition.
	r.wentBack = c == CauseNakSequence
	q.goBack()
}

// goBack moves the cursor to una.
func (q *QP) goBack() {
	r, s := &q.req, &q.sq
	s.next = s.head
	r.pkt, r.psn = 0, r.una
	if s.head != s.tail {
		if w := s.at(s.head); w.started && !w.info.local && !w.info.explicit {
			r.pkt = uint32(r.una.Sub(w.psn))
		}
	}
	r.sinceAck, r.msgsNoAck = 0, 0
	r.probe.cancel()
	r.retryAt = 0 // the first packet sent starts it
}

// rnrWait is what an RNR NAK demands: go back to the message, wait.
func (q *QP) rnrWait(code uint8, psn roce.PSN, now int64) {
	r := &q.req
	if r.rnrAt > now { // a copy of the NAK that is waited for
		return
	}
	if q.attr.RNRRetry != 7 {
		if r.rnrRetries == 0 {
			q.count.RNRRetryExceeded++
			q.failHead(RNRRetryExcErr, CauseRNR, psn)
			return
		}
		r.rnrRetries--
	}
	q.goBack()
	r.retryAt = 0
	r.rnrAt = now + int64(roce.RNRDelay(code))
	q.arm(r.rnrAt)
}

// Bound is the longest time a work request of n bytes can take from the moment
// it is the oldest until it completes, whatever the network does: each of its
// packets may need all retries before it gets through, and after each RNR NAK
// the waiting time of the peer's code, at most 655.36 ms. ok is false where the
// attributes set no bound: time-out code 0, or RNR retry count 7.
func (q *QP) Bound(n int) (d time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.typ != RC {
		return 0, true
	}
	t := roce.AckTimeout(q.attr.Timeout)
	packets := time.Duration(1)
	if q.mtu > 0 {
		packets = time.Duration(q.packets(uint32(n)))
	}
	tries := t * time.Duration(q.attr.RetryCnt+1)
	waits := time.Duration(q.attr.RNRRetry) * (roce.RNRDelay(0) + tries)
	return packets * (tries + waits), t != 0 && q.attr.RNRRetry != 7
}
