package rdma

import (
	"taproom/rdma/roce"
)

// Modify sets attributes and changes the state, as ibv_modify_qp does: the mask
// must hold what the change needs and nothing that it does not allow. Nothing
// has changed if it fails.
func (q *QP) Modify(a *QPAttr, mask AttrMask) error {
	const verb = "modify_qp"
	if mask&AttrState != 0 && (a.State == Reset || a.State == Err) {
		q.settle()
	}
	q.mu.Lock()
	next := q.state
	if mask&AttrState != 0 {
		next = a.State
	}
	if err := q.checkLocked(verb, a, mask, next); err != nil {
		q.mu.Unlock()
		return err
	}
	ep, port := q.ep, q.srcPort
	if mask&AttrUDPSrcPort != 0 {
		port = a.UDPSrcPort
	}
	av, dest := q.attr.AH, q.attr.DestQPN
	if mask&AttrAV != 0 {
		av = a.AH
	}
	if mask&AttrDestQPN != 0 {
		dest = a.DestQPN
	}
	if q.connected() && (mask&AttrAV != 0 || mask&AttrUDPSrcPort != 0 && ep != nil) {
		p := port
		if p == 0 {
			p = roce.RCPort(q.num, dest)
		}
		var err error
		if ep, err = q.dev.resolve(verb, &av, p); err != nil {
			q.mu.Unlock()
			return err
		}
	}
	q.ep, q.srcPort = ep, port
	q.applyLocked(a, mask)
	q.enterLocked(next, mask, a)
	q.mu.Unlock()
	q.kick()
	return nil
}

// checkLocked decides whether the change is legal; a is not written to.
func (q *QP) checkLocked(verb string, a *QPAttr, mask AttrMask, next QPState) error {
	cur := q.state
	if mask&AttrCurState != 0 && a.CurState != cur {
		return invalid(verb, "qp %#x is in %v, not in CUR_STATE %v", q.num, cur, a.CurState)
	}
	switch {
	case q.dead:
		return invalid(verb, "qp %#x is gone", q.num)
	case next > Err:
		return invalid(verb, "qp %#x: no state %d", q.num, uint8(next))
	case next == Reset || next == Err:
		if extra := mask &^ (AttrState | AttrCurState); extra != 0 {
			return invalid(verb, "qp %#x: %v to %v does not take %v", q.num, cur, next, extra)
		}
		return nil
	}
	t, ok := transitions[[2]QPState{cur, next}][q.typ]
	if !ok {
		return invalid(verb, "qp %#x: no way from %v to %v for %v", q.num, cur, next, q.typ)
	}
	if missing := t.need &^ mask; missing != 0 {
		return invalid(verb, "qp %#x: %v to %v needs %v", q.num, cur, next, missing)
	}
	if extra := mask &^ (t.need | t.may | AttrState | AttrCurState); extra != 0 {
		return invalid(verb, "qp %#x: %v to %v does not take %v", q.num, cur, next, extra)
	}
	return q.checkValues(verb, a, mask)
}

func (q *QP) checkValues(verb string, a *QPAttr, mask AttrMask) error {
	d := q.dev
	active := roce.MTUFor(d.info.Load().MTU)
	for _, c := range []struct {
		bit  AttrMask
		bad  bool
		v    any
		want string
	}{
		{AttrPKeyIndex, int(a.PKeyIndex) >= len(d.pkeys), a.PKeyIndex, "an index of the P_Key table"},
		{AttrPort, a.PortNum != 1, a.PortNum, "1"},
		{AttrAccess, a.Access&^(remoteAny|LocalWrite|BindMW) != 0, a.Access, "remote rights"},
		{AttrPathMTU, !a.PathMTU.Valid() || a.PathMTU > active, a.PathMTU, "256 to " + active.String() + " on this interface"},
		{AttrDestQPN, a.DestQPN > roce.PSNMask, a.DestQPN, "24 bits"},
		{AttrRQPSN, a.RQPSN > roce.PSNMask, a.RQPSN, "24 bits"},
		{AttrSQPSN, a.SQPSN > roce.PSNMask, a.SQPSN, "24 bits"},
		{AttrMaxRdAtomic, int(a.MaxRdAtomic) > d.limits.MaxRdAtomic, a.MaxRdAtomic, "the device's limit or less"},
		{AttrMaxDestRdAtomic, int(a.MaxDestRdAtomic) > d.limits.MaxRdAtomic, a.MaxDestRdAtomic, "the device's limit or less"},
		{AttrMinRNRTimer, a.MinRNRTimer > 31, a.MinRNRTimer, "0 to 31"},
		{AttrTimeout, a.Timeout > 31, a.Timeout, "0 to 31"},
		{AttrRetryCnt, a.RetryCnt > 7, a.RetryCnt, "0 to 7"},
		{AttrRNRRetry, a.RNRRetry > 7, a.RNRRetry, "0 to 7"},
	} {
		if mask&c.bit != 0 && c.bad {
			return invalid(verb, "qp %#x: %v is %v, should be %s", q.num, c.bit, c.v, c.want)
		}
	}
	return nil
}

// applyLocked takes over the attributes of the mask.
func (q *QP) applyLocked(a *QPAttr, mask AttrMask) {
	to := &q.attr
	set := func(bit AttrMask, f func()) {
		if mask&bit != 0 {
			f()
		}
	}
	set(AttrPathMTU, func() { to.PathMTU = a.PathMTU; q.mtu, q.window = a.PathMTU.Bytes(), q.dev.window(a.PathMTU) })
	set(AttrQKey, func() { to.QKey = a.QKey })
	set(AttrRQPSN, func() { to.RQPSN = a.RQPSN; q.resp.psn = a.RQPSN })
	set(AttrSQPSN, func() { to.SQPSN = a.SQPSN; q.req.start(a.SQPSN) })
	set(AttrDestQPN, func() { to.DestQPN = a.DestQPN })
	set(AttrAccess, func() { to.Access = a.Access })
	set(AttrAV, func() { to.AH = a.AH })
	set(AttrPKeyIndex, func() { to.PKeyIndex = a.PKeyIndex; q.pkey, q.out.flowEp = q.dev.pkeys[a.PKeyIndex], nil })
	set(AttrMaxRdAtomic, func() { to.MaxRdAtomic = a.MaxRdAtomic })
	set(AttrMaxDestRdAtomic, func() { to.MaxDestRdAtomic = a.MaxDestRdAtomic; q.resp.size(int(a.MaxDestRdAtomic)) })
	set(AttrMinRNRTimer, func() { to.MinRNRTimer = a.MinRNRTimer })
	set(AttrPort, func() { to.PortNum = a.PortNum })
	set(AttrTimeout, func() { to.Timeout = a.Timeout })
	set(AttrRetryCnt, func() { to.RetryCnt = a.RetryCnt; q.req.retries = a.RetryCnt })
	set(AttrRNRRetry, func() { to.RNRRetry = a.RNRRetry; q.req.rnrRetries = a.RNRRetry })
	set(AttrUDPSrcPort, func() { to.UDPSrcPort = a.UDPSrcPort })
}

// rxeWindow is how many packets rxe's requester has under way: it stops when the
// next one is more than 128 behind the oldest.
const rxeWindow = 129

// window is how many packets a requester may have under way: enough for the
// delay of a device between two sleeping processes (some 100 us) at 5 GB/s.
func (d *Device) window(m roce.MTU) int {
	n := rxeWindow
	if !d.opts.LikeRxe {
		n = max(n, 512<<10/m.Bytes())
	}
	return min(n, d.limits.MaxUnacked)
}

// enterLocked is what happens on the way into a state.
func (q *QP) enterLocked(next QPState, mask AttrMask, a *QPAttr) {
	was := q.state
	switch {
	case next == Reset:
		q.resetLocked()
		q.sendCQ.drop(q.num)
		q.recvCQ.drop(q.num)
	case next == Err:
		q.resp.clear()
		q.errorLocked()
	default:
		q.state = next
		if !q.connected() {
			if q.srcPort == 0 {
				q.srcPort = roce.UDPort(q.num)
			}
		}
		if next == SQD && was == RTS {
			q.attr.EnSQDAsyncNotify = mask&AttrEnSQDAsyncNotify != 0 && a.EnSQDAsyncNotify
			q.req.drained = false
			q.checkDrainedLocked()
		}
	}
}

// errorLocked moves to ERR and flushes both queues.
func (q *QP) errorLocked() {
	if q.state == Err {
		return
	}
	q.state = Err
	q.flushSendLocked()
	q.flushRecvLocked()
	q.req.idle()
}

// Query returns the attributes as they are now, and what the queue pair was
// created with.
func (q *QP) Query() (QPAttr, QPInit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.attr
	a.State, a.CurState, a.Cap = q.state, q.state, q.cap
	if q.state >= RTR {
		a.RQPSN = q.resp.psn
	}
	if q.state >= RTS {
		a.SQPSN = q.req.psn
	}
	if q.ep != nil {
		a.UDPSrcPort = q.ep.path.SrcPort
	} else {
		a.UDPSrcPort = q.srcPort
	}
	return a, QPInit{Type: q.typ, SendCQ: q.sendCQ, RecvCQ: q.recvCQ, SRQ: q.srq, Cap: q.cap, SigAll: q.sigAll}
}
