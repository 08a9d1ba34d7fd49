package rdma

import "taproom/rdma/roce"

// Remote is what a connected queue pair must know of the other: what programs
// send each other by TCP, a file or the connection manager.
type Remote struct {
	QPN uint32
	PSN roce.PSN // of its first packet
	GID GID
}

// Connect takes an RC or UC queue pair from RESET to RTS. PathMTU, Access,
// timers and limits come from a, with defaults where they are zero: the port's
// MTU, all rights of RDMA, one READ each way, Timeout 14, RetryCnt and RNRRetry 7,
// MinRNRTimer 12. a.SQPSN is this side's first PSN, a.AH.SGIDIndex its address.
func (q *QP) Connect(r Remote, a QPAttr) error {
	set := func(p *uint8, v uint8) {
		if *p == 0 {
			*p = v
		}
	}
	set(&a.MaxRdAtomic, 1)
	set(&a.MaxDestRdAtomic, a.MaxRdAtomic)
	set(&a.Timeout, 14)
	set(&a.RetryCnt, 7)
	set(&a.RNRRetry, 7)
	set(&a.MinRNRTimer, 12)
	a.PortNum = 1
	if a.PathMTU == 0 {
		a.PathMTU = q.dev.QueryPort().ActiveMTU
	}
	if a.Access == 0 {
		a.Access = RemoteWrite | RemoteRead | RemoteAtomic
	}
	a.DestQPN, a.RQPSN, a.AH.DGID = r.QPN, r.PSN, r.GID
	rc := q.typ == RC
	step := func(s QPState, mask, onlyRC AttrMask) error {
		a.State = s
		if rc {
			mask |= onlyRC
		}
		return q.Modify(&a, mask|AttrState)
	}
	if err := step(Init, AttrPKeyIndex|AttrPort|AttrAccess, 0); err != nil {
		return err
	}
	rtr := AttrAV | AttrPathMTU | AttrDestQPN | AttrRQPSN
	if a.UDPSrcPort != 0 {
		rtr |= AttrUDPSrcPort
	}
	if err := step(RTR, rtr, AttrMaxDestRdAtomic|AttrMinRNRTimer); err != nil {
		return err
	}
	return step(RTS, AttrSQPSN, AttrTimeout|AttrRetryCnt|AttrRNRRetry|AttrMaxRdAtomic)
}

// Activate takes a UD or GSI queue pair from RESET to RTS.
func (q *QP) Activate(qkey uint32, psn roce.PSN) error {
	a := QPAttr{State: Init, PortNum: 1, QKey: qkey, SQPSN: psn}
	if err := q.Modify(&a, AttrState|AttrPKeyIndex|AttrPort|AttrQKey); err != nil {
		return err
	}
	a.State = RTR
	if err := q.Modify(&a, AttrState); err != nil {
		return err
	}
	a.State = RTS
	return q.Modify(&a, AttrState|AttrSQPSN)
}
