// Package replay reads recorded scenarios of Linux's rdma_rxe: a capture beside
// a text that holds the commands both sides ran and what they printed. It gives
// tests the starting state of both sides (queue pair numbers, PSNs, keys, memory
// contents, work requests), the packets each side sent and received, and the
// completions and memory sums that came out.
//
// Most scenarios are runs of verbx, a small verbs program (integration/rxe holds
// its source); its options, memory pattern and work requests are known here, so
// a player can repeat a run without guessing. Scenarios of other programs
// (ibv_rc_pingpong, rping, mckey) have packets and output, but no options.
//
// A player for the responder's side, in outline:
//
//	for _, s := range replay.Load(t) {
//	    if s.Verbx == nil { continue }
//	    // memory := replay.ServerMemory(); QP numbered s.Server.Local.QPN at PSN s.Server.Local.PSN ...
//	    for _, p := range s.Arrived(replay.Server) { engine.Receive(p.Bytes()) }
//	    // compare what the engine sent with s.Sent(replay.Server), less s.Hidden
//	}
//
// The capture was taken on one side's interface, before the wire between the two
// did its damage to that side's frames and after it did it to the other's. So a
// frame from the capturing side that the wire dropped is in the capture, with
// its Fate; one from the other side is not, and stands in Hidden.
//
// The recordings come from TAPROOM_VECTORS, a directory with a sub-directory
// roce, or are those in testdata.
package replay
