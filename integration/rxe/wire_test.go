package rxe

import (
	"net/netip"
	"testing"

	"taproom/rdma/roce"
)

// sink counts what reaches it.
type sink struct{ frames [][]byte }

func (s *sink) Read([]byte) (int, error) { select {} }
func (s *sink) Close() error             { return nil }
func (s *sink) Write(b []byte) (int, error) {
	s.frames = append(s.frames, append([]byte(nil), b...))
	return len(b), nil
}

func TestWire(t *testing.T) {
	s := roce.Spec{
		Path:    roce.Path{Src: netip.MustParseAddr("10.9.0.2"), Dst: netip.MustParseAddr("10.9.0.1")},
		BTH:     roce.BTHFields{Opcode: roce.RCSendOnly, PKey: roce.DefaultPKey},
		Payload: make([]byte, 64),
	}
	var k sink
	w := NewWire(&k, Damage{Drop: 0.1, Duplicate: 0.1, Reorder: 0.1, Corrupt: 0.1}, 1)
	const n = 2000
	for i := range n {
		s.BTH.PSN = roce.PSN(i)
		b, err := s.Append(make([]byte, 14))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	var wrong, back int
	last := roce.PSN(0)
	for _, f := range k.frames {
		p, err := roce.Parse(f[14:])
		if err != nil || !p.CheckICRC() {
			wrong++
			continue
		}
		if p.BTH.PSN() < last {
			back++
		}
		last = p.BTH.PSN()
	}
	st := w.Stats()
	if got, want := len(k.frames), n-st.Dropped+st.Duplicated; got != want && got != want-1 {
		t.Errorf("%d frames for %v", got, st)
	}
	if wrong != st.Corrupted || back == 0 || back > st.Reordered || st.Dropped < n/20 || st.Duplicated < n/20 || st.Corrupted < n/20 {
		t.Errorf("%d wrong, %d out of order, %v", wrong, back, st)
	}
	if _, err := w.Write(make([]byte, 60)); err != nil || len(k.frames[len(k.frames)-1]) != 60 {
		t.Error("a frame that is not RoCE did not pass")
	}
}
