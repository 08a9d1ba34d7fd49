package rxe

import (
	"net/netip"
	"testing"
	"time"

	"taproom/rdma/roce"
)

// TestTAP: over a TAP and a bridge a super-frame made by AppendRun arrives at
// rxe as packets that each have the right ICRC.
func TestTAP(t *testing.T) {
	g, lab := StartTAP(t, Options{})
	if !g.HasVerbx() {
		Missing(t, "rxe", errNoCompiler)
	}
	f, err := lab.TAP("t-go", 1500, true)
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost(NewTAPLink(f), HostOptions{})
	defer h.Close()
	for _, to := range []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")} {
		wait := g.Go("verbx -X 2 > /tmp/out; cat /tmp/out", 20*time.Second)
		qpn := waitQPN(t, g)
		s := roce.Spec{
			Path: roce.Path{Src: h.IP(), Dst: to, SrcPort: roce.UDPort(77)}, ID: 65533,
			BTH:  roce.BTHFields{Opcode: roce.UDSendOnly, PKey: roce.DefaultPKey, DestQP: qpn},
			DETH: roce.DETHFields{QKey: 0x11111111, SrcQP: 77},
		}
		if to.Is6() {
			s.Src = h.IP6()
		}
		const n = 20
		var run []roce.Packet
		for i := range n {
			s.BTH.PSN, s.Payload = roce.PSN(i), make([]byte, 1000)
			if i == n-1 {
				s.Payload = s.Payload[:123]
			}
			b, err := s.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.ID++
			p, err := roce.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			run = append(run, p)
		}
		frame, size := roce.AppendRun(nil, run)
		if err := h.SendRun(frame, size); err != nil {
			t.Fatal(err)
		}
		r, err := wait()
		if err != nil {
			t.Fatal(err)
		}
		if got := countLines(r.Output, "len=1040 "); got != n-1 {
			t.Errorf("to %v: %d of %d packets delivered:\n%s", to, got, n-1, r.Output)
		}
		if got := countLines(r.Output, "len=163 "); got != 1 {
			t.Errorf("to %v: the last packet was delivered %d times", to, got)
		}
		g.MustRun(t, "rm -f /tmp/out", 5*time.Second)
	}
}
