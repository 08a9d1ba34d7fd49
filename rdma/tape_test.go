package rdma_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"taproom/rdma"
	"taproom/rdma/internal/replay"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// tape is a port that keeps what is sent, packet by packet.
type tape struct {
	clock *memport.Clock
	mtu   int
	addrs []netip.Addr
	recv  rdma.Receiver
	sent  [][]byte
}

func (p *tape) Open(r rdma.Receiver) error { p.recv = r; return nil }
func (p *tape) Close() error               { return nil }
func (p *tape) Join(netip.Addr) error      { return nil }
func (p *tape) Leave(netip.Addr) error     { return nil }
func (p *tape) Clock() rdma.Clock          { return p.clock }
func (p *tape) Info() rdma.PortInfo {
	return rdma.PortInfo{MTU: p.mtu, Up: true, MaxRun: 1, Addrs: p.addrs}
}
func (p *tape) Send(k *packet.Packet) error {
	p.sent = append(p.sent, append([]byte(nil), k.Head()...))
	k.Release()
	return nil
}

func (p *tape) deliver(b []byte) {
	k := packet.New(b)
	p.recv.Receive(k)
	k.Release()
}

// player is one side of a recording, played by this package.
type player struct {
	t    *testing.T
	s    *replay.Scenario
	who  replay.Who
	port *tape
	dev  *rdma.Device
	pd   *rdma.PD
	cq   *rdma.CQ
	mr   *rdma.MR
	qp   *rdma.QP
	ah   *rdma.AH
	mem  []byte
	wcs  []rdma.WC
}

func newPlayer(t *testing.T, s *replay.Scenario, who replay.Who) *player {
	t.Helper()
	p := &player{t: t, s: s, who: who}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var own, peer netip.Addr
	for _, k := range s.Packets {
		if k.From == who {
			own, peer = k.Src(), k.Dst()
		} else {
			own, peer = k.Dst(), k.Src()
		}
	}
	o, side := s.Verbx, s.Side(who)
	mtu := 1500
	if o.MTU > 1024 {
		mtu = 4500
	}
	p.port = &tape{clock: memport.NewClock(), mtu: mtu, addrs: []netip.Addr{own}}
	var err error
	p.dev, err = rdma.OpenDevice(p.port, rdma.Options{LikeRxe: true, TraceDepth: 256})
	must(err)
	p.pd, err = p.dev.AllocPD()
	must(err)
	p.cq, err = p.dev.CreateCQ(512, nil)
	must(err)
	access := rdma.Access(0xf)
	p.mem = replay.ClientMemory()
	if who == replay.Server {
		p.mem, access = replay.ServerMemory(), rdma.Access(s.Server.Options.Access)
	}
	p.mr, err = p.pd.RegMRInit(rdma.MRInit{Buf: p.mem, Access: access | rdma.BindMW, IOVA: side.Local.Addr, HasIOVA: true})
	must(err)
	if side.Local.RKey != 0 {
		p.mr.SetKey(side.Local.RKey)
	}
	typ := map[string]rdma.QPType{"RC": rdma.RC, "UC": rdma.UC, "UD": rdma.UD}[o.Type]
	p.qp, err = p.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: p.cq, RecvCQ: p.cq, WantQPN: side.Local.QPN,
		Cap: rdma.QPCap{MaxSendWR: 256, MaxRecvWR: 256, MaxSendSGE: 2, MaxRecvSGE: 2, MaxInline: 64}})
	must(err)
	if typ == rdma.UD {
		must(p.qp.Activate(replay.QKey, side.Local.PSN))
		p.ah, err = p.pd.CreateAH(rdma.AHAttr{DGID: rdma.GIDOf(peer)})
		must(err)
		return p
	}
	m, err := roce.MTUOf(o.MTU)
	must(err)
	a := rdma.QPAttr{
		State: rdma.Init, PortNum: 1, Access: 0xe, PathMTU: m, DestQPN: side.Remote.QPN, RQPSN: side.Remote.PSN, SQPSN: side.Local.PSN,
		AH: rdma.AHAttr{DGID: rdma.GIDOf(peer), HopLimit: 64}, MaxDestRdAtomic: o.RdAtomic, MinRNRTimer: s.Server.Options.RNRTimer,
		Timeout: o.Timeout, RetryCnt: o.Retry, RNRRetry: o.RNRRetry, MaxRdAtomic: o.RdAtomic,
	}
	if who == replay.Server {
		a.Access = rdma.Access(s.Server.Options.Access) & 0xe
	}
	must(p.qp.Modify(&a, rdma.AttrState|rdma.AttrPKeyIndex|rdma.AttrPort|rdma.AttrAccess))
	rtr, rts := rdma.AttrState|rdma.AttrAV|rdma.AttrPathMTU|rdma.AttrDestQPN|rdma.AttrRQPSN, rdma.AttrState|rdma.AttrSQPSN
	if typ == rdma.RC {
		rtr |= rdma.AttrMaxDestRdAtomic | rdma.AttrMinRNRTimer
		rts |= rdma.AttrTimeout | rdma.AttrRetryCnt | rdma.AttrRNRRetry | rdma.AttrMaxRdAtomic
	}
	a.State = rdma.RTR
	must(p.qp.Modify(&a, rtr))
	a.State = rdma.RTS
	must(p.qp.Modify(&a, rts))
	return p
}

// poll collects completions.
func (p *player) poll() {
	var b [64]rdma.WC
	for {
		n, err := p.cq.Poll(b[:])
		if err != nil {
			p.t.Fatal(err)
		}
		if n == 0 {
			return
		}
		p.wcs = append(p.wcs, b[:n]...)
	}
}

// as returns a packet of ours with the IPv4 identification of another, which
// counts on from an unknown number in each recording: all else must be equal.
func as(ours []byte, id uint16) []byte {
	b := append([]byte(nil), ours...)
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[4:], id)
		roce.FixIPv4(b)
		roce.PutICRC(b)
	}
	return b
}

// compare checks packets of ours against recorded ones; opcodes where given are
// not looked at (the wire of the recording changed them).
func compare(ours [][]byte, want []replay.Packet) error {
	for i := range max(len(ours), len(want)) {
		switch {
		case i >= len(ours):
			return fmt.Errorf("packet %d of %d is missing: %v", i, len(want), &want[i].Packet)
		case i >= len(want):
			return fmt.Errorf("%d packets too many, the first %s", len(ours)-len(want), roce.Format(ours[i]))
		case len(ours[i]) < 28 || !roce.CheckICRC(ours[i]):
			return fmt.Errorf("packet %d has a wrong ICRC: %s", i, roce.Format(ours[i]))
		}
		w := want[i].Packet.Bytes()
		if string(as(ours[i], want[i].ID())) == string(w) {
			continue
		}
		if !want[i].CheckICRC() && string(ours[i][48:len(ours[i])-4]) != string(w[48:len(w)-4]) {
			continue // the wire changed this one
		}
		return fmt.Errorf("packet %d:\n ours     %s\n recorded %v", i, roce.Format(ours[i]), &want[i].Packet)
	}
	return nil
}
