package nodeport_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/nodeport"
	"taproom/rdma/roce"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// host is a node with one interface and a peer, enough of hook.Host for a port.
type host struct {
	hook.Router
	table  *hook.Table
	iface  hook.Interface
	peer   *host
	change []func()
	groups map[netip.Addr]int
	passed int // packets that reached the sockets
	runs   int
}

func newHost(n byte) *host {
	return &host{table: hook.NewTable(), groups: make(map[netip.Addr]int), iface: hook.Interface{
		Index: 3, Name: "eth0", MTU: 1500, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, n}, Up: true, USO: true,
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 24), netip.MustParsePrefix("fd00::" + string('0'+rune(n)) + "/64")},
	}}
}

func (h *host) Attach(pt hook.Point, f hook.Handler, o hook.Options) (*hook.Link, error) {
	return h.table.Attach(pt, f, o)
}
func (h *host) Interface(i int) (hook.Interface, bool)               { return h.iface, i == 3 }
func (h *host) OnChange(f func()) func()                             { h.change = append(h.change, f); return func() {} }
func (h *host) JoinGroup(_ int, g netip.Addr) error                  { h.groups[g]++; return nil }
func (h *host) LeaveGroup(_ int, g netip.Addr) error                 { h.groups[g]--; return nil }
func (h *host) Now() time.Time                                       { return time.Unix(0, 0) }
func (h *host) ToNeighbor(_ int, p *hook.Packet, _ netip.Addr) error { return h.Send(p) }

func (h *host) Send(p *hook.Packet) error {
	if p.GSO.Type == packet.GSOUDP {
		h.runs++
	}
	q := packet.New(p.Head())
	q.GSO, q.In = p.GSO, 3
	p.Release()
	f := hook.IPv4
	if q.Head()[0]>>4 == 6 {
		f = hook.IPv6
	}
	if h.peer.table.Run(hook.Input, f, q) == hook.Stolen {
		return nil
	}
	h.peer.passed++
	q.Release()
	return nil
}

type end struct {
	dev *rdma.Device
	pd  *rdma.PD
	cq  *rdma.CQ
	qp  *rdma.QP
	mr  *rdma.MR
	buf []byte
}

func open(t *testing.T, h *host, typ rdma.QPType) *end {
	t.Helper()
	e := &end{buf: make([]byte, 1<<20)}
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	port, err := nodeport.New(nodeport.Config{Host: h, Interface: 3, Clock: memport.NewClock()})
	check(err)
	e.dev, err = rdma.OpenDevice(port, rdma.Options{})
	check(err)
	e.pd, err = e.dev.AllocPD()
	check(err)
	e.cq, err = e.dev.CreateCQ(64, nil)
	check(err)
	e.mr, err = e.pd.RegMR(e.buf, rdma.LocalWrite|rdma.RemoteWrite)
	check(err)
	e.qp, err = e.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: e.cq, RecvCQ: e.cq, Cap: rdma.QPCap{MaxSendWR: 16, MaxRecvWR: 16, MaxSendSGE: 1, MaxRecvSGE: 1}})
	check(err)
	return e
}

func pair() (a, b *host) {
	a, b = newHost(1), newHost(2)
	a.peer, b.peer = b, a
	return a, b
}

func TestWriteOverHooks(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		ha, hb := pair()
		a, b := open(t, ha, rdma.RC), open(t, hb, rdma.RC)
		idx := 1 // 0 is link-local
		if v6 {
			idx = 2
		}
		for _, c := range [][2]*end{{a, b}, {b, a}} {
			g, err := c[1].dev.QueryGID(idx)
			if err != nil {
				t.Fatal(err)
			}
			if err := c[0].qp.Connect(rdma.Remote{QPN: c[1].qp.Num(), GID: g}, rdma.QPAttr{AH: rdma.AHAttr{SGIDIndex: idx}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range a.buf {
			a.buf[i] = byte(i * 31)
		}
		if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{a.mr.SGE(0, 200000)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()}); err != nil {
			t.Fatal(err)
		}
		var wc [1]rdma.WC
		if n, _ := a.cq.Poll(wc[:]); n != 1 || wc[0].Err() != nil {
			t.Fatalf("v6 %v: %d completions, %v", v6, n, wc[0].Err())
		}
		if !bytes.Equal(a.buf[:200000], b.buf[:200000]) {
			t.Error("memory differs")
		}
		if ha.runs == 0 || hb.passed != 0 {
			t.Errorf("%d runs, %d packets past the hook", ha.runs, hb.passed)
		}
		ha.iface.Up = false
		ha.change[0]()
		if s := a.dev.QueryPort().State; s != rdma.PortDown {
			t.Errorf("port is %v", s)
		}
	}
}

func TestOthersPass(t *testing.T) {
	ha, hb := pair()
	open(t, hb, rdma.RC)
	for _, dst := range []string{"10.0.0.2", "10.0.0.9"} {
		s := roce.Spec{Path: roce.Path{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr(dst)}, BTH: roce.BTHFields{Opcode: roce.RCSendOnly}}
		b, err := s.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = ha.Send(packet.New(b))
		b[22]++ // another UDP port
		_ = ha.Send(packet.New(b))
	}
	if hb.passed != 3 {
		t.Errorf("%d packets passed, want the three that are not for the device", hb.passed)
	}
}

func TestMulticast(t *testing.T) {
	ha, hb := pair()
	a, b := open(t, ha, rdma.UD), open(t, hb, rdma.UD)
	for _, e := range []*end{a, b} {
		if err := e.qp.Activate(0x1234, 7); err != nil {
			t.Fatal(err)
		}
	}
	group := rdma.GIDOf(netip.MustParseAddr("239.1.1.1"))
	if err := b.qp.AttachMcast(group); err != nil {
		t.Fatal(err)
	}
	if hb.groups[group.Addr()] != 1 {
		t.Error("the node did not join")
	}
	if _, err := b.qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{b.mr.SGE(0, 100)}}); err != nil {
		t.Fatal(err)
	}
	ah, err := a.pd.CreateAH(rdma.AHAttr{DGID: group, SGIDIndex: 1})
	if err != nil {
		t.Fatal(err)
	}
	copy(a.buf, "hello")
	if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRSend, SGList: []rdma.SGE{a.mr.SGE(0, 5)}, AH: ah, RemoteQPN: rdma.MulticastQPN, RemoteQKey: 0x1234}); err != nil {
		t.Fatal(err)
	}
	var wc [1]rdma.WC
	if n, _ := b.cq.Poll(wc[:]); n != 1 || wc[0].Err() != nil || string(b.buf[40:45]) != "hello" {
		t.Fatalf("%d completions: %+v", n, wc[0])
	}
	if err := b.qp.DetachMcast(group); err != nil || hb.groups[group.Addr()] != 0 {
		t.Errorf("leave: %v, %v", err, hb.groups)
	}
}
