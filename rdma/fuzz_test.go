package rdma_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// zoo is a device with a queue pair of every type in every state.
type zoo struct {
	dev   *rdma.Device
	pd    *rdma.PD
	cq    *rdma.CQ
	mr    *rdma.MR
	fast  *rdma.MR
	mw    *rdma.MW
	ah    *rdma.AH
	port  *tape
	qps   []*rdma.QP
	clock *memport.Clock
}

var zooPeer = netip.MustParseAddr("10.9.0.2")

func newZoo(t testing.TB) *zoo {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	z := &zoo{clock: memport.NewClock()}
	z.port = &tape{clock: z.clock, mtu: 4500, addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
	var err error
	z.dev, err = rdma.OpenDevice(z.port, rdma.Options{TraceDepth: 4})
	must(err)
	z.pd, err = z.dev.AllocPD()
	must(err)
	z.cq, err = z.dev.CreateCQ(1024, nil)
	must(err)
	z.mr, err = z.pd.RegMRInit(rdma.MRInit{Buf: make([]byte, 16384), Access: allAccess, IOVA: 0x10000, HasIOVA: true})
	must(err)
	z.mr.SetKey(0x100001)
	z.fast, err = z.pd.AllocMR(2)
	must(err)
	must(z.fast.MapPages([][]byte{make([]byte, 4096), make([]byte, 4096)}, 0))
	z.mw, err = z.pd.AllocMW(rdma.MWType2)
	must(err)
	z.ah, err = z.pd.CreateAH(rdma.AHAttr{DGID: rdma.GIDOf(zooPeer)})
	must(err)
	for _, typ := range []rdma.QPType{rdma.RC, rdma.UC, rdma.UD} {
		for _, s := range []rdma.QPState{rdma.Reset, rdma.Init, rdma.RTR, rdma.RTS, rdma.SQD, rdma.Err} {
			qp, err := z.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: z.cq, RecvCQ: z.cq, Cap: rdma.QPCap{MaxSendWR: 16, MaxRecvWR: 16, MaxSendSGE: 2, MaxRecvSGE: 2, MaxInline: 32}})
			must(err)
			z.raise(qp, s)
			z.qps = append(z.qps, qp)
			if s != rdma.Reset {
				_, err = qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{z.mr.SGE(0, 8192)}})
				must(err)
			}
		}
	}
	// The RC queue pair in RTS waits for answers, and one that SQD holds.
	for _, op := range []rdma.WROpcode{rdma.WRWrite, rdma.WRRead, rdma.WRSend, rdma.WRFetchAdd, rdma.WRAtomicWrite, rdma.WRFlush} {
		_, _ = z.qps[3].PostSend(rdma.SendWR{Opcode: op, SGList: []rdma.SGE{z.mr.SGE(0, 8)}, RemoteAddr: 0x10000, RKey: 0x100001, Placement: 1})
	}
	return z
}

// raise takes a queue pair to a state, as far as it goes.
func (z *zoo) raise(qp *rdma.QP, s rdma.QPState) {
	if s == rdma.Reset {
		return
	}
	if qp.Type() == rdma.UD {
		_ = qp.Activate(0x1234, 0x1000)
	} else {
		_ = qp.Connect(rdma.Remote{QPN: 0x99, PSN: 0x1000, GID: rdma.GIDOf(zooPeer)}, rdma.QPAttr{SQPSN: 0x1000, PathMTU: roce.MTU256, MaxRdAtomic: 4,
			Access: rdma.RemoteWrite | rdma.RemoteRead | rdma.RemoteAtomic | rdma.FlushGlobal})
	}
	switch s {
	case rdma.SQD, rdma.Err:
		_ = qp.Modify(&rdma.QPAttr{State: s}, rdma.AttrState)
	case rdma.Init, rdma.RTR:
		_ = qp.Modify(&rdma.QPAttr{State: rdma.Reset}, rdma.AttrState)
		a := rdma.QPAttr{State: rdma.Init, PortNum: 1, QKey: 0x1234, Access: rdma.RemoteWrite}
		mask := rdma.AttrState | rdma.AttrPKeyIndex | rdma.AttrPort | rdma.AttrAccess
		if qp.Type() == rdma.UD {
			mask = rdma.AttrState | rdma.AttrPKeyIndex | rdma.AttrPort | rdma.AttrQKey
		}
		_ = qp.Modify(&a, mask)
		if s == rdma.RTR && qp.Type() == rdma.UD {
			_ = qp.Modify(&rdma.QPAttr{State: rdma.RTR}, rdma.AttrState)
		}
	}
}

func (z *zoo) close(t testing.TB) {
	t.Helper()
	for range 10000 {
		if !z.clock.Step() {
			break
		}
	}
	for _, q := range z.qps {
		if err := q.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzReceive gives packets to every queue pair of the zoo: two bytes choose the
// queue pair and the opcode, two the PSN and flags, the rest is what follows the
// BTH; addresses and ICRC are right. With the first byte 0xff the bytes are the
// packet as it stands.
func FuzzReceive(f *testing.F) {
	for op := range 256 {
		if roce.Opcode(op).Known() {
			f.Add([]byte{3, byte(op), 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
			f.Add([]byte{9, byte(op), 1, 0x80})
		}
	}
	f.Add([]byte{0xff, 0x45, 0, 0, 40})
	f.Fuzz(func(t *testing.T, b []byte) {
		z := newZoo(t)
		defer z.close(t)
		for len(b) > 4 {
			n := min(len(b), 4+int(b[0]>>1)+24)
			z.inject(b[:n])
			b = b[n:]
		}
		var wcs [64]rdma.WC
		for n, _ := z.cq.Poll(wcs[:]); n > 0; n, _ = z.cq.Poll(wcs[:]) {
			for _, w := range wcs[:n] {
				_ = w.Err()
			}
		}
	})
}

func (z *zoo) inject(b []byte) {
	if b[0] == 0xff {
		z.port.deliver(b[1:])
		return
	}
	q := z.qps[int(b[0])%len(z.qps)]
	body := make([]byte, roce.BTHLen, len(b)+64)
	roce.BTH(body).Encode(&roce.BTHFields{
		Opcode: roce.Opcode(b[1]), PKey: 0xffff, DestQP: q.Num(), PSN: roce.PSN(0x1000 + int(int8(b[2]))), AckReq: b[3]&0x80 != 0,
		Solicited: b[3]&1 != 0, Pad: b[3] >> 1 & 3,
	})
	body = append(append(body, b[4:]...), 0, 0, 0, 0)
	path := roce.Path{Src: zooPeer, Dst: netip.MustParseAddr("10.9.0.1"), SrcPort: 5, TOS: b[3] >> 4 & 3}
	p := make([]byte, 28+len(body))
	path.Put(p, len(body), 7)
	copy(p[28:], body)
	roce.PutICRC(p)
	z.port.deliver(p)
}

// FuzzVerbs posts and modifies with whatever the bytes say.
func FuzzVerbs(f *testing.F) {
	f.Add([]byte{0, 3, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 3, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		z := newZoo(t)
		defer z.close(t)
		live := packet.Live()
		for len(b) >= 12 {
			z.verb(b[:12])
			b = b[12:]
		}
		for range 1000 {
			if !z.clock.Step() {
				break
			}
		}
		if n := packet.Live() - live; n != 0 {
			t.Errorf("%d packets leaked", n)
		}
	})
}

func (z *zoo) verb(b []byte) {
	q := z.qps[int(b[1])%len(z.qps)]
	w := binary.BigEndian.Uint64(b[4:])
	sge := []rdma.SGE{{Addr: 0x10000 + w&0x7fff, Length: uint32(b[3]) * 100, LKey: 0x100001 + uint32(b[2]&1)}, z.mr.SGE(0, 4)}[:1+b[2]>>7]
	switch b[0] % 8 {
	case 0, 1:
		wr := rdma.SendWR{ID: w, Opcode: rdma.WROpcode(b[2] % 34), Flags: rdma.SendFlags(b[3]), SGList: sge, RemoteAddr: w, RKey: uint32(w), InvKey: uint32(w),
			MR: z.fast, MW: z.mw, NewRKey: uint32(w), Access: rdma.Access(b[3]), AH: z.ah, RemoteQPN: uint32(w) & 0xffffff, FlushLength: uint32(b[3]),
			Placement: roce.Placement(b[3]), Selectivity: roce.Selectivity(b[2] >> 6), Bind: rdma.BindInfo{MR: z.mr, Addr: 0x10000 + uint64(b[2]), Length: uint64(b[3]), Access: rdma.RemoteRead}}
		if b[2]&0x40 != 0 {
			wr.NewRKey = z.mw.RKey() + 1
		}
		_, _ = q.PostSend(wr)
	case 2, 3:
		a := rdma.QPAttr{State: rdma.QPState(b[2] % 8), PathMTU: roce.MTU(b[3] % 7), DestQPN: uint32(w), RQPSN: roce.PSN(w >> 8), SQPSN: roce.PSN(w >> 16),
			Access: rdma.Access(b[4]), MaxRdAtomic: b[5], MaxDestRdAtomic: b[6], MinRNRTimer: b[7], Timeout: b[8], RetryCnt: b[9] & 15, RNRRetry: b[10] & 15, PortNum: 1,
			PKeyIndex: uint16(b[11] & 1), QKey: uint32(w), AH: rdma.AHAttr{DGID: rdma.GIDOf(zooPeer), SGIDIndex: int(b[11] >> 7)}}
		_ = q.Modify(&a, rdma.AttrMask(w>>32)|rdma.AttrState)
	case 4:
		_, _ = q.PostRecv(rdma.RecvWR{ID: w, SGList: sge})
	case 5:
		z.raise(q, rdma.QPState(b[2]%7))
	case 6:
		z.inject(append([]byte{b[1] & 0x7f}, b[2:]...))
	case 7:
		z.clock.Step()
		_, _ = q.Query()
		_ = q.Trace()
	}
}

// TestNoAllocation: a message costs no memory, once pools are warm.
func TestNoAllocation(t *testing.T) {
	pa, pb := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	a, b := newSide(t, pa, rdma.Options{TraceDepth: 16}, rdma.RC, 1<<20), newSide(t, pb, rdma.Options{TraceDepth: 16}, rdma.RC, 1<<20)
	connect(t, a, b, rdma.QPAttr{MaxRdAtomic: 4})
	for _, c := range []struct {
		op   rdma.WROpcode
		size int
	}{{rdma.WRWrite, 64}, {rdma.WRWrite, 100000}, {rdma.WRSend, 64}, {rdma.WRSend, 100000}, {rdma.WRRead, 100000}, {rdma.WRFetchAdd, 8}} {
		sges := []rdma.SGE{a.mr.SGE(0, c.size)}
		recv := []rdma.SGE{b.mr.SGE(0, c.size)}
		wr := []rdma.SendWR{{Opcode: c.op, Flags: rdma.Signaled, SGList: sges, RemoteAddr: (b.mr.Addr() + 7) &^ 7, RKey: b.mr.RKey()}}
		rwr := []rdma.RecvWR{{SGList: recv}}
		var wcs [8]rdma.WC
		n := testing.AllocsPerRun(200, func() {
			if c.op == rdma.WRSend {
				_, _ = b.qp.PostRecv(rwr...)
			}
			if _, err := a.qp.PostSend(wr...); err != nil {
				t.Fatal(err)
			}
			for k := 0; k == 0; {
				k, _ = a.cq.Poll(wcs[:])
			}
			_, _ = b.cq.Poll(wcs[1:])
			if err := wcs[0].Err(); err != nil {
				t.Fatal(err)
			}
		})
		if n >= 1 && !raceEnabled {
			t.Errorf("%v of %d bytes: %v allocations", c.op, c.size, n)
		}
	}
}
