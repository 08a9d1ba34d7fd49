package rxe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/rdma/roce"
)

// TestDatagrams sends datagrams that were made by hand to a real rxe, alone and
// one with a wrong ICRC: it must deliver the right ones and drop the other.
func TestDatagrams(t *testing.T) {
	g := Start(t, Options{})
	if !g.HasVerbx() {
		Missing(t, "rxe", errNoCompiler)
	}
	link, err := g.Link()
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost(link, HostOptions{})
	defer h.Close()
	for _, to := range []string{"10.9.0.1", "fd09::1"} {
		wait := g.Go("verbx -X 2 > /tmp/out; cat /tmp/out", 20*time.Second)
		qpn := waitQPN(t, g)
		s := roce.Spec{
			Path: roce.Path{Src: h.IP(), Dst: netip.MustParseAddr(to), SrcPort: roce.UDPort(77)},
			BTH:  roce.BTHFields{Opcode: roce.UDSendOnly, PKey: roce.DefaultPKey, DestQP: qpn, MigReq: true},
			DETH: roce.DETHFields{QKey: 0x11111111, SrcQP: 77},
		}
		if s.Dst.Is6() {
			s.Src = h.IP6()
		}
		for i, n := range []int{1, 100, 1024} {
			s.Payload, s.BTH.PSN = make([]byte, n), roce.PSN(i)
			p, err := s.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if n == 100 {
				p[len(p)-1] ^= 1
			}
			if err := h.Send(p); err != nil {
				t.Fatal(err)
			}
		}
		r, err := wait()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(r.Output, "len=41 ") || !strings.Contains(r.Output, "len=1064 ") || strings.Contains(r.Output, "len=140 ") {
			t.Errorf("to %s, QP %#x, rxe received:\n%s", to, qpn, r.Output)
		}
		g.MustRun(t, "rm -f /tmp/out", 5*time.Second)
	}
}

// waitQPN waits for "verbx -X" to print its queue pair's number to /tmp/out.
func waitQPN(t *testing.T, g *Guest) uint32 {
	t.Helper()
	for range 100 {
		r, err := g.Run("sed -n 's/^qpn=/0x/p' /tmp/out", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := parseHex(r.Output); err == nil {
			return v
		}
	}
	t.Fatal("verbx does not start")
	return 0
}

func countLines(text, part string) (n int) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}
