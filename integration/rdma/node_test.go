package rdma

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/rdma"
	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/wire"
)

func TestExchange(t *testing.T) {
	for _, p := range paths {
		for net, name := range []string{"v4", "v6"} {
			t.Run(p.name+"/"+name, func(t *testing.T) {
				a, b := p.nodes(t)
				connect(t, a, b, net, rdma.QPAttr{})
				exchange(t, a, b)
			})
		}
	}
}

// dropper drops every n-th packet that it sees of RoCE. It takes no
// super-frames: a rule that drops does so packet by packet.
type dropper struct {
	n             uint64
	seen, dropped atomic.Uint64
}

func (d *dropper) Handle(pt hook.Point, p *hook.Packet) hook.Verdict {
	h := p.Head()
	if pt.Frame() { // there is an Ethernet header
		if len(h) < 14 {
			return hook.Continue
		}
		h = h[14:]
	}
	l := 20
	if len(h) > 0 && h[0]>>4 == 6 {
		l = 40
	}
	if len(h) < l+8 || int(h[l+2])<<8|int(h[l+3]) != 4791 {
		return hook.Continue
	}
	if d.seen.Add(1)%d.n != 0 {
		return hook.Continue
	}
	d.dropped.Add(1)
	return hook.Drop
}

// TestDroppedByHooks: RoCE passes the hooks of a node like other packets, so a
// rule can lose some of it, in and out. The transfer survives.
func TestDroppedByHooks(t *testing.T) {
	for _, p := range paths {
		for _, pt := range []hook.Point{hook.Ingress, hook.Prerouting, hook.Input, hook.Output, hook.Postrouting, hook.Egress} {
			t.Run(fmt.Sprint(p.name, "/", pt), func(t *testing.T) {
				a, b := p.nodes(t)
				connect(t, a, b, 0, rdma.QPAttr{Timeout: 12, RetryCnt: 7})
				at := b
				if pt == hook.Output || pt == hook.Postrouting || pt == hook.Egress {
					at = a
				}
				d := &dropper{n: 53}
				o := hook.Options{Name: "dropper", NoGSO: true, Priority: -200}
				if pt.Frame() {
					o = hook.Options{Name: "dropper", NoGSO: true, Interface: at.iface.Index(), Anchor: hook.Head()}
				}
				link, err := at.node.Attach(pt, d, o)
				must(t, err)
				defer link.Close()
				exchange(t, a, b)
				again := a.qp.Counters()
				peer := b.qp.Counters()
				if d.dropped.Load() < 5 {
					t.Errorf("only %d of %d packets dropped", d.dropped.Load(), d.seen.Load())
				}
				if peer.OutOfSeqRequest+peer.DuplicateRequest+again.RcvdSeqErr+again.ImpliedNaks+again.Timeouts+again.Probes == 0 {
					t.Errorf("no counter shows the loss: %+v, %+v", again, peer)
				}
				t.Logf("%d of %d dropped; out of sequence %d, NAKs %d, implied %d, time-outs %d, probes %d", d.dropped.Load(), d.seen.Load(),
					peer.OutOfSeqRequest, again.RcvdSeqErr, again.ImpliedNaks, again.Timeouts, again.Probes)
			})
		}
	}
}

// TestTraced: traces of IOAM around and in RoCE packets. In an outer header the
// packet is untouched; inside it the ICRC would be wrong, which is refused unless
// the receiver takes the trace out again.
func TestTraced(t *testing.T) {
	base := ioam.Tunnel{Prefix: netip.MustParsePrefix("fd77::/64"), Namespace: 7, Type: 0xf00000, Size: 48}
	encap, auto, inline, stripped := base, base, base, base
	encap.Mode, encap.Dst = ioam.Encap, netip.MustParseAddr("fd78::2")
	auto.Mode, auto.Dst = ioam.Auto, netip.MustParseAddr("fd78::2")
	inline.Mode = ioam.Inline
	stripped.Mode, stripped.Stripped = ioam.Inline, true
	for _, c := range []struct {
		name     string
		tun      ioam.Tunnel
		sent     ioam.Counter // on the sender
		received ioam.Counter
	}{
		{"encap", encap, ioam.Encapsulated, ioam.Decapsulated},
		{"auto", auto, ioam.Encapsulated, ioam.Decapsulated},
		{"inline refused", inline, ioam.RefusedRoCE, ioam.RefusedRoCE},
		{"inline stripped", stripped, ioam.Inserted, ioam.Stripped},
	} {
		for _, p := range paths {
			t.Run(c.name+"/"+p.name, func(t *testing.T) {
				a, b := p.nodes(t)
				in := ioamNode(t, a.node, 1, ioam.Config{Tunnels: []ioam.Tunnel{c.tun}})
				out := ioamNode(t, b.node, 2, ioam.Config{Decapsulate: true})
				connect(t, a, b, 1, rdma.QPAttr{})
				// The sender's neighbour advertisements are for the tunnel's
				// prefix as well, and of no use with a trace in them.
				must(t, b.node.AddNeighbor("eth0", a.addr(1), a.iface.HardwareAddr()))
				exchange(t, a, b)
				if in.Count(c.sent) == 0 {
					t.Errorf("%v is 0: %v", c.sent, in.Counters())
				}
				if c.sent == ioam.RefusedRoCE {
					if n := in.Count(ioam.Inserted); n != 0 || c.sent.Reason() == "" {
						t.Errorf("%d traces inserted, reason %q", n, c.sent.Reason())
					}
					return
				}
				if out.Count(c.received) == 0 || out.Count(ioam.Filled) == 0 {
					t.Errorf("the receiver's counters: %v", out.Counters())
				}
				t.Logf("%v %d, %v %d", c.sent, in.Count(c.sent), c.received, out.Count(c.received))
			})
		}
	}
}

func ioamNode(t *testing.T, n *stack.Node, id uint32, c ioam.Config) *ioam.Node {
	t.Helper()
	c.NodeID = &id
	c.Namespaces = []ioam.Namespace{{ID: 7}}
	c.Interfaces = make(map[int]ioam.Interface)
	for _, i := range n.Interfaces() {
		c.Interfaces[i.Index] = ioam.Interface{Enabled: true}
	}
	in, err := ioam.Attach(n, c)
	must(t, err)
	t.Cleanup(func() { _ = in.Close() })
	return in
}

// TestOneProcess: queue pairs of one device, and of two devices of one node.
func TestOneProcess(t *testing.T) {
	a, _ := overWire(t)
	x, _, err := wire.New(wire.Config{Name: "second", MTU: linkMTU})
	must(t, err)
	i, err := a.node.AddInterface(x, stack.InterfaceConfig{
		Name: "eth1", Addr: net.HardwareAddr{2, 0, 0, 0, 1, 9}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.78.0.1/24"), netip.MustParsePrefix("fd79::1/64")},
	})
	must(t, err)
	c := open(t, a.node, i)
	for net, name := range []string{"v4", "v6"} {
		t.Run("two devices/"+name, func(t *testing.T) {
			a.newQP(t)
			c.newQP(t)
			connect(t, a, c, net, rdma.QPAttr{})
			exchange(t, a, c)
		})
	}
	t.Run("one device", func(t *testing.T) {
		a.newQP(t)
		same := *a
		same.cq, err = a.dev.CreateCQ(64, nil)
		must(t, err)
		same.buf = make([]byte, regionSize)
		same.mr, err = a.pd.RegMR(same.buf, access)
		must(t, err)
		same.newQP(t)
		connect(t, a, &same, 0, rdma.QPAttr{})
		exchange(t, a, &same)
	})
}

// TestLinkDown: whatever is under way when the link goes completes, in the time
// that the retry counts allow.
func TestLinkDown(t *testing.T) {
	for _, p := range paths {
		for _, near := range []bool{true, false} {
			for _, op := range []rdma.WROpcode{rdma.WRWrite, rdma.WRSend, rdma.WRRead} {
				t.Run(fmt.Sprintf("%s/near=%v/%v", p.name, near, op), func(t *testing.T) { linkDown(t, p, near, op) })
			}
		}
	}
}

func linkDown(t *testing.T, p path, near bool, op rdma.WROpcode) {
	a, b := p.nodes(t)
	connect(t, a, b, 0, rdma.QPAttr{Timeout: 10, RetryCnt: 2, RNRRetry: 1})
	const n, depth = 64 << 10, 16
	// The link goes from inside the transfer: the goroutine that is told does
	// it while packets go on passing.
	var packets atomic.Uint64
	cut := make(chan struct{})
	link, err := b.node.Attach(hook.Input, hook.HandlerFunc(func(hook.Point, *hook.Packet) hook.Verdict {
		if packets.Add(1) == 20 {
			close(cut)
		}
		return hook.Continue
	}), hook.Options{Priority: -200})
	must(t, err)
	defer link.Close()
	down := make(chan time.Time)
	go func() {
		<-cut
		i := b.iface
		if near {
			i = a.iface
		}
		i.SetUp(false)
		down <- time.Now()
	}()
	wr := rdma.SendWR{Opcode: op, Flags: rdma.Signaled, SGList: []rdma.SGE{a.mr.SGE(0, n)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()}
	post := func(k int) {
		if op == rdma.WRSend {
			for range k { // refused once the queue pair is in error: no matter
				_, _ = b.qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{b.mr.SGE(0, n)}})
			}
		}
		for range k {
			_, err := a.qp.PostSend(wr)
			must(t, err)
		}
	}
	post(depth)
	bound, ok := a.qp.Bound(n)
	if !ok {
		t.Fatal("no bound")
	}
	var at time.Time
	good, bad, under := 0, 0, depth
	for under > 0 {
		for _, wc := range a.wait(t, 1, bound+5*time.Second) {
			under--
			switch {
			case wc.Err() == nil:
				good++
			case bad == 0 && wc.Status != rdma.RetryExcErr, bad > 0 && wc.Status != rdma.WRFlushErr:
				t.Errorf("failure %d: %v", bad, wc.Err())
				bad++
			default:
				bad++
			}
		}
		if bad == 0 {
			post(1)
			under++
		}
	}
	if at = <-down; time.Since(at) > bound {
		t.Errorf("the last of them completed after %v, the bound is %v", time.Since(at), bound)
	}
	if good == 0 || bad == 0 {
		t.Errorf("%d succeeded, %d failed", good, bad)
	}
	t.Logf("%d succeeded, %d failed within %v, the bound is %v", good, bad, time.Since(at).Round(time.Millisecond), bound)
}
