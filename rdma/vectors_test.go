package rdma_test

import (
	"encoding/binary"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/internal/replay"
	"taproom/rdma/roce"
)

// differs says why completions and memory are not rxe's in a recording, if so: an
// unreliable message that was interrupted costs rxe the next one as well, and
// after a WRITE all others; here the next one is received.
func differs(s *replay.Scenario) string {
	for _, e := range s.Log {
		if part := e.Opcode.Info().Part; s.Verbx.Type == "UC" && e.Action != "ce" && part&roce.First == 0 {
			return "UC recovers with the next message here, in rxe it does not"
		}
	}
	return ""
}

// TestVectorsResponder gives our responder what reached rxe's, and compares what
// it answers, completes and leaves in memory.
func TestVectorsResponder(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		if s.Verbx == nil {
			continue
		}
		total++
		if t.Run(s.Name, func(t *testing.T) { playServer(t, s) }) {
			ok++
		}
	}
	t.Logf("rdma responder: %d of %d", ok, total)
}

func playServer(t *testing.T, s *replay.Scenario) {
	p := newPlayer(t, s, replay.Server)
	if s.Window != 0 {
		p.bindWindow()
	}
	recv := func() {
		for i := range s.Server.Options.RecvCount {
			off := s.Server.Options.RecvOffset(i)
			if _, err := p.qp.PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{p.mr.SGE(off, s.Server.Options.RecvSize)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := s.Sent(replay.Server)
	late := s.Server.Options.RecvDelay > 0
	if !late {
		recv()
	}
	arrived := s.Arrived(replay.Server)
	if captureGap(s) {
		arrived = nil
		p.playWith(newPlayer(t, s, replay.Client))
	}
	for _, in := range arrived {
		if n := len(p.port.sent); late && (n >= len(want) || !want[n].AETH().Syndrome().IsRNR()) {
			late = false
			recv()
		}
		p.port.clock.Advance(max(0, time.Duration(p.port.clock.Now()-int64(time.Second))-in.Time))
		p.port.deliver(in.Bytes())
	}
	if late {
		recv()
	}
	p.poll()
	// The recording lacks what the wire took from our side before it was seen.
	ours := hide(p.port.sent, s.Hidden)
	if err := compare(ours, want); err != nil {
		t.Error(err)
	}
	checkServer(t, p)
}

// hide does to our packets what the wire did to the recorded ones.
func hide(sent [][]byte, hidden []replay.Event) [][]byte {
	ours := append([][]byte(nil), sent...)
	from := 0
	for _, e := range hidden {
		for i := from; i < len(ours); i++ {
			k, err := roce.Parse(ours[i])
			if err != nil || k.BTH.PSN() != e.PSN || k.BTH.Opcode() != e.Opcode {
				continue
			}
			switch e.Action {
			case "drop":
				ours = append(ours[:i:i], ours[i+1:]...)
				from = i
			case "ce":
				b := append([]byte(nil), ours[i]...)
				if b[0]>>4 == 4 {
					b[1] |= 3
					roce.FixIPv4(b)
				} else {
					b[1] |= 0x30
				}
				ours[i], from = b, i+1
			case "swap":
				if i+1 < len(ours) {
					ours[i], ours[i+1] = ours[i+1], ours[i]
				}
				from = i + 2
			case "setop":
				ours[i], from = toFirst(ours[i]), i+1
			default:
				from = i + 1
			}
			break
		}
	}
	return ours
}

// toFirst makes a READ RESPONSE FIRST of a MIDDLE, as the recording wire did.
func toFirst(b []byte) []byte {
	k, _ := roce.Parse(b)
	s := k.Spec()
	s.BTH.Opcode = roce.RCReadRespFirst
	s.AETH = roce.AETHFields{Syndrome: roce.AckNoCredits, MSN: 1}
	out, _ := s.Append(nil)
	return out
}

func (p *player) bindWindow() {
	p.t.Helper()
	mw, err := p.pd.AllocMW(rdma.MWType2)
	if err != nil {
		p.t.Fatal(err)
	}
	mw.SetKey(p.s.Window)
	_, err = p.qp.PostSend(rdma.SendWR{ID: 0xb1, Opcode: rdma.WRBindMW, Flags: rdma.Signaled, MW: mw, NewRKey: p.s.Window,
		Bind: rdma.BindInfo{MR: p.mr, Addr: p.mr.Addr(), Length: replay.MemoryLen, Access: rdma.RemoteWrite | rdma.RemoteRead}})
	if err != nil {
		p.t.Fatal(err)
	}
}

// checkServer compares completions and memory with what verbx printed.
func checkServer(t *testing.T, p *player) {
	t.Helper()
	s := p.s
	if why := differs(s); why != "" {
		t.Logf("completions not compared: %s", why)
		return
	}
	var got []rdma.WC
	flushed := 0
	for _, wc := range p.wcs {
		if wc.Status == rdma.WRFlushErr {
			if flushed++; flushed > 1 {
				continue
			}
		}
		got = append(got, wc)
	}
	want := s.Server.Completions
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) {
			t.Errorf("%d completions, recorded %d", len(got), len(want))
			break
		}
		g, w := got[i], want[i]
		if uint64(w.ID) != g.ID || w.Status != int(g.Status) {
			t.Errorf("completion %d: id %x %v, recorded id %x status %d", i, g.ID, g.Status, w.ID, w.Status)
		}
		if g.Status == rdma.Success && (w.Opcode != int(g.Opcode) || w.Len != int(g.ByteLen) || w.Flags != int(g.Flags) || w.Imm != g.Imm) {
			t.Errorf("completion %d: %+v, recorded %+v", i, g, w)
		}
	}
	if s.Server.Flushed > 0 && flushed != s.Server.Flushed {
		t.Errorf("%d receives flushed, recorded %d", flushed, s.Server.Flushed)
	}
	if sums := replay.SumsOf(p.mem, true); s.Server.Sums != sums {
		t.Errorf("server memory: %+v, recorded %+v", sums, s.Server.Sums)
	}
}

// TestVectorsRequester gives our requester the work requests of verbx's client
// and the answers it got, and compares what it sends.
func TestVectorsRequester(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		if s.Verbx == nil {
			continue
		}
		total++
		if t.Run(s.Name, func(t *testing.T) { playClient(t, s) }) {
			ok++
		}
	}
	t.Logf("rdma requester: %d of %d", ok, total)
}

var wrKinds = map[string]rdma.WROpcode{
	"send": rdma.WRSend, "send_sol": rdma.WRSend, "send_imm": rdma.WRSendImm, "send_inv": rdma.WRSendInv, "write": rdma.WRWrite,
	"write_mw": rdma.WRWrite, "write_imm": rdma.WRWriteImm, "read": rdma.WRRead, "cas": rdma.WRCompareSwap, "faa": rdma.WRFetchAdd,
}

func (p *player) post(w replay.WorkRequest) error {
	wr := rdma.SendWR{
		ID: w.ID, Opcode: wrKinds[w.Kind], Imm: w.Imm, InvKey: w.InvRKey, RemoteAddr: w.VA, RKey: w.RKey, CompareAdd: w.Compare, Swap: w.Swap,
		AH: p.ah, RemoteQPN: p.s.Client.Remote.QPN, RemoteQKey: w.QKey,
	}
	if w.Kind == "faa" {
		wr.CompareAdd = w.Swap
	}
	if w.Len > 0 {
		wr.SGList = []rdma.SGE{p.mr.SGE(w.Offset, w.Len)}
	}
	if w.Signaled {
		wr.Flags |= rdma.Signaled
	}
	if w.Solicited {
		wr.Flags |= rdma.Solicited
	}
	_, err := p.qp.PostSend(wr)
	return err
}

func playClient(t *testing.T, s *replay.Scenario) {
	p := newPlayer(t, s, replay.Client)
	next, signaled := 0, 0
	// feed posts what verbx would have posted by now.
	feed := func() {
		for p.poll(); next < len(s.Work) && (s.Verbx.Batch || len(p.wcs) >= signaled); next++ {
			w := s.Work[next]
			if err := p.post(w); err == nil && w.Signaled {
				signaled++
			}
			p.poll()
		}
	}
	feed()
	var want []replay.Packet
	arrived := s.Arrived(replay.Client)
	for _, k := range s.Packets {
		if k.From == replay.Client {
			want = append(want, k)
			// What is not on its way yet must come from a timer.
			for i := 0; len(p.port.sent) < len(want) && i < 64 && p.port.clock.Step(); i++ {
				feed()
			}
			continue
		}
		if len(arrived) > 0 {
			p.port.deliver(arrived[0].Bytes())
			arrived = arrived[1:]
			feed()
		}
	}
	for range 64 {
		if len(p.wcs) >= signaled || !p.port.clock.Step() {
			break
		}
		feed()
	}
	ours := p.port.sent
	if s.At == replay.Server {
		ours = hide(ours, s.Hidden)
	}
	switch {
	case captureGap(s):
		ours = only(ours, want)
	case nakPair(s):
		ours, want = firstOnly(ours), firstPackets(want)
	}
	if err := compare(ours, want); err != nil {
		t.Error(err)
	}
	for i, w := range s.Client.Completions {
		if i >= len(p.wcs) {
			t.Errorf("%d completions, recorded %d", len(p.wcs), len(s.Client.Completions))
			break
		}
		g := p.wcs[i]
		if g.ID != w.ID || int(g.Status) != w.Status {
			t.Errorf("completion %d: id %x %v, recorded id %x status %d", i, g.ID, g.Status, w.ID, w.Status)
		}
		if w.Old != nil && binary.LittleEndian.Uint64(p.mem[s.Work[w.ID-0x100].Offset:]) != *w.Old {
			t.Errorf("completion %d: old value %x, recorded %x", i, p.mem[s.Work[w.ID-0x100].Offset:][:8], *w.Old)
		}
	}
	if sums := replay.SumsOf(p.mem, false); s.Client.Sums != sums && s.Client.Sums != (replay.Sums{}) {
		t.Errorf("client memory: %+v, recorded %+v", sums, s.Client.Sums)
	}
}

// playWith lets our requester send what the capture lacks, wired to our responder.
func (p *player) playWith(client *player) {
	for _, w := range p.s.Work {
		if err := client.post(w); err != nil {
			p.t.Fatal(err)
		}
	}
	for to, from := 0, 0; to < len(client.port.sent) || from < len(p.port.sent); {
		if to < len(client.port.sent) {
			p.port.deliver(client.port.sent[to])
			to++
			continue
		}
		client.port.deliver(p.port.sent[from])
		from++
	}
}

// captureGap tells whether the capturing program lost packets: PSNs inside a
// message are missing that no log entry explains, but the answers show that rxe
// had them. Such a recording is compared by the packets it has.
func captureGap(s *replay.Scenario) bool {
	if len(s.Log) > 0 {
		return false
	}
	var last *replay.Packet
	for i := range s.Packets {
		k := &s.Packets[i]
		if k.From != replay.Client {
			continue
		}
		if last != nil && k.Info().Part&roce.First == 0 && k.BTH.PSN().Sub(last.BTH.PSN()) > 1 {
			return true
		}
		last = k
	}
	return false
}

// only returns those of our packets that the capture has.
func only(ours [][]byte, want []replay.Packet) (kept [][]byte) {
	have := make(map[roce.PSN]bool)
	for _, k := range want {
		have[k.BTH.PSN()] = true
	}
	for _, b := range ours {
		if k, err := roce.Parse(b); err == nil && have[k.BTH.PSN()] {
			kept = append(kept, b)
		}
	}
	return kept
}

// nakPair tells whether two sequence NAKs came in a row. rxe takes them for one
// if it has not got round to the first yet, and repeats from there; our requester
// repeats for each, at once. Then what is sent for the first time is compared,
// and repetitions are not counted.
func nakPair(s *replay.Scenario) bool {
	nak := false
	for _, k := range s.Packets {
		is := k.From == replay.Server && k.AETH() != nil && k.AETH().Syndrome() == roce.NakSequence
		if is && nak {
			return true
		}
		nak = is
	}
	return false
}

func firstOnly(ours [][]byte) (kept [][]byte) {
	seen := make(map[roce.PSN]bool)
	for _, b := range ours {
		if k, err := roce.Parse(b); err == nil && !seen[k.BTH.PSN()] {
			seen[k.BTH.PSN()] = true
			kept = append(kept, b)
		}
	}
	return kept
}

func firstPackets(want []replay.Packet) (kept []replay.Packet) {
	seen := make(map[roce.PSN]bool)
	for _, k := range want {
		if !seen[k.BTH.PSN()] {
			seen[k.BTH.PSN()] = true
			kept = append(kept, k)
		}
	}
	return kept
}
