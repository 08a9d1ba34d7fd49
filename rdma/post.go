package rdma

import (
	"syscall"

	"taproom/rdma/roce"
)

// PostSend posts work requests and transmits what may go, on this goroutine. It
// returns how many were taken, and the error of the next one: EINVAL for one
// that makes no sense, ENOMEM when the queue is full.
func (q *QP) PostSend(wrs ...SendWR) (int, error) {
	q.mu.Lock()
	n := 0
	var err error
	for ; n < len(wrs); n++ {
		if err = q.pushSendLocked(&wrs[n]); err != nil {
			break
		}
	}
	flush := q.state == Err || q.state == SQE
	if flush {
		q.flushSendLocked()
	}
	q.mu.Unlock()
	if n > 0 && !flush {
		q.kick()
	}
	return n, err
}

func (q *QP) pushSendLocked(wr *SendWR) error {
	const verb = "post_send"
	info := wr.Opcode.info()
	switch {
	case q.dead:
		return invalid(verb, "qp %#x is gone", q.num)
	case q.state < RTS:
		return invalid(verb, "qp %#x is in %v", q.num, q.state)
	case info == nil || info.types&(1<<q.typ) == 0:
		return invalid(verb, "qp %#x: %v is nothing for %v", q.num, wr.Opcode, q.typ)
	case q.sq.full():
		return fail(verb, syscall.ENOMEM, "qp %#x: the send queue holds %d", q.num, len(q.sq.ring))
	case len(wr.SGList) > q.sq.maxSGE:
		return invalid(verb, "qp %#x: %d SGEs, the most is %d", q.num, len(wr.SGList), q.sq.maxSGE)
	}
	sges, data := q.sq.memory(q.sq.tail)
	w := q.sq.at(q.sq.tail)
	*w = sendWQE{
		id: wr.ID, info: info, op: wr.Opcode, flags: wr.Flags, imm: wr.Imm, raddr: wr.RemoteAddr, rkey: wr.RKey,
		cmpAdd: wr.CompareAdd, swap: wr.Swap, place: wr.Placement, sel: wr.Selectivity,
	}
	if wr.Opcode == WRSendInv || wr.Opcode == WRLocalInv {
		w.imm = wr.InvKey
	}
	var err error
	if wr.Flags&Inline != 0 {
		err = q.inlineLocked(w, wr, data)
	} else {
		var total uint64
		for i := range wr.SGList {
			total += uint64(wr.SGList[i].Length)
		}
		w.sges = sges[:copy(sges, wr.SGList)]
		if total > uint64(q.dev.limits.MaxMsgSize) {
			return invalid(verb, "qp %#x: %v of %d bytes, the most is %d", q.num, wr.Opcode, total, q.dev.limits.MaxMsgSize)
		}
		w.length = uint32(total)
	}
	if err == nil {
		err = q.checkSendLocked(w, wr)
	}
	if err == nil {
		q.sq.tail++
	}
	return err
}

// inlineLocked takes the bytes of an inline request.
func (q *QP) inlineLocked(w *sendWQE, wr *SendWR, data []byte) error {
	const verb = "post_send"
	if !w.info.inline {
		return invalid(verb, "qp %#x: %v cannot be inline", q.num, wr.Opcode)
	}
	w.inline = true
	if wr.Inline != nil {
		if len(wr.Inline) > len(data) {
			return invalid(verb, "qp %#x: %d bytes inline, the most is %d", q.num, len(wr.Inline), len(data))
		}
		w.data = data[:copy(data, wr.Inline)]
		w.length = uint32(len(w.data))
		return nil
	}
	n := 0
	for _, s := range wr.SGList {
		if int(s.Length) > len(data)-n {
			return invalid(verb, "qp %#x: more than %d bytes inline", q.num, len(data))
		}
		r := q.dev.local(q.pd, s.LKey, s.Addr, uint64(s.Length), 0)
		if r == nil {
			return invalid(verb, "qp %#x: inline from %#x+%d: lkey %#x does not hold", q.num, s.Addr, s.Length, s.LKey)
		}
		if _, ok := r.copyOut(data[n:n+int(s.Length)], s.Addr, 0); !ok {
			return fail(verb, syscall.EFAULT, "qp %#x: inline from %#x+%d: the memory is gone", q.num, s.Addr, s.Length)
		}
		n += int(s.Length)
	}
	w.data = data[:n]
	w.length = uint32(n)
	return nil
}

// checkSendLocked finds what verbs refuse at once.
func (q *QP) checkSendLocked(w *sendWQE, wr *SendWR) error {
	const verb = "post_send"
	switch wr.Opcode {
	case WRCompareSwap, WRFetchAdd, WRAtomicWrite:
		if w.length != roce.AtomicLen {
			return invalid(verb, "qp %#x: %v of %d bytes", q.num, wr.Opcode, w.length)
		}
		if wr.RemoteAddr%roce.AtomicLen != 0 {
			return invalid(verb, "qp %#x: %v at %#x, not a multiple of 8", q.num, wr.Opcode, wr.RemoteAddr)
		}
	case WRFlush:
		if wr.Placement == 0 || wr.Placement&^(roce.PlaceVisible|roce.PlacePersistent) != 0 || wr.Selectivity > roce.SelectRegion {
			return invalid(verb, "qp %#x: FLUSH of placement %d, selectivity %d", q.num, wr.Placement, wr.Selectivity)
		}
		w.sges, w.length = w.sges[:0], wr.FlushLength
	case WRBindMW:
		if wr.MW == nil || wr.MW.pd.dev != q.dev || wr.Bind.Length > 0 && wr.Bind.MR == nil {
			return invalid(verb, "qp %#x: BIND_MW needs a window and a region of device %s", q.num, q.dev.name)
		}
		w.mw, w.bind, w.newKey = wr.MW, wr.Bind, wr.NewRKey
	case WRRegMR:
		if wr.MR == nil || wr.MR.pd.dev != q.dev {
			return invalid(verb, "qp %#x: REG_MR needs a region of device %s", q.num, q.dev.name)
		}
		w.mr, w.newKey, w.access = wr.MR, wr.NewRKey, wr.Access
	}
	if q.typ == UD || q.typ == GSI {
		return q.checkDatagramLocked(w, wr)
	}
	if n := q.packets(w.length); n >= 1<<23 {
		return invalid(verb, "qp %#x: %v of %d packets", q.num, wr.Opcode, n)
	}
	return nil
}

func (q *QP) checkDatagramLocked(w *sendWQE, wr *SendWR) error {
	const verb = "post_send"
	switch {
	case wr.AH == nil || wr.AH.dead.Load() || wr.AH.pd.dev != q.dev:
		return invalid(verb, "qp %#x: a datagram needs an address handle", q.num)
	case wr.AH.pd != q.pd:
		return invalid(verb, "qp %#x: the address handle is of another domain", q.num)
	case int(w.length) > q.datagramMTU():
		return invalid(verb, "qp %#x: a datagram of %d bytes, the most is %d", q.num, w.length, q.datagramMTU())
	case wr.RemoteQPN > roce.PSNMask:
		return invalid(verb, "qp %#x: remote QPN %#x", q.num, wr.RemoteQPN)
	}
	if w.ep = wr.AH.endpoint(q.srcPort); w.ep == nil {
		return fail(verb, syscall.ENETUNREACH, "qp %#x: the address handle leads nowhere any more", q.num)
	}
	w.rqpn, w.rqkey = wr.RemoteQPN, wr.RemoteQKey
	if w.rqkey>>31 != 0 && q.typ != GSI {
		w.rqkey = q.attr.QKey // IBTA 10.2.5: a controlled Q_Key cannot be given by a program
	}
	return nil
}

// datagramMTU is the most bytes of a datagram: the port's active MTU.
func (q *QP) datagramMTU() int { return roce.MTUFor(q.dev.info.Load().MTU).Bytes() }

// packets is how many packets a message takes on this queue pair.
func (q *QP) packets(n uint32) uint32 {
	if n == 0 {
		return 1
	}
	return uint32((uint64(n) + uint64(q.mtu) - 1) / uint64(q.mtu))
}

// PostRecv posts receives; it returns how many were taken, and the error of the
// next one.
func (q *QP) PostRecv(wrs ...RecvWR) (int, error) {
	const verb = "post_recv"
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.dead || q.state == Reset:
		return 0, invalid(verb, "qp %#x is in RESET", q.num)
	case q.srq != nil:
		return 0, invalid(verb, "qp %#x takes its receives from srq %d", q.num, q.srq.id)
	}
	for i := range wrs {
		if err := q.rq.push(&wrs[i]); err != nil {
			return i, fail(verb, err.(syscall.Errno), "qp %#x: %d SGEs of %d, %d receives of %d", q.num, len(wrs[i].SGList), q.rq.maxSGE, q.rq.len(), len(q.rq.ring))
		}
	}
	if q.state == Err {
		q.flushRecvLocked()
	}
	return len(wrs), nil
}
