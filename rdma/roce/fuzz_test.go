package roce

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// FuzzParse: whatever Parse takes can be formatted, taken apart, built again to
// the same fields, and seen as a run, without a panic.
func FuzzParse(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 9))
	for _, op := range []Opcode{RCSendOnly, RCWriteOnlyImm, RCCompareSwap, RCAtomicAck, RCFlush, RCSendOnlyInv, UDSendOnlyImm, CongestionNotified} {
		for _, v6 := range []bool{false, true} {
			s := randomSpec(r, op, v6, 21)
			b, _ := s.Append(nil)
			f.Add(b, 0)
			f.Add(b, 20)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if run, err := ParseRun(b, size); err == nil {
			for i := range run.Len() {
				_ = run.CheckICRC(i)
				_, _ = ParseBody(run.Body(i))
				_ = run.AppendPacket(nil, i)
			}
		}
		_ = Format(b)
		p, err := Parse(b)
		if err != nil {
			return
		}
		s := p.Spec()
		out, err := s.Append(nil)
		if err != nil {
			if p.V6() && (p.Src().Is4In6() || p.Dst().Is4In6()) {
				return // such addresses mean IPv4 to Path, and do not occur on a wire
			}
			if len(p.Payload) > 0 && !p.Info().Payload {
				return // an ACK with payload can be read, but not built
			}
			t.Fatalf("%v: %v", &p, err)
		}
		q, err := Parse(out)
		if err != nil || !q.CheckICRC() {
			t.Fatalf("built again: %v", err)
		}
		if !bytes.Equal(q.Payload, p.Payload) {
			t.Fatal("payload differs")
		}
	})
}
