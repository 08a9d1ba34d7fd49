package rdma_test

import (
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// TestTailLoss: the last packet of a train, its ACK, and the whole answer of a
// READ are lost; all is well long before the time-out of 67 ms.
func TestTailLoss(t *testing.T) {
	for name, lost := range map[string]func(from int, p *roce.Packet) bool{
		"last packet": func(from int, p *roce.Packet) bool { return from == 0 && p.Info().Part == roce.Last },
		"ACK":         func(from int, p *roce.Packet) bool { return from == 1 && p.Info().Op == roce.OpAck },
		"response":    func(from int, p *roce.Packet) bool { return from == 1 && p.Info().Op == roce.OpReadResponse },
	} {
		l := newLab(t, rdma.RC, rdma.QPAttr{})
		wr := rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{l.a.mr.SGE(0, 20000)}, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()}
		if name == "response" {
			wr.Opcode = rdma.WRRead
		}
		for range 3 { // so that the round trip is known
			if got := l.post(t, wr); len(got) != 1 || got[0].Err() != nil {
				t.Fatalf("%s: %+v", name, got)
			}
		}
		n := 0
		l.drop = func(from int, p *roce.Packet) bool {
			if !lost(from, p) || n == 5 {
				return false
			}
			n++
			return n == 1 || name == "response"
		}
		start := l.clock.Now()
		got := l.post(t, wr)
		if len(got) != 1 || got[0].Err() != nil || n == 0 {
			t.Fatalf("%s: %+v, %d lost", name, got, n)
		}
		if took := time.Duration(got[0].Time - start); took > 2*time.Millisecond || l.a.qp.Counters().Probes != 1 {
			t.Errorf("%s: took %v, %+v", name, took, l.a.qp.Counters())
		}
	}
}

// TestLongMessage: two gigabytes less one byte each way, through regions whose
// 512 pages are the same memory.
func TestLongMessage(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("4 GB of copying")
	}
	pa, pb := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	a, b := newSide(t, pa, rdma.Options{}, rdma.RC, 4096), newSide(t, pb, rdma.Options{}, rdma.RC, 4096)
	connect(t, a, b, rdma.QPAttr{Timeout: 20})
	page := make([]byte, 4<<20)
	var key [2]uint32
	for i, s := range []*side{a, b} {
		mr, err := s.pd.AllocMR(512)
		if err != nil {
			t.Fatal(err)
		}
		pages := make([][]byte, 512)
		for k := range pages {
			pages[k] = page
		}
		if err := mr.MapPages(pages, 0); err != nil {
			t.Fatal(err)
		}
		key[i] = rdma.IncRKey(mr.LKey())
		if _, err := s.qp.PostSend(rdma.SendWR{Opcode: rdma.WRRegMR, MR: mr, NewRKey: key[i], Access: rdma.LocalWrite | rdma.RemoteWrite | rdma.RemoteRead}); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range []rdma.WROpcode{rdma.WRWrite, rdma.WRRead} {
		if _, err := a.qp.PostSend(rdma.SendWR{Opcode: op, Flags: rdma.Signaled, SGList: []rdma.SGE{{Addr: 0, Length: 1<<31 - 1, LKey: key[0]}}, RKey: key[1]}); err != nil {
			t.Fatal(err)
		}
		var wcs []rdma.WC
		for len(wcs) == 0 {
			wcs = a.poll(t)
		}
		if wcs[0].Err() != nil {
			t.Fatalf("%v: %+v", op, wcs)
		}
	}
}
