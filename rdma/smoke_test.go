package rdma_test

import (
	"bytes"
	"testing"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// side is one end of a test: a device with one queue pair and one region.
type side struct {
	dev *rdma.Device
	pd  *rdma.PD
	cq  *rdma.CQ
	mr  *rdma.MR
	buf []byte
	qp  *rdma.QP
}

const allAccess = rdma.LocalWrite | rdma.RemoteWrite | rdma.RemoteRead | rdma.RemoteAtomic | rdma.BindMW | rdma.FlushGlobal

func newSide(t testing.TB, p rdma.Port, o rdma.Options, typ rdma.QPType, size int) *side {
	t.Helper()
	s := &side{}
	var err error
	must := func(e error) {
		if e != nil {
			t.Helper()
			t.Fatal(e)
		}
	}
	s.dev, err = rdma.OpenDevice(p, o)
	must(err)
	s.pd, err = s.dev.AllocPD()
	must(err)
	s.cq, err = s.dev.CreateCQ(4096, nil)
	must(err)
	s.buf = make([]byte, size)
	s.mr, err = s.pd.RegMR(s.buf, allAccess)
	must(err)
	s.qp, err = s.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: s.cq, RecvCQ: s.cq, Cap: rdma.QPCap{MaxSendWR: 256, MaxRecvWR: 256, MaxSendSGE: 4, MaxRecvSGE: 4, MaxInline: 256}})
	must(err)
	return s
}

func connect(t testing.TB, a, b *side, attr rdma.QPAttr) {
	t.Helper()
	connectAt(t, a, b, attr, 0x1000)
}

func connectAt(t testing.TB, a, b *side, attr rdma.QPAttr, psn roce.PSN) {
	t.Helper()
	gid := func(s *side) rdma.GID { g, _ := s.dev.QueryGID(s.dev.DefaultGID()); return g }
	if attr.Access == 0 {
		attr.Access = rdma.RemoteWrite | rdma.RemoteRead | rdma.RemoteAtomic | rdma.FlushGlobal
	}
	for _, c := range [][2]*side{{a, b}, {b, a}} {
		x := attr
		x.AH.SGIDIndex = c[0].dev.DefaultGID()
		x.SQPSN = psn
		if err := c[0].qp.Connect(rdma.Remote{QPN: c[1].qp.Num(), PSN: psn, GID: gid(c[1])}, x); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *side) poll(t testing.TB) (wcs []rdma.WC) {
	t.Helper()
	var b [64]rdma.WC
	for {
		n, err := s.cq.Poll(b[:])
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return wcs
		}
		wcs = append(wcs, b[:n]...)
	}
}

func TestSmoke(t *testing.T) {
	pa, pb := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	a, b := newSide(t, pa, rdma.Options{TraceDepth: 64}, rdma.RC, 1<<20), newSide(t, pb, rdma.Options{}, rdma.RC, 1<<20)
	connect(t, a, b, rdma.QPAttr{MaxRdAtomic: 4})
	for i := range a.buf {
		a.buf[i] = byte(i*7 + i>>8)
	}
	if _, err := b.qp.PostRecv(rdma.RecvWR{ID: 5, SGList: []rdma.SGE{b.mr.SGE(0, 70000)}}); err != nil {
		t.Fatal(err)
	}
	post := func(wr rdma.SendWR) {
		t.Helper()
		wr.Flags |= rdma.Signaled
		if _, err := a.qp.PostSend(wr); err != nil {
			t.Fatal(err)
		}
		wcs := a.poll(t)
		if len(wcs) != 1 || wcs[0].Err() != nil {
			t.Fatalf("%+v; trace %v", wcs, a.qp.Trace())
		}
	}
	post(rdma.SendWR{ID: 1, Opcode: rdma.WRSend, SGList: []rdma.SGE{a.mr.SGE(3, 65535)}})
	if wcs := b.poll(t); len(wcs) != 1 || wcs[0].ByteLen != 65535 || wcs[0].ID != 5 {
		t.Fatalf("receiver: %+v", wcs)
	}
	if !bytes.Equal(b.buf[:65535], a.buf[3:65538]) {
		t.Fatal("SEND: memory differs")
	}
	post(rdma.SendWR{ID: 2, Opcode: rdma.WRWrite, SGList: []rdma.SGE{a.mr.SGE(0, 500001)}, RemoteAddr: b.mr.Addr() + 7, RKey: b.mr.RKey()})
	if !bytes.Equal(b.buf[7:500008], a.buf[:500001]) {
		t.Fatal("WRITE: memory differs")
	}
	post(rdma.SendWR{ID: 3, Opcode: rdma.WRRead, SGList: []rdma.SGE{a.mr.SGE(600000, 300001)}, RemoteAddr: b.mr.Addr() + 7, RKey: b.mr.RKey()})
	if !bytes.Equal(a.buf[600000:900001], a.buf[:300001]) {
		t.Fatal("READ: memory differs")
	}
	copy(b.buf, []byte{42, 0, 0, 0, 0, 0, 0, 0})
	post(rdma.SendWR{ID: 4, Opcode: rdma.WRFetchAdd, SGList: []rdma.SGE{a.mr.SGE(0, 8)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey(), CompareAdd: 0x100})
	if a.buf[0] != 42 || b.buf[0] != 42 || b.buf[1] != 1 {
		t.Fatalf("FETCH_ADD: %x %x", a.buf[:8], b.buf[:8])
	}
	post(rdma.SendWR{ID: 5, Opcode: rdma.WRAtomicWrite, Inline: []byte("abcdefgh"), Flags: rdma.Inline, RemoteAddr: b.mr.Addr() + 8, RKey: b.mr.RKey()})
	if string(b.buf[8:16]) != "abcdefgh" {
		t.Fatalf("ATOMIC_WRITE: %q", b.buf[8:16])
	}
	post(rdma.SendWR{ID: 6, Opcode: rdma.WRFlush, FlushLength: 100, Placement: 1, RemoteAddr: b.mr.Addr() + 8, RKey: b.mr.RKey()})
	t.Logf("%+v", a.dev.Counters())
}
