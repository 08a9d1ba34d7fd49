package roce_test

import (
	"bytes"
	"testing"

	"taproom/rdma/internal/replay"
	"taproom/rdma/roce"
)

// TestVectorsPackets takes every recorded packet of rdma_rxe apart and builds it
// again: each byte must come out the same, the ICRC by three ways of computing
// it.
func TestVectorsPackets(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		for i := range s.Packets {
			p := &s.Packets[i]
			total++
			if why := rebuild(&p.Packet, p.Fate == "corrupt" || corrupted(s, p)); why != "" {
				t.Errorf("%s: %v: %s", s.Name, &p.Packet, why)
				continue
			}
			ok++
		}
	}
	t.Logf("packets: %d of %d", ok, total)
}

// corrupted tells whether the wire flipped a bit of the packet before it was
// captured: the log names it, and it is the first of its kind.
func corrupted(s *replay.Scenario, p *replay.Packet) bool {
	for _, e := range s.Hidden {
		if e.Action != "corrupt" || e.Opcode != p.BTH.Opcode() || e.PSN != p.BTH.PSN() || e.From != p.From {
			continue
		}
		for i := range s.Packets {
			if q := &s.Packets[i]; q.From == e.From && q.BTH.Opcode() == e.Opcode && q.BTH.PSN() == e.PSN {
				return q == p
			}
		}
	}
	return false
}

func rebuild(p *roce.Packet, wrong bool) string {
	raw := p.Bytes()
	if p.CheckICRC() == wrong {
		return "ICRC of the capture"
	}
	if wrong {
		return ""
	}
	s := p.Spec()
	b, err := s.Append(nil)
	if err != nil {
		return err.Error()
	}
	if !bytes.Equal(b, raw) {
		return "built again it differs"
	}
	l := len(p.IP) + roce.UDPLen
	rest := raw[l+roce.BTHLen : len(raw)-roce.ICRCLen]
	if !roce.NewFlow(p.IP, p.UDP).Length(len(raw)-l).Sum(p.BTH, p.ID()).Add(rest).Matches(raw[len(raw)-roce.ICRCLen:]) {
		return "ICRC from the flow's tables"
	}
	if f := s.Path.Flow().Length(len(raw)-l).Dest(s.BTH.PKey, s.BTH.DestQP); !f.SumTo(p.BTH, p.ID()).Add(rest).Matches(raw[len(raw)-roce.ICRCLen:]) {
		return "ICRC from the flow to the queue pair"
	}
	run, err := roce.ParseRun(raw, 0)
	if err != nil || run.Len() != 1 || !run.CheckICRC(0) {
		return "as a run of one"
	}
	return ""
}

// TestVectorsPorts checks the source ports of rxe's queue pairs.
func TestVectorsPorts(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		if s.Verbx == nil {
			continue
		}
		for i := range s.Packets {
			p := &s.Packets[i]
			total++
			local, remote := s.Side(p.From).Local.QPN, s.Side(p.From).Remote.QPN
			want := roce.RCPort(local, remote)
			if p.BTH.Opcode().Service() == roce.ServiceUD {
				want = roce.UDPort(local)
			}
			if p.SrcPort() != want {
				t.Errorf("%s: %v from port %d, want %d", s.Name, &p.Packet, p.SrcPort(), want)
				continue
			}
			ok++
		}
	}
	t.Logf("source ports: %d of %d", ok, total)
}

// TestVectorsGRH checks the area before a datagram's payload, as rxe gave it to
// the application.
func TestVectorsGRH(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		if s.Verbx == nil || s.Verbx.Type != "UD" {
			continue
		}
		var arrived []replay.Packet
		for _, p := range s.Arrived(replay.Server) {
			if p.DETH().QKey() == replay.QKey {
				arrived = append(arrived, p)
			}
		}
		for i, c := range s.Server.Completions {
			total++
			var grh [roce.GRHLen]byte
			roce.PutGRH(grh[:], arrived[i].IP)
			if !bytes.Equal(grh[:], c.GRH) {
				t.Errorf("%s: completion %d: %x, want %x", s.Name, i, grh, c.GRH)
				continue
			}
			ok++
		}
	}
	t.Logf("GRH areas: %d of %d", ok, total)
}
