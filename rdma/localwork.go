package rdma

// localWork carries out LOCAL_INV, BIND_MW and REG_MR when it is their turn. A
// failed one is found by reap when it has become the oldest.
func (q *QP) localWork(w *sendWQE) bool {
	ok := false
	st, c := MWBindErr, CauseMWBind
	switch w.op {
	case WRLocalInv:
		ok = q.invalidate(w.imm)
		st, c = LocQPOpErr, CauseInvalidate
	case WRBindMW:
		ok = w.mw.bind(q, w.newKey, &w.bind)
	case WRRegMR:
		ok = w.mr.register(q, w.newKey, w.access)
		st, c = LocQPOpErr, CauseRegMR
	}
	if !ok {
		q.halt(w, st, c)
		return false
	}
	q.advance()
	q.reap(0)
	return true
}
