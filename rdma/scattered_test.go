package rdma_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/stack/packet"
)

// cutter is a port that hands frames over in pieces, as devices do whose buffers
// are smaller than a super-frame.
type cutter struct {
	*memport.Port
	peer *cutter
	recv rdma.Receiver
	rng  *rand.Rand
	runs int
}

func (c *cutter) Open(r rdma.Receiver) error { c.recv = r; return nil }

func (c *cutter) Send(k *packet.Packet) error {
	b := k.Head()
	if k.GSO.Type == packet.GSOUDP {
		c.runs++
	}
	n := 1 + c.rng.IntN(len(b))
	q := packet.New(b[:n])
	q.GSO = k.GSO
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = min(1+c.rng.IntN(9000), len(b))
		q.AppendShared(bytes.Clone(b[:n]), nil)
	}
	c.peer.recv.Receive(q)
	q.Release()
	k.Release()
	return nil
}

func TestScatteredRun(t *testing.T) {
	pa, pb := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	ca, cb := &cutter{Port: pa, rng: rand.New(rand.NewPCG(1, 1))}, &cutter{Port: pb, rng: rand.New(rand.NewPCG(1, 2))}
	ca.peer, cb.peer = cb, ca
	a, b := newSide(t, ca, rdma.Options{}, rdma.RC, 1<<20), newSide(t, cb, rdma.Options{}, rdma.RC, 1<<20)
	connect(t, a, b, rdma.QPAttr{Timeout: 20})
	for round := range 20 {
		for i := range a.buf {
			a.buf[i] = byte(i * (round + 3))
		}
		if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{a.mr.SGE(0, 1<<20-round)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()}); err != nil {
			t.Fatal(err)
		}
		if got := statuses(a.poll(t)); !equal(got, []rdma.Status{ok}) || !bytes.Equal(a.buf[:1<<20-round], b.buf[:1<<20-round]) {
			t.Fatalf("round %d: %v, %+v", round, got, b.dev.Counters())
		}
	}
	if c := b.dev.Counters(); ca.runs == 0 || c.ICRCErr+c.Malformed+c.OutOfSeqRequest > 0 {
		t.Errorf("%d runs, %+v", ca.runs, c)
	}
}
