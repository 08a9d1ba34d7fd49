package rdma_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// TestUnreliable: over a bad wire UC delivers a part of the messages, each whole
// and in order, and one that is lost costs no other.
func TestUnreliable(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		clock := memport.NewClock()
		loss := pick(r, 0, 0.02, 0.2)
		pa, pb := memport.NewPair(memport.Config{Clock: clock, Seed: seed, Delay: time.Microsecond, Loss: loss, Dup: pick(r, 0, 0.1)})
		a, b := newSide(t, pa, rdma.Options{}, rdma.UC, 1<<20), newSide(t, pb, rdma.Options{}, rdma.UC, 1<<20)
		connectAt(t, a, b, rdma.QPAttr{PathMTU: roce.MTU256}, 0xfffff8)
		const n, size = 100, 2000
		for i := range n {
			if _, err := b.qp.PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{b.mr.SGE(i*size, size)}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			m := a.buf[i*size : (i+1)*size]
			for k := range m {
				m[k] = byte(i)
			}
			binary.NativeEndian.PutUint64(m, uint64(i))
			if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRSend, SGList: []rdma.SGE{a.mr.SGE(i*size, 8+r.IntN(size-8))}}); err != nil {
				t.Fatal(err)
			}
		}
		for clock.Step() {
		}
		last, got := -1, 0
		for k, wc := range b.poll(t) {
			m := b.buf[k*size:][:wc.ByteLen]
			i := int(binary.NativeEndian.Uint64(m))
			if wc.Err() != nil || wc.ID != uint64(k) || i <= last || i >= n {
				t.Fatalf("seed %d: receive %d holds message %d after %d: %v", seed, k, i, last, wc.Err())
			}
			for _, x := range m[8:] {
				if x != byte(i) {
					t.Fatalf("seed %d: message %d is mixed with %d", seed, i, x)
				}
			}
			last = i
			got++
		}
		if want := map[float64]int{0: n, 0.02: 60, 0.2: 10}[loss]; got < want {
			t.Errorf("seed %d: %d of %d messages with loss %v", seed, got, n, loss)
		}
	}
}
