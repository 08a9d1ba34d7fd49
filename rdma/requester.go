package rdma

import (
	"encoding/binary"

	"taproom/rdma/roce"
)

// The requester, the sending half of a queue pair, walks the send queue with a
// cursor: position sq.next, and in it packet pkt. A retransmission only moves the
// cursor back; what lies between the cursor and the furthest PSN ever sent is
// sent again, READs from their first missing response.
//
// PSNs, in order round the circle:
//
//	una            acked        psn           max
//	first not      first not    of the        first never
//	completed      acknowledged cursor        sent
//
// una and acked differ where an ACK came for something behind a READ or an atomic
// whose own response is missing.

// Packets between acknowledgement requests.
const (
	ackEveryPackets  = 64 // of one long message; rxe sets AckReq on every 66th
	ackEveryMessages = 16 // of a train of short ones, when coalescing
)

type requester struct {
	pkt   uint32   // packet of the message at sq.next
	psn   roce.PSN // of that packet
	free  roce.PSN // first PSN no message has
	una   roce.PSN
	acked roce.PSN
	max   roce.PSN

	reads      int // explicit responses under way (max_rd_atomic)
	sinceAck   int // packets since the last AckReq
	msgsNoAck  int
	retries    uint8
	rnrRetries uint8
	retryAt    int64 // of the acknowledgement timer, 0: not running
	rnrAt      int64 // not before this, 0: no wait
	probe      probe
	wentBack   bool // to una, because of a NAK or a gap; no second time before a time-out
	drained    bool
	full       bool // the window was, and is not half empty yet
}

func (r *requester) start(psn roce.PSN) {
	*r = requester{psn: psn, free: psn, una: psn, acked: psn, max: psn, retries: r.retries, rnrRetries: r.rnrRetries}
}

// idle stops all timers.
func (r *requester) idle() { r.retryAt, r.rnrAt, r.probe.at = 0, 0, 0 }

// requestOne sends the next request packet, if one may go. It returns true as
// well when it did local work instead.
func (q *QP) requestOne(now int64) bool {
	r, s := &q.req, &q.sq
	for {
		if s.next == s.tail || q.state != RTS && q.state != SQD {
			return false
		}
		w := s.at(s.next)
		if w.status != Success {
			return false // it waits to become the oldest
		}
		if q.state == SQD && !w.started {
			return false
		}
		if r.rnrAt != 0 {
			if now < r.rnrAt {
				return false
			}
			r.rnrAt = 0
		}
		if w.flags&Fence != 0 && !w.started && r.reads > 0 {
			return false
		}
		if !w.started {
			w.started, w.psn = true, r.free
			if !w.info.local {
				w.npkts = 1
				if q.connected() && w.info.many() {
					w.npkts = q.packets(w.length)
				}
				r.free = r.free.Add(int(w.npkts))
			}
			if w.info.local {
				return q.localWork(w)
			}
		}
		if w.info.local || w.info.explicit && w.got == w.npkts {
			q.advance() // passed again by a retransmission
			continue
		}
		if !w.info.explicit && r.acked.After(r.psn) {
			// The peer has this already; only a READ before it is asked for again.
			if k := r.acked.Sub(w.psn); k < int(w.npkts) {
				r.pkt, r.psn = uint32(k), r.acked
			} else {
				q.advance()
				continue
			}
		}
		if q.typ == RC && q.windowShut() {
			return false
		}
		if q.cong.paced && !q.cong.ready(now) {
			q.arm(q.cong.wakeAt(now))
			return false
		}
		return q.sendPacket(w, now)
	}
}

// windowShut tells whether the cursor has to wait for the window. Once full, it
// opens when half of it is free: one packet for each ACK, each with an ACK of its
// own, would go alone for ever after, where 15 or 60 could go as one frame (the
// silly window of TCP, RFC 813). The packet that fills it asks for an ACK, so
// that it does open.
func (q *QP) windowShut() bool {
	r := &q.req
	switch under := r.psn.Sub(r.una); {
	case under >= q.window:
		r.full = true
	case under <= q.window/2 || q.dev.opts.LikeRxe:
		r.full = false
	}
	return r.full
}

// advance moves the cursor to the next message.
func (q *QP) advance() {
	q.sq.next++
	q.req.pkt = 0
	if q.sq.next == q.sq.tail || !q.sq.at(q.sq.next).started {
		q.req.psn = q.req.free
		return
	}
	w := q.sq.at(q.sq.next)
	q.req.psn = w.psn
	if w.info.explicit {
		q.req.psn = w.psn.Add(int(w.got))
	}
}

// sendPacket sends packet r.pkt of w: false if it may not go yet.
func (q *QP) sendPacket(w *sendWQE, now int64) bool {
	r := &q.req
	if w.info.explicit {
		r.psn = w.psn.Add(int(w.got))
		fresh := !r.psn.Before(r.max)
		if q.attr.MaxRdAtomic == 0 {
			q.halt(w, LocQPOpErr, CauseRdAtomicZero)
			return false
		}
		if fresh {
			if r.reads >= int(q.attr.MaxRdAtomic) {
				return false
			}
			r.reads++
		}
		q.sendExplicit(w, now)
	} else if !q.sendPart(w, now) {
		return false
	}
	if q.typ == RC && r.probe.at == 0 {
		q.startProbe(now) // first: it is the earlier one, and then the only one in the heap
	}
	if q.typ == RC && r.retryAt == 0 {
		q.startTimer(now)
	}
	if q.typ != RC && q.sq.next != q.sq.head {
		q.reap(now) // unreliable messages are complete when they are sent
	}
	return true
}

// sendPart sends a packet of a SEND or WRITE.
func (q *QP) sendPart(w *sendWQE, now int64) bool {
	r := &q.req
	off := uint64(r.pkt) * uint64(q.mtu)
	n := uint64(w.length) - off
	if q.connected() {
		n = min(n, uint64(q.mtu))
	}
	first, last := r.pkt == 0, r.pkt == w.npkts-1
	op := w.info.middle
	switch {
	case first && last:
		op = w.info.only
	case first:
		op = w.info.first
	case last:
		op = w.info.last
	}
	ep, qpn := q.ep, q.attr.DestQPN
	switch q.typ {
	case UC:
		op |= 0x20
	case UD, GSI:
		op, ep, qpn = roce.UDSendOnly, w.ep, w.rqpn
		if w.op == WRSendImm {
			op = roce.UDSendOnlyImm
		}
	}
	more := !last || q.sq.next+1 != q.sq.tail
	ackReq := q.typ == GSI || q.typ == RC && q.wantAck(last)
	b := q.begin(ep, op, qpn, r.psn, ackReq, last && w.flags&Solicited != 0 && w.wakes(), int(n), more)
	ext := q.putExtension(b, w, op)
	hdr := roce.BTHLen + ext
	sum, ok := q.gather(w, off, b[hdr:hdr+int(n)], q.seed(b, ext))
	if !ok {
		q.out.abandon(len(b))
		q.halt(w, LocProtErr, CauseLKey)
		return false
	}
	q.end(b, sum, now)
	q.cong.sent(len(b), now)
	if ackReq {
		r.probe.measure(r.psn, !r.psn.Before(r.max), now)
	}
	r.pkt++
	r.psn = r.psn.Next()
	if r.psn.After(r.max) {
		r.max = r.psn
	}
	if last {
		q.advance()
	}
	return true
}

// wakes tells whether the message takes a receive: only then SOLICITED means
// anything.
func (w *sendWQE) wakes() bool { return w.info.send || w.op == WRWriteImm }

// wantAck decides on AckReq for the packet at the cursor.
func (q *QP) wantAck(last bool) bool {
	r := &q.req
	r.sinceAck++
	ask := last && r.psn.Before(r.max) // a repetition must not wait for what may not follow
	switch {
	case q.dev.opts.LikeRxe:
		ask = last || r.sinceAck > ackEveryPackets+1
	case last:
		// The train goes on: a later packet asks for this one too. It stops at
		// the end of the queue, at the window and at whatever waits for answers.
		r.msgsNoAck++
		nextPSN := r.psn.Next()
		ask = ask || r.msgsNoAck >= ackEveryMessages || q.sq.next+1 == q.sq.tail || nextPSN.Sub(r.una) >= q.window-1 ||
			q.state != RTS || q.cong.paced || q.sq.at(q.sq.next+1).pauses()
	default:
		ask = r.sinceAck >= ackEveryPackets || r.psn.Next().Sub(r.una) >= q.window
	}
	if ask {
		r.sinceAck, r.msgsNoAck = 0, 0
	}
	return ask
}

// pauses tells whether the message may have to wait for answers to others.
func (w *sendWQE) pauses() bool {
	return w.info.explicit || w.info.local || w.flags&Fence != 0
}

// putExtension writes the extension headers of a SEND or WRITE packet, and
// returns their length.
func (q *QP) putExtension(b []byte, w *sendWQE, op roce.Opcode) int {
	info := op.Info()
	ext := b[roce.BTHLen:]
	if info.Headers&roce.HasDETH != 0 {
		binary.BigEndian.PutUint32(ext, w.rqkey)
		binary.BigEndian.PutUint32(ext[4:], q.num)
		ext = ext[roce.DETHLen:]
	}
	if info.Headers&roce.HasRETH != 0 {
		putRETH(ext, w.raddr, w.rkey, w.length)
		ext = ext[roce.RETHLen:]
	}
	if info.Headers&(roce.HasImm|roce.HasIETH) != 0 {
		binary.BigEndian.PutUint32(ext, w.imm)
	}
	return int(info.ExtLen)
}

func putRETH(b []byte, va uint64, rkey, n uint32) {
	_ = b[roce.RETHLen-1]
	binary.BigEndian.PutUint64(b, va)
	binary.BigEndian.PutUint32(b[8:], rkey)
	binary.BigEndian.PutUint32(b[12:], n)
}

// gather copies payload from the message's memory into a packet.
func (q *QP) gather(w *sendWQE, off uint64, dst []byte, s roce.Sum) (roce.Sum, bool) {
	if len(dst) == 0 {
		return s, true
	}
	if w.inline {
		return s.Copy(dst, w.data[off:off+uint64(len(dst))]), true
	}
	for i := range w.sges {
		g := &w.sges[i]
		if off >= uint64(g.Length) {
			off -= uint64(g.Length)
			continue
		}
		n := min(uint64(g.Length)-off, uint64(len(dst)))
		// The whole SGE must hold, not just this piece: a message is refused at
		// its first packet, not in its middle.
		m := q.dev.local(q.pd, g.LKey, g.Addr, uint64(g.Length), 0)
		if m == nil {
			return s, false
		}
		var ok bool
		if s, ok = m.copyOut(dst[:n], g.Addr+off, s); !ok {
			return s, false
		}
		if dst = dst[n:]; len(dst) == 0 {
			return s, true
		}
		off = 0
	}
	return s, false
}

// halt notes a fault found here. It becomes the message's completion when all
// before it have completed.
func (q *QP) halt(w *sendWQE, st Status, c Cause) {
	w.status, w.cause = st, c
	q.reap(0)
}

// sendExplicit sends a request that has a response of its own.
func (q *QP) sendExplicit(w *sendWQE, now int64) {
	r := &q.req
	n := 0
	if w.op == WRAtomicWrite {
		n = roce.AtomicLen
	}
	b := q.begin(q.ep, w.info.only, q.attr.DestQPN, r.psn, true, false, n, q.sq.next+1 != q.sq.tail)
	r.sinceAck, r.msgsNoAck = 0, 0
	ext := b[roce.BTHLen:]
	extLen := w.info.only.HeaderLen() - roce.BTHLen
	switch w.op {
	case WRRead:
		done := uint64(w.got) * uint64(q.mtu)
		putRETH(ext, w.raddr+done, w.rkey, uint32(uint64(w.length)-done))
	case WRCompareSwap:
		roce.AtomicETH(ext).Encode(&roce.AtomicETHFields{VA: w.raddr, RKey: w.rkey, SwapAdd: w.swap, Compare: w.cmpAdd})
	case WRFetchAdd:
		roce.AtomicETH(ext).Encode(&roce.AtomicETHFields{VA: w.raddr, RKey: w.rkey, SwapAdd: w.cmpAdd})
	case WRFlush:
		roce.FETH(ext).Encode(&roce.FETHFields{Placement: w.place, Selectivity: w.sel})
		putRETH(ext[roce.FETHLen:], w.raddr, w.rkey, w.length)
	case WRAtomicWrite:
		putRETH(ext, w.raddr, w.rkey, roce.AtomicLen)
	}
	s := q.seed(b, extLen)
	if n > 0 {
		var ok bool
		if s, ok = q.gather(w, 0, ext[extLen:extLen+n], s); !ok {
			q.out.abandon(len(b))
			q.halt(w, LocProtErr, CauseLKey)
			return
		}
	}
	q.end(b, s, now)
	q.cong.sent(len(b), now)
	r.probe.measure(r.psn, !r.psn.Before(r.max), now)
	if end := w.psn.Add(int(w.npkts)); end.After(r.max) {
		r.max = end
	}
	q.advance()
}
