package replay

import (
	"strings"
	"testing"

	"taproom/rdma/roce"
)

// TestVectorsScenarios checks each recording against itself: what its text says
// must be what its packets and our model of verbx's memory say.
func TestVectorsScenarios(t *testing.T) {
	all := Load(t)
	ok := 0
	for _, s := range all {
		if t.Run(s.Name, func(t *testing.T) { check(t, s) }) {
			ok++
		}
	}
	t.Logf("scenarios: %d of %d", ok, len(all))
}

func check(t *testing.T, s *Scenario) {
	if len(s.Packets) == 0 {
		t.Fatal("no RoCE packet")
	}
	for _, e := range s.Log {
		if e.From == s.At && !hasFate(s, e) {
			t.Errorf("%v is in the log, but no packet of it in the capture", e)
		}
	}
	if s.Verbx == nil {
		return
	}
	if s.Server.Local != s.Client.Remote || s.Client.Local != s.Server.Remote {
		t.Errorf("endpoints differ: %+v %+v", s.Server, s.Client)
	}
	for _, p := range s.Packets {
		if want := s.Side(p.From).Remote.QPN; p.BTH.DestQP() != want {
			t.Errorf("%v from the %v is not for QP %#x", &p.Packet, p.From, want)
		}
	}
	// Each request packet that starts a message belongs to a work request.
	for _, p := range s.Sent(Client) {
		if r := p.RETH(); r != nil && !workHas(s, r) {
			t.Errorf("no work request has the RETH of %v", &p.Packet)
		}
		if a := p.AtomicETH(); a != nil && (a.RKey() != s.Server.Local.RKey || a.VA() != s.Server.Local.Addr) {
			t.Errorf("no work request has the AtomicETH of %v", &p.Packet)
		}
	}
	// A client whose memory no answer changed prints the sum of the pattern.
	if reads := strings.Contains(s.Client.Command, "read") || strings.Contains(s.Client.Command, "cas") || strings.Contains(s.Client.Command, "faa"); !reads {
		if got := SumsOf(ClientMemory(), false); got != s.Client.Sums {
			t.Errorf("client memory: %x, printed %x", got, s.Client.Sums)
		}
	}
	if s.Name == "rc-atomic-v4" {
		if got := SumsOf(ServerMemory(), true); got.Low != s.Server.Sums.Low || got.High != s.Server.Sums.High || got.First8 != 42 {
			t.Errorf("server memory: %x, printed %x", got, s.Server.Sums)
		}
	}
}

func hasFate(s *Scenario, e Event) bool {
	for _, p := range s.Packets {
		if p.Fate == e.Action && p.BTH.Opcode() == e.Opcode && p.BTH.PSN() == e.PSN {
			return true
		}
	}
	return false
}

// workHas tells whether a work request starts at the RETH's address, or is a
// READ that the RETH asks again from within.
func workHas(s *Scenario, r roce.RETH) bool {
	for _, w := range s.Work {
		off := r.VA() - w.VA
		if w.RKey == r.RKey() && off <= uint64(w.Len) && uint64(r.Length()) == uint64(w.Len)-off && (off == 0 || w.Kind == "read") {
			return true
		}
	}
	return false
}

// TestArrived checks what a duplicated and a dropped packet look like to their
// receiver.
func TestArrived(t *testing.T) {
	s := Get(t, "dup-send-v4")
	if n, m := len(s.Sent(Client)), len(s.Arrived(Server)); m != n+2 {
		t.Errorf("dup-send-v4: %d sent, %d arrived, want two more", n, m)
	}
	s = Get(t, "loss-send-middle-v4")
	if n, m := len(s.Sent(Client)), len(s.Arrived(Server)); m != n-1 {
		t.Errorf("loss-send-middle-v4: %d sent, %d arrived, want one less", n, m)
	}
	s = Get(t, "reorder-send-v4")
	a := s.Arrived(Server)
	if a[2].BTH.PSN() != 0x1003 || a[3].BTH.PSN() != 0x1002 {
		t.Errorf("reorder-send-v4: %v arrived before %v", &a[2].Packet, &a[3].Packet)
	}
	s = Get(t, "loss-ack-v4")
	if len(s.Hidden) != 1 || s.Hidden[0].Opcode != roce.RCAck {
		t.Errorf("loss-ack-v4: hidden %v", s.Hidden)
	}
}

// FuzzParse: hostile captures and texts make errors, not panics.
func FuzzParse(f *testing.F) {
	s := Get(f, "rc-atomic-v4")
	text := strings.Join(s.Server.Lines, "\n")
	f.Add([]byte{0xd4, 0xc3, 0xb2, 0xa1}, []byte("server (a): verbx -s -o cas\nexit: client 0 server 0\n--- server\n"+text))
	f.Fuzz(func(t *testing.T, pcap, text []byte) {
		if len(text) > 1<<12 {
			return
		}
		_, _ = Parse("fuzz", pcap, text)
	})
}
