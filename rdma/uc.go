package rdma

import "taproom/rdma/roce"

// respondUC takes a request on a UC queue pair. Nothing is acknowledged: a
// message with a packet missing is dropped, its receive used for the next one,
// and the next FIRST or ONLY is taken whatever came before (IBTA 9.8.2.2). A
// packet from behind is a late or doubled one and is dropped, so that no message
// is delivered twice; rxe takes it for a new one.
func (q *QP) respondUC(x *rxPacket) {
	r, info := &q.resp, x.Info()
	psn := x.BTH.PSN()
	switch d := psn.Sub(r.psn); {
	case d < 0 && !q.dev.opts.LikeRxe:
		q.count.DuplicateRequest++
		return
	case d != 0:
		q.count.OutOfSeqRequest++
		r.op, r.lost = roce.OpNone, true
	}
	r.psn = psn.Next()
	first := info.Part&roce.First != 0
	if first {
		r.op, r.lost = roce.OpNone, false
	} else if r.lost || r.op != info.Op {
		q.dropUC()
		return
	}
	if !q.sizeOK(info, len(x.Payload)) {
		q.dropUC()
		return
	}
	switch info.Op {
	case roce.OpSend:
		q.takeSendUC(x, psn, first)
	case roce.OpWrite:
		q.takeWriteUC(x, psn, first)
	}
}

// dropUC gives the message up; what follows of it is ignored.
func (q *QP) dropUC() {
	q.count.Dropped++
	q.resp.op, q.resp.lost = roce.OpNone, true
}

func (q *QP) takeSendUC(x *rxPacket, psn roce.PSN, first bool) {
	r, info := &q.resp, x.Info()
	if first {
		if !q.needWQE(psn) {
			q.dropUC()
			return
		}
		r.op, r.off = roce.OpSend, 0
	}
	if why := q.fill(x.Payload); why != nil {
		q.refuse(why, psn) // the queue pair is in error, as with rxe
		return
	}
	if info.Part&roce.Last != 0 && q.finishSend(x, psn) {
		q.endUC()
	}
}

func (q *QP) takeWriteUC(x *rxPacket, psn roce.PSN, first bool) {
	r, info := &q.resp, x.Info()
	if first {
		h := x.RETH()
		r.op, r.va, r.rkey, r.left = roce.OpWrite, h.VA(), h.RKey(), uint64(h.Length())
		r.total = r.left
	}
	n := uint64(len(x.Payload))
	last := info.Part&roce.Last != 0
	if q.attr.Access&RemoteWrite == 0 || last && n != r.left || !last && n >= r.left || info.Imm && !q.needWQE(psn) {
		q.dropUC()
		return
	}
	if r.left > 0 {
		m := q.remote(r.rkey, r.va, r.left, RemoteWrite)
		if m == nil {
			q.dropUC() // IBTA 9.8.3: silently
			return
		}
		if !m.copyIn(r.va, x.Payload) {
			q.refuse(&refuseFault, psn)
			return
		}
	}
	r.va, r.left = r.va+n, r.left-n
	if !last {
		return
	}
	if info.Imm {
		wc := WC{Opcode: WCRecvImm, ByteLen: uint32(r.total), Imm: x.ImmDt().Value(), Flags: WCGRH | WCWithImm}
		if !q.finishRecv(&wc, x, psn) {
			return
		}
	}
	q.endUC()
}

func (q *QP) endUC() {
	q.resp.op = roce.OpNone
	q.resp.msn++
}
