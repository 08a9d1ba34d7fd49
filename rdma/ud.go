package rdma

import "taproom/rdma/roce"

// datagram takes a UD packet. What does not fit is dropped in silence, but for a
// receive that is too small: that ends the queue pair.
func (q *QP) datagram(x *rxPacket) {
	h := x.DETH()
	want := q.attr.QKey
	if q.typ == GSI {
		want = GSIQKey
	}
	if h == nil || h.QKey() != want || len(x.Payload) > q.datagramMTU() {
		q.count.Dropped++
		return
	}
	psn := x.BTH.PSN()
	if !q.needWQE(psn) {
		q.count.Dropped++
		return
	}
	r := &q.resp
	r.off = 0
	var grh [roce.GRHLen]byte
	roce.PutGRH(grh[:], x.ip)
	why := q.fill(grh[:])
	if why == nil {
		why = q.fill(x.Payload)
	}
	if why != nil {
		q.refuse(why, psn)
		return
	}
	wc := WC{Opcode: WCRecv, ByteLen: uint32(r.off), Flags: WCGRH, SrcQP: h.SrcQP()}
	if x.Info().Imm {
		wc.Imm, wc.Flags = x.ImmDt().Value(), wc.Flags|WCWithImm
	}
	q.finishRecv(&wc, x, psn)
}
