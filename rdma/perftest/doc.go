// Package perftest speaks what the usual RDMA programs say to each other over
// TCP before and after they use RDMA, and prints what they print, so that a real
// ib_write_bw or ibv_rc_pingpong can be the other side of a test or a benchmark.
//
// Two protocols are here, both of text with fixed lengths:
//
//   - that of ibv_rc_pingpong, ibv_uc_pingpong and ibv_ud_pingpong: one
//     [PingpongAddr] each way ([PingpongClient], [PingpongServer]);
//   - that of perftest 4.5 (ib_send_bw, ib_write_lat, ...): a [Preface], a
//     [Dest] for each queue pair, more of them as points of synchronisation, and
//     at the end of some tests a [Report]; see [Session].
//
// They were written down from what Debian 12's programs sent each other; the
// recordings in testdata are such talks. The package knows nothing of queue
// pairs: who uses it makes them, and moves them to RTR and RTS at the points
// that the functions name.
package perftest
