package rdma

import (
	"sync"
	"sync/atomic"

	"taproom/rdma/roce"
)

// Requests with a response of their own: READ, atomics, ATOMIC WRITE, FLUSH; and
// requests that come again.

// save notes an operation for the case that it is asked for again; the oldest of
// max_dest_rd_atomic is forgotten. A peer that has more under way than it was
// told is refused: its oldest answer has not gone yet.
func (q *QP) save(op savedOp) *refusal {
	r := &q.resp
	if len(r.saved) == 0 {
		return &refuseInvalid
	}
	s := &r.saved[r.next]
	if s.used && s.last >= r.head && s.last < r.tail {
		if !s.again {
			return &refuseInvalid
		}
		// A repetition that nobody waits for any more: the peer could not have
		// sent this request without having had the answer.
		r.queue[s.last%uint64(len(r.queue))].kind = ansNone
	}
	op.used, op.last = true, r.tail
	*s = op
	if r.next++; r.next == len(r.saved) {
		r.next = 0
	}
	return nil
}

// done moves on behind an explicit request of n PSNs.
func (q *QP) done(psn roce.PSN, n int) {
	r := &q.resp
	r.psn = psn.Add(n)
	r.msn = (r.msn + 1) & roce.PSNMask
}

func (q *QP) takeRead(x *rxPacket, psn roce.PSN) {
	h := x.RETH()
	n := uint64(h.Length())
	if q.attr.Access&RemoteRead == 0 || n > 1<<31 || len(q.resp.saved) == 0 {
		q.refuse(&refuseInvalid, psn)
		return
	}
	if n > 0 && q.remote(h.RKey(), h.VA(), n, RemoteRead) == nil {
		q.refuse(&refuseAccess, psn)
		return
	}
	npkts := int(q.packets(uint32(n)))
	if why := q.save(savedOp{op: roce.OpReadRequest, psn: psn, npkts: npkts}); why != nil {
		q.refuse(why, psn)
		return
	}
	q.done(psn, npkts)
	q.answer(answer{kind: ansRead, psn: psn, npkts: npkts, va: h.VA(), rkey: h.RKey(), left: n, first: true})
}

// atomics is held where the machine cannot do an atomic operation on memory that
// is not aligned; never on the usual path.
var atomics sync.Mutex

func (q *QP) takeAtomic(x *rxPacket, psn roce.PSN) {
	h := x.AtomicETH()
	va := h.VA()
	if q.attr.Access&RemoteAtomic == 0 || va%roce.AtomicLen != 0 || len(q.resp.saved) == 0 {
		q.refuse(&refuseInvalid, psn)
		return
	}
	m := q.remote(h.RKey(), va, roce.AtomicLen, RemoteAtomic)
	if m == nil {
		q.refuse(&refuseAccess, psn)
		return
	}
	var orig uint64
	add := x.Info().Op == roce.OpFetchAdd
	ok := true
	if p := m.word(va); p != nil && m.guard {
		orig, ok = guardedAtomic(p, add, h.SwapAdd(), h.Compare())
	} else if p != nil {
		orig = onWord(p, add, h.SwapAdd(), h.Compare())
	} else {
		atomics.Lock()
		var b [roce.AtomicLen]byte
		_, ok = m.copyOut(b[:], va, 0)
		orig = getNative(b[:])
		switch {
		case add:
			putNative(b[:], orig+h.SwapAdd())
		case orig == h.Compare():
			putNative(b[:], h.SwapAdd())
		}
		ok = ok && m.copyIn(va, b[:])
		atomics.Unlock()
	}
	if !ok {
		q.refuse(&refuseFault, psn)
		return
	}
	if why := q.save(savedOp{op: x.Info().Op, psn: psn, npkts: 1, orig: orig}); why != nil {
		q.refuse(why, psn)
		return
	}
	q.done(psn, 1)
	q.answer(answer{kind: ansAtomic, psn: psn, npkts: 1, orig: orig})
}

// onWord does the operation with the processor's own atomics, so that it is
// atomic to the program as well, which is more than verbs promise.
func onWord(p *uint64, add bool, swapAdd, compare uint64) uint64 {
	if add {
		return atomic.AddUint64(p, swapAdd) - swapAdd
	}
	for {
		v := atomic.LoadUint64(p)
		if v != compare || atomic.CompareAndSwapUint64(p, v, swapAdd) {
			return v
		}
	}
}

func (q *QP) takeAtomicWrite(x *rxPacket, psn roce.PSN) {
	h := x.RETH()
	if q.attr.Access&RemoteWrite == 0 || len(x.Payload) != roce.AtomicLen || h.Length() != roce.AtomicLen || h.VA()%roce.AtomicLen != 0 {
		q.refuse(&refuseInvalid, psn)
		return
	}
	m := q.remote(h.RKey(), h.VA(), roce.AtomicLen, RemoteWrite)
	if m == nil {
		q.refuse(&refuseAccess, psn)
		return
	}
	// The payload is stored as it is: eight bytes, whole.
	if p := m.word(h.VA()); p != nil && !m.guard {
		atomic.StoreUint64(p, getNative(x.Payload))
	} else if !m.copyIn(h.VA(), x.Payload) {
		q.refuse(&refuseFault, psn)
		return
	}
	q.done(psn, 1)
	q.answer(answer{kind: ansDone, psn: psn, npkts: 1})
}

// takeFlush makes what earlier WRITEs brought visible, or persistent. Visible it
// is already when the request comes, as they were carried out in order.
func (q *QP) takeFlush(x *rxPacket, psn roce.PSN) {
	f, h := x.FETH(), x.RETH()
	var need Access
	if f.Placement()&roce.PlaceVisible != 0 {
		need |= FlushGlobal
	}
	if f.Placement()&roce.PlacePersistent != 0 {
		need |= FlushPersistent
	}
	if need == 0 || q.attr.Access&need != need || f.Selectivity() > roce.SelectRegion {
		q.refuse(&refuseInvalid, psn)
		return
	}
	va, n := h.VA(), uint64(h.Length())
	if f.Selectivity() == roce.SelectRegion {
		if m := q.dev.keys.get(int(h.RKey() >> 8)); m != nil {
			va, n = m.va, m.n
		}
	}
	m := q.remote(h.RKey(), va, n, need)
	if m == nil {
		q.refuse(&refuseAccess, psn)
		return
	}
	if need&FlushPersistent != 0 {
		for n > 0 {
			b := m.at(va, n)
			if m.mr.sync == nil || m.mr.sync(b) != nil {
				q.refuse(&refuseSync, psn)
				return
			}
			va, n = va+uint64(len(b)), n-uint64(len(b))
		}
	}
	q.done(psn, 1)
	q.answer(answer{kind: ansDone, psn: psn, npkts: 1})
}

// duplicate answers a request that was carried out before (IBTA 9.7.5.1.5).
func (q *QP) duplicate(x *rxPacket, psn roce.PSN) {
	r, info := &q.resp, x.Info()
	switch info.Answer {
	case roce.AnswerAck:
		// The last one in order stands for all before it.
		q.answer(answer{kind: ansAck, psn: r.psn.Add(-1), syndrome: roce.AckNoCredits})
	case roce.AnswerReadOnly:
		q.answer(answer{kind: ansDone, psn: psn, npkts: 1})
	case roce.AnswerAtomic:
		if s := r.find(psn); s != nil && s.op == info.Op && s.psn == psn {
			q.answer(answer{kind: ansAtomic, psn: psn, npkts: 1, orig: s.orig})
		}
	case roce.AnswerRead:
		q.readAgain(x, psn)
	}
}

// find returns the saved operation that a PSN belongs to.
func (r *responder) find(psn roce.PSN) *savedOp {
	for i := range r.saved {
		if s := &r.saved[i]; s.used && psn.In(s.psn, s.npkts) {
			return s
		}
	}
	return nil
}

// readAgain answers a repeated READ, the whole or the rest of it, from memory as
// it is now. If the answer is still on its way, it is wound back.
func (q *QP) readAgain(x *rxPacket, psn roce.PSN) {
	r, h := &q.resp, x.RETH()
	s := r.find(psn)
	n := uint64(h.Length())
	if s == nil || s.op != roce.OpReadRequest || n > 1<<31 {
		return
	}
	npkts := int(q.packets(uint32(n)))
	if psn.Add(npkts) != s.psn.Add(s.npkts) {
		return // not the rest of what was asked for
	}
	if n > 0 && q.remote(h.RKey(), h.VA(), n, RemoteRead) == nil {
		q.refuse(&refuseAccess, psn)
		return
	}
	// IBTA starts again with FIRST or ONLY; rxe does so at the first packet only.
	first := psn == s.psn || !q.dev.opts.LikeRxe
	a := answer{kind: ansRead, psn: psn, npkts: npkts, va: h.VA(), rkey: h.RKey(), left: n, first: first}
	if !r.idle() {
		if c := &r.queue[r.head%uint64(len(r.queue))]; c.kind == ansRead && c.psn.In(s.psn, s.npkts) && psn.Before(c.psn) {
			a.msn = r.msn
			*c = a
			return
		} else if c.kind == ansRead && c.psn == psn && !q.dev.opts.LikeRxe {
			return // it is about to be sent anyway
		}
	}
	if s.last < r.head || s.last >= r.tail {
		s.last, s.again = r.tail, true
	}
	q.answer(a)
}
