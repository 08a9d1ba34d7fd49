package rxe

import (
	"net/netip"
	"os"
	"sync"
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
	link := &vnetLink{File: f}
	h := NewHost(link, HostOptions{})
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
		link.size = size
		if err := h.Send(frame); err != nil {
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

// vnetLink puts a virtio-net header in front of frames: an empty one, but for
// RoCE super-frames, recognised by their length.
type vnetLink struct {
	*os.File
	mu   sync.Mutex
	size int // of a super-frame's packets; set before it is written
}

const (
	vnetLen       = 10
	vnetNeedsCsum = 1
	vnetUDPL4     = 5
)

func (l *vnetLink) Read(b []byte) (int, error) {
	buf := make([]byte, len(b)+vnetLen)
	n, err := l.File.Read(buf)
	if err != nil || n < vnetLen {
		return 0, err
	}
	return copy(b, buf[vnetLen:n]), nil
}

func (l *vnetLink) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := make([]byte, vnetLen, vnetLen+len(b))
	if len(b) > 1514 {
		ip := 20
		if b[14]>>4 == 6 {
			ip = 40
		}
		put := func(off, v int) { h[off], h[off+1] = byte(v), byte(v>>8) }
		h[0], h[1] = vnetNeedsCsum, vnetUDPL4
		put(2, 14+ip+8)
		put(4, l.size)
		put(6, 14+ip)
		put(8, 6)
	}
	n, err := l.File.Write(append(h, b...))
	return max(0, n-vnetLen), err
}
