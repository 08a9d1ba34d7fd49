package packet

import (
	"encoding/binary"
	"testing"
)

// Flows that differ in a port only are spread over any number of queues.
func TestFlowHashSpreads(t *testing.T) {
	for _, n := range []uint32{2, 3, 4, 8} {
		hits := make([]int, n)
		for port := range 256 {
			b := make([]byte, 28)
			b[0], b[9] = 0x45, ProtoUDP
			binary.BigEndian.PutUint16(b[20:], uint16(30000+port))
			p := New(b)
			p.SetL3(0)
			hits[p.FlowHash()%n]++
			p.Release()
		}
		for q, h := range hits {
			if h < 256/int(n)/2 {
				t.Errorf("of %d queues number %d has %d of 256 flows", n, q, h)
			}
		}
	}
}
