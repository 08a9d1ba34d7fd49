package rdma_test

import (
	"context"
	"fmt"
	"log"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// peers makes two connected devices with a region of 64 KiB each.
func peers(typ rdma.QPType) (a, b *side) {
	pa, pb := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	make1 := func(p rdma.Port) *side {
		s := &side{buf: make([]byte, 64<<10)}
		var err error
		if s.dev, err = rdma.OpenDevice(p, rdma.Options{}); err != nil {
			log.Fatal(err)
		}
		s.pd, _ = s.dev.AllocPD()
		s.cq, _ = s.dev.CreateCQ(64, nil)
		s.mr, _ = s.pd.RegMR(s.buf, allAccess)
		s.qp, err = s.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: s.cq, RecvCQ: s.cq, SigAll: true,
			Cap: rdma.QPCap{MaxSendWR: 16, MaxRecvWR: 16, MaxSendSGE: 2, MaxRecvSGE: 2, MaxInline: 64}})
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	a, b = make1(pa), make1(pb)
	for _, c := range [][2]*side{{a, b}, {b, a}} {
		if typ == rdma.UD {
			if err := c[0].qp.Activate(0x1234, 0); err != nil {
				log.Fatal(err)
			}
			continue
		}
		i := c[0].dev.DefaultGID()
		gid, _ := c[1].dev.QueryGID(i)
		if err := c[0].qp.Connect(rdma.Remote{QPN: c[1].qp.Num(), GID: gid}, rdma.QPAttr{AH: rdma.AHAttr{SGIDIndex: i}, MaxRdAtomic: 4, Access: allAccess &^ rdma.LocalWrite}); err != nil {
			log.Fatal(err)
		}
	}
	return a, b
}

// do posts a work request and prints its completion.
func (s *side) do(wr rdma.SendWR) {
	if _, err := s.qp.PostSend(wr); err != nil {
		fmt.Println(err)
		return
	}
	s.print()
}

func (s *side) print() {
	var wcs [8]rdma.WC
	n, _ := s.cq.Poll(wcs[:])
	for _, wc := range wcs[:n] {
		fmt.Println(wc.Opcode, wc.Status)
	}
}

func ExampleQP_PostSend_send() {
	a, b := peers(rdma.RC)
	if _, err := b.qp.PostRecv(rdma.RecvWR{ID: 1, SGList: []rdma.SGE{b.mr.SGE(0, 100)}}); err != nil {
		log.Fatal(err)
	}
	n := copy(a.buf, "hello")
	a.do(rdma.SendWR{Opcode: rdma.WRSendImm, Imm: 7, SGList: []rdma.SGE{a.mr.SGE(0, n)}})
	var wc [1]rdma.WC
	_, _ = b.cq.Poll(wc[:])
	fmt.Printf("%v %q imm %d\n", wc[0].Opcode, b.buf[:wc[0].ByteLen], wc[0].Imm)
	// Output:
	// SEND success
	// RECV "hello" imm 7
}

func ExampleQP_PostSend_inline() {
	a, b := peers(rdma.RC)
	a.do(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Inline, Inline: []byte("taken at the post"), RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()})
	fmt.Printf("%s\n", b.buf[:17])
	// Output:
	// RDMA_WRITE success
	// taken at the post
}

func ExampleQP_PostSend_write() {
	a, b := peers(rdma.RC)
	copy(a.buf, "head")
	copy(a.buf[1000:], "tail")
	a.do(rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{a.mr.SGE(0, 4), a.mr.SGE(1000, 4)}, RemoteAddr: b.mr.Addr() + 16, RKey: b.mr.RKey()})
	fmt.Printf("%s\n", b.buf[16:24])
	// Output:
	// RDMA_WRITE success
	// headtail
}

func ExampleQP_PostSend_read() {
	a, b := peers(rdma.RC)
	copy(b.buf[100:], "what the peer has")
	a.do(rdma.SendWR{Opcode: rdma.WRRead, SGList: []rdma.SGE{a.mr.SGE(0, 17)}, RemoteAddr: b.mr.Addr() + 100, RKey: b.mr.RKey()})
	fmt.Printf("%s\n", a.buf[:17])
	// Output:
	// RDMA_READ success
	// what the peer has
}

func ExampleQP_PostSend_atomics() {
	a, b := peers(rdma.RC)
	to := rdma.SendWR{SGList: []rdma.SGE{a.mr.SGE(0, 8)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()}
	add, swap := to, to
	add.Opcode, add.CompareAdd = rdma.WRFetchAdd, 5
	swap.Opcode, swap.CompareAdd, swap.Swap = rdma.WRCompareSwap, 5, 9
	a.do(add)
	a.do(swap)
	fmt.Println("before the swap", a.buf[0], "now", b.buf[0])
	// Output:
	// FETCH_ADD success
	// COMP_SWAP success
	// before the swap 5 now 9
}

func ExampleQP_PostSend_atomicWrite() {
	a, b := peers(rdma.RC)
	a.do(rdma.SendWR{Opcode: rdma.WRAtomicWrite, Flags: rdma.Inline, Inline: []byte("8 bytes!"), RemoteAddr: b.mr.Addr() + 8, RKey: b.mr.RKey()})
	fmt.Printf("%s\n", b.buf[8:16])
	// Output:
	// ATOMIC_WRITE success
	// 8 bytes!
}

func ExampleQP_PostSend_flush() {
	a, b := peers(rdma.RC)
	a.do(rdma.SendWR{Opcode: rdma.WRFlush, Placement: roce.PlaceVisible, FlushLength: 4096, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()})
	// Output:
	// FLUSH success
}

func ExampleQP_PostSend_bindMW() {
	a, b := peers(rdma.RC)
	mw, err := b.pd.AllocMW(rdma.MWType2)
	if err != nil {
		log.Fatal(err)
	}
	key := rdma.IncRKey(mw.RKey())
	b.do(rdma.SendWR{Opcode: rdma.WRBindMW, MW: mw, NewRKey: key, Bind: rdma.BindInfo{MR: b.mr, Addr: b.mr.Addr() + 64, Length: 8, Access: rdma.RemoteWrite}})
	w := rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Inline, Inline: []byte("window"), RemoteAddr: b.mr.Addr() + 64, RKey: key}
	a.do(w)
	b.do(rdma.SendWR{Opcode: rdma.WRLocalInv, InvKey: key})
	a.do(w) // nobody has this key any more
	// Output:
	// BIND_MW success
	// RDMA_WRITE success
	// LOCAL_INV success
	// RDMA_WRITE remote access error
}

func ExampleQP_PostSend_sendInv() {
	a, b := peers(rdma.RC)
	mw, _ := b.pd.AllocMW(rdma.MWType2)
	key := rdma.IncRKey(mw.RKey())
	b.do(rdma.SendWR{Opcode: rdma.WRBindMW, MW: mw, NewRKey: key, Bind: rdma.BindInfo{MR: b.mr, Addr: b.mr.Addr(), Length: 8, Access: rdma.RemoteWrite}})
	_, _ = b.qp.PostRecv(rdma.RecvWR{})
	a.do(rdma.SendWR{Opcode: rdma.WRSendInv, InvKey: key})
	b.print()
	// Output:
	// BIND_MW success
	// SEND success
	// RECV success
}

func ExampleMR_MapPages() {
	a, b := peers(rdma.RC)
	mr, err := b.pd.AllocMR(2)
	if err != nil {
		log.Fatal(err)
	}
	pages := [][]byte{make([]byte, 4096), make([]byte, 4096)}
	if err := mr.MapPages(pages, 0); err != nil {
		log.Fatal(err)
	}
	b.do(rdma.SendWR{Opcode: rdma.WRRegMR, MR: mr, NewRKey: rdma.IncRKey(mr.LKey()), Access: rdma.LocalWrite | rdma.RemoteWrite})
	a.do(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Inline, Inline: []byte("over the edge"), RemoteAddr: 4092, RKey: mr.RKey()})
	fmt.Printf("%s|%s\n", pages[0][4092:], pages[1][:9])
	// Output:
	// REG_MR success
	// RDMA_WRITE success
	// over| the edge
}

func ExampleQP_AttachMcast() {
	a, b := peers(rdma.UD)
	group := rdma.GID{0xff, 0x0e, 15: 9}
	if err := b.qp.AttachMcast(group); err != nil {
		log.Fatal(err)
	}
	fmt.Println("groups of the port:", b.dev.Port().(*memport.Port).Groups())
	_, _ = b.qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{b.mr.SGE(0, 100)}})
	ipv6 := 2
	ah, err := a.pd.CreateAH(rdma.AHAttr{DGID: group, SGIDIndex: ipv6})
	if err != nil {
		log.Fatal(err)
	}
	a.do(rdma.SendWR{Opcode: rdma.WRSend, Flags: rdma.Inline, Inline: []byte("to all"), AH: ah, RemoteQPN: rdma.MulticastQPN, RemoteQKey: 0x1234})
	fmt.Printf("%s\n", b.buf[40:46])
	// Output:
	// groups of the port: 1
	// SEND success
	// to all
}

func ExampleCompChannel() {
	a, b := peers(rdma.UD)
	ch := rdma.NewCompChannel(nil)
	cq, err := a.dev.CreateCQ(8, ch)
	if err != nil {
		log.Fatal(err)
	}
	qp, _ := a.pd.CreateQP(rdma.QPInit{Type: rdma.UD, SendCQ: cq, RecvCQ: cq, SigAll: true, Cap: rdma.QPCap{MaxSendWR: 1}})
	_ = qp.Activate(0x1234, 0)
	gid, _ := b.dev.QueryGID(b.dev.DefaultGID())
	ah, _ := a.pd.CreateAH(rdma.AHAttr{DGID: gid, SGIDIndex: a.dev.DefaultGID()})
	_ = cq.ReqNotify(false)
	_, _ = qp.PostSend(rdma.SendWR{Opcode: rdma.WRSend, AH: ah, RemoteQPN: b.qp.Num(), RemoteQKey: 0x1234})
	got, err := ch.Get(context.Background()) // waits for the event, if need be
	fmt.Println(got == cq, err)
	// Output:
	// true <nil>
}

func ExampleWC_Err() {
	a, b := peers(rdma.RC)
	_, _ = a.qp.PostSend(rdma.SendWR{ID: 4, Opcode: rdma.WRRead, SGList: []rdma.SGE{a.mr.SGE(0, 8)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey() ^ 1})
	var wc [1]rdma.WC
	_, _ = a.cq.Poll(wc[:])
	fmt.Println(wc[0].Err())
	// Output:
	// rdma: qp 0x11 wr 4 psn 0x000000: remote access error: the peer answered NAK remote access error
}

func ExamplePD_CreateSRQ() {
	a, b := peers(rdma.UD)
	srq, err := b.pd.CreateSRQ(rdma.SRQInit{MaxWR: 8, MaxSGE: 1, Limit: 2})
	if err != nil {
		log.Fatal(err)
	}
	gid, _ := b.dev.QueryGID(b.dev.DefaultGID())
	ah, _ := a.pd.CreateAH(rdma.AHAttr{DGID: gid, SGIDIndex: a.dev.DefaultGID()})
	for range 2 { // two queue pairs that share receives
		qp, err := b.pd.CreateQP(rdma.QPInit{Type: rdma.UD, SendCQ: b.cq, RecvCQ: b.cq, SRQ: srq})
		if err != nil {
			log.Fatal(err)
		}
		_ = qp.Activate(0x1234, 0)
		_, _ = srq.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{b.mr.SGE(0, 100)}})
		_, _ = a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRSend, AH: ah, RemoteQPN: qp.Num(), RemoteQKey: 0x1234})
		b.print()
	}
	e, _ := b.dev.PollEvent()
	fmt.Println(e.Type)
	// Output:
	// RECV success
	// RECV success
	// SRQ limit reached
}

func ExampleQP_Modify() {
	a, _ := peers(rdma.RC)
	qp, err := a.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: a.cq, RecvCQ: a.cq})
	if err != nil {
		log.Fatal(err)
	}
	attr := rdma.QPAttr{State: rdma.Init, PortNum: 1, Access: rdma.RemoteWrite}
	fmt.Println(qp.Modify(&attr, rdma.AttrState|rdma.AttrPKeyIndex|rdma.AttrPort))
	fmt.Println(qp.Modify(&attr, rdma.AttrState|rdma.AttrPKeyIndex|rdma.AttrPort|rdma.AttrAccess), qp.State())
	// Output:
	// rdma: modify_qp: qp 0x12: RESET to INIT needs ACCESS_FLAGS (invalid argument)
	// <nil> INIT
}

func ExampleQP_Trace() {
	pa, _ := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	dev, err := rdma.OpenDevice(pa, rdma.Options{TraceDepth: 8})
	if err != nil {
		log.Fatal(err)
	}
	pd, _ := dev.AllocPD()
	cq, _ := dev.CreateCQ(4, nil)
	qp, _ := pd.CreateQP(rdma.QPInit{Type: rdma.UC, SendCQ: cq, RecvCQ: cq, Cap: rdma.QPCap{MaxSendWR: 1, MaxInline: 8}})
	peer := rdma.Remote{QPN: 0x22, GID: rdma.GIDOf(memport.DefaultAddrs[1][0])}
	if err := qp.Connect(peer, rdma.QPAttr{SQPSN: 5, AH: rdma.AHAttr{SGIDIndex: dev.DefaultGID()}}); err != nil {
		log.Fatal(err)
	}
	_, _ = qp.PostSend(rdma.SendWR{Opcode: rdma.WRSend, Flags: rdma.Inline, Inline: []byte("abc")})
	for _, line := range qp.Trace() {
		fmt.Println(line)
	}
	// Output:
	// 1s > UC SEND_ONLY qp=0x22 psn=0x000005 len=3
}
