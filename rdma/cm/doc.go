// Package cm is the InfiniBand communication manager as RoCE uses it: it makes
// and ends connections, and resolves datagram services, by management datagrams
// between the general service interfaces (QP 1) of two devices. Programs that
// use rdma_cm (rping, ucmatose, udaddy, perftest -R) need it on the other side.
//
// The package has three layers.
//
//   - Messages: [MAD] and the structs [REQ], [REP], [RTU], [REJ], [MRA], [DREQ],
//     [DREP], [SIDRReq], [SIDRRep] with Encode and Decode (IBTA chapter 12.6),
//     and [PrivateHeader], which rdma_cm puts in front of a program's private
//     data (annex A11).
//   - [Manager]: the state machine (12.9). It speaks to a [Transport] and knows
//     nothing of queue pairs.
//   - [Endpoint]: a manager on a device's QP 1, which moves queue pairs through
//     their states: what rdma_connect, rdma_accept and rdma_disconnect do.
//
// A connection from the active side's point of view, and what may go wrong:
//
//	Connect --REQ--> ReqSent --REP received--> RepReceived --Ready: RTU--> Established
//	                    | REJ, or no answer: Closed        | Reject: Closed
//	Established --Disconnect: DREQ--> DreqSent --DREP, or no answer--> Closed
//	Established --DREQ received: DREP--> Closed
//
// and from the passive side's:
//
//	Listen --REQ received--> ReqReceived --Accept: REP--> RepSent --RTU--> Established
//	                            | Reject: Closed             | no answer, REJ: Closed
//
// Every message that asks for an answer is repeated until one comes or the
// retries are used up, so each connection ends in Established or Closed within
// (retries + 1) times the response time, or MRA's extension of it.
package cm
