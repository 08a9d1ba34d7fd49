// Package rdma is a verbs device in user space: what Linux's rdma_rxe is to the
// kernel, as a Go package that talks RoCEv2 with rxe, with hardware and with
// itself.
//
// # Objects
//
// Names and meanings are those of verbs (ibv_*, IBTA volume 1 chapters 10 and
// 11); numbers of states, flags, opcodes and statuses are the uapi's.
//
//	dev, _ := rdma.OpenDevice(port, rdma.Options{})        // a Port: package nodeport, memport, or yours
//	pd, _  := dev.AllocPD()
//	mr, _  := pd.RegMR(buf, rdma.LocalWrite|rdma.RemoteWrite)
//	cq, _  := dev.CreateCQ(256, nil)
//	qp, _  := pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: cq, RecvCQ: cq, Cap: rdma.QPCap{MaxSendWR: 64, MaxSendSGE: 1}})
//	err    := qp.Connect(rdma.Remote{QPN: peerQPN, PSN: peerPSN, GID: peerGID}, rdma.QPAttr{SQPSN: myPSN})
//	_, err = qp.PostSend(rdma.SendWR{ID: 1, Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{mr.SGE(0, n)}, RemoteAddr: addr, RKey: rkey})
//	n, err := cq.Poll(wcs[:])
//
// A device has one port. Its GID table ([Device.GIDs]) holds the link-local
// address of the port's MAC at index 0 and then the port's addresses in the order
// in which they came; an address keeps its index while it stays.
// [Device.DefaultGID] is the one to use if you do not care.
//
// Objects end in the reverse order of their making; an object that others still
// use says EBUSY. The memory of a region is the caller's, and must stay what it
// is until Dereg; where it may go away under us, MRInit.Guard makes a fault an
// error of the work request.
//
// # Errors
//
// A verb that fails returns an [*Error] with libibverbs' errno and a text that
// says which number was wrong. A work request that fails completes with a
// [Status], for the same fault the same as rxe's; [WC.Err] makes a text of it
// that names queue pair, PSN and cause. [QP.Trace] shows the last packets.
//
// Every work request of a connected queue pair completes, whatever the network
// does, within [QP.Bound], which follows from time-out and retry counts. Time-out
// code 0 and RNR retry count 7 mean "for ever" in verbs, and do so here.
//
// # How packets flow
//
// Posting transmits on the caller's goroutine. A received packet is carried out
// and answered on the goroutine that brought it. There is no goroutine of the
// device's, no queue between the two, and nothing waits: what must happen later
// (retransmission, RNR, pacing) is an alarm of the [Clock], which tests replace by
// virtual time. A program that runs its own loop may call [Device.Progress].
//
//	PostSend ─ kick ─ requester ─┐
//	                             ├─ builder: header, copy and ICRC in one pass, runs ─ Port.Send
//	            ┌─── responder ──┘
//	Receive ─ ICRC ─ QP ┤
//	            └─── completer ─ CQ
//
// Packets of one size and destination leave as one UDP super-frame (USO) where
// the port takes them, each with its own BTH and ICRC; such runs are received
// whole as well. A payload is copied once on each side. No packet allocates.
//
// # Compared with rxe
//
// Equal on the wire, byte for byte, with [Options.LikeRxe]. Without it: one ACK
// stands for a received run, and AckReq is asked for where it pays; a missing
// READ response or a lost atomic's is asked for again at once, not by the
// time-out; a READ that is asked for again begins with FIRST or ONLY as IBTA says;
// what was acknowledged behind it is not sent twice. UC recovers with the next
// message. An ECN mark brings a congestion notification, and that a slower sender
// (DCQCN, [Congestion]). Invalidating a dead window is an error, never a crash.
// There are counters per queue pair ([QP.Counters]), completion times, a choice of
// UDP source port (AttrUDPSrcPort) and a packet trace.
//
// Not offered: XRC, raw packets, alternate paths, tag matching.
//
// # Concurrency
//
// Everything may be called from any goroutine. One lock guards a queue pair, held
// while work is done for it and never while a packet is sent; look-ups of queue
// pairs, keys and groups take none.
package rdma
