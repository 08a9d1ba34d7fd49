// Package roce is the wire format of RoCEv2: InfiniBand transport packets in
// UDP datagrams to port 4791, over IPv4 or IPv6.
//
// It knows bytes, not behaviour. The state machines that decide what to send
// live in package rdma; this package gives them
//
//   - every header as a byte-slice type with getters, setters, an Encode method
//     and a Valid method ([BTH], [DETH], [RETH], [AETH], [AtomicETH], ...);
//   - the table of opcodes ([Opcode], [Info]): which headers a packet carries,
//     which part of a message it is, what answers it;
//   - the invariant CRC, plain ([ICRC]), in pieces ([Sum]) and seeded from
//     tables so that a packet costs no more than its payload ([Flow]);
//   - whole packets, from a [Spec] and back ([Spec.Append], [Parse]);
//   - runs of equal packets in one UDP super-frame ([Path.PutRun], [ParseRun]);
//   - one line of text per packet ([Format]).
//
// Header types are views: they share memory with the slice they were made from
// and panic when it is too short. Call Valid, or use [Parse] or [ParseBody],
// which check every length once, before touching a header of foreign bytes.
// Nothing here keeps state or locks; all functions may be called concurrently
// on different memory.
//
// Section numbers are those of the InfiniBand Architecture Specification,
// Volume 1, release 1.7 (IBTA): chapter 9 for transport headers, annex A17 for
// RoCEv2 and annex A19 for the memory placement extensions (FLUSH, ATOMIC
// WRITE).
package roce
