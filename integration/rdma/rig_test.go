package rdma

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/rdma"
	"taproom/rdma/nodeport"
	"taproom/stack"
	"taproom/stack/wire"
	"taproom/tap"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	if os.Getenv(peerEnv) != "" {
		os.Exit(bePeer())
	}
	code := m.Run()
	results.print(os.Stdout)
	os.Exit(code)
}

// linkMTU has room for 4096 bytes of payload and a trace around them.
const linkMTU = 4500

// regionSize is what each side registers.
const regionSize = 2 << 20

const access = rdma.LocalWrite | rdma.RemoteWrite | rdma.RemoteRead | rdma.RemoteAtomic

// side is a node with a device on one of its interfaces, and one of each object.
type side struct {
	node  *stack.Node
	iface *stack.Interface
	dev   *rdma.Device
	pd    *rdma.PD
	cq    *rdma.CQ
	mr    *rdma.MR
	buf   []byte
	qp    *rdma.QP
}

// newNode makes a node with the n-th addresses of the two networks there are.
func newNode(t testing.TB, n byte, dev tap.Device) (*stack.Node, *stack.Interface) {
	t.Helper()
	node, err := stack.New(stack.Options{Name: fmt.Sprint("n", n)})
	must(t, err)
	t.Cleanup(node.Close)
	i, err := node.AddInterface(dev, stack.InterfaceConfig{
		Name: "eth0", Addr: net.HardwareAddr{2, 0, 0, 0, 1, n}, Addresses: addresses(n),
	})
	must(t, err)
	return node, i
}

func addresses(n byte) (p []netip.Prefix) {
	for _, f := range []string{"10.77.0.%d/24", "fd77::%d/64", "fd78::%d/64"} {
		p = append(p, netip.MustParsePrefix(fmt.Sprintf(f, n)))
	}
	return p
}

// open makes a device on a node's interface.
func open(t testing.TB, node *stack.Node, i *stack.Interface) *side {
	t.Helper()
	s := &side{node: node, iface: i, buf: make([]byte, regionSize)}
	port, err := nodeport.New(nodeport.Config{Host: node, Interface: i.Index()})
	must(t, err)
	s.dev, err = rdma.OpenDevice(port, rdma.Options{})
	must(t, err)
	t.Cleanup(func() { _ = s.dev.Close() })
	s.pd, err = s.dev.AllocPD()
	must(t, err)
	s.cq, err = s.dev.CreateCQ(1024, nil)
	must(t, err)
	s.mr, err = s.pd.RegMR(s.buf, access)
	must(t, err)
	s.newQP(t)
	return s
}

func (s *side) newQP(t testing.TB) {
	t.Helper()
	var err error
	s.qp, err = s.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: s.cq, RecvCQ: s.cq,
		Cap: rdma.QPCap{MaxSendWR: 64, MaxRecvWR: 64, MaxSendSGE: 1, MaxRecvSGE: 1}})
	must(t, err)
}

// gid finds the GID of an address.
func (s *side) gid(t testing.TB, a netip.Addr) (int, rdma.GID) {
	t.Helper()
	want := rdma.GIDOf(a)
	for i := range 16 {
		if g, err := s.dev.QueryGID(i); err == nil && g == want {
			return i, g
		}
	}
	t.Fatalf("%s has no GID for %v", s.node.Name(), a)
	return 0, want
}

// addr is the interface's address of a network; link-local ones, which pass no
// Output and no Postrouting, do not count.
func (s *side) addr(net int) netip.Addr {
	var as []netip.Addr
	for _, p := range s.iface.Addresses() {
		if !p.Addr().IsLinkLocalUnicast() {
			as = append(as, p.Addr())
		}
	}
	return as[net]
}

// connect joins two queue pairs by the addresses of one network.
func connect(t testing.TB, a, b *side, net int, attr rdma.QPAttr) {
	t.Helper()
	connectAt(t, a, b, a.addr(net), b.addr(net), attr)
}

func connectAt(t testing.TB, a, b *side, aAddr, bAddr netip.Addr, attr rdma.QPAttr) {
	t.Helper()
	ai, ag := a.gid(t, aAddr)
	bi, bg := b.gid(t, bAddr)
	attr.MaxRdAtomic = 16
	attr.AH.SGIDIndex = ai
	must(t, a.qp.Connect(rdma.Remote{QPN: b.qp.Num(), GID: bg}, attr))
	attr.AH.SGIDIndex = bi
	must(t, b.qp.Connect(rdma.Remote{QPN: a.qp.Num(), GID: ag}, attr))
}

// wait polls for n completions.
func (s *side) wait(t testing.TB, n int, limit time.Duration) []rdma.WC {
	t.Helper()
	var out []rdma.WC
	var wcs [32]rdma.WC
	for end := time.Now().Add(limit); len(out) < n; {
		k, err := s.cq.Poll(wcs[:min(len(wcs), n-len(out))])
		must(t, err)
		out = append(out, wcs[:k]...)
		if k == 0 {
			if time.Now().After(end) {
				t.Fatalf("%s: %d of %d completions after %v; %+v", s.node.Name(), len(out), n, limit, s.qp.Counters())
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	return out
}

// exchange moves data from a to b and back by each operation, and compares it.
func exchange(t *testing.T, a, b *side) {
	t.Helper()
	const n = 700001
	for i, op := range []rdma.WROpcode{rdma.WRWrite, rdma.WRSend, rdma.WRRead} {
		fill(a.buf, uint64(2*i))
		fill(b.buf, uint64(2*i+1))
		want, from := a.buf[:n], b.buf[:n]
		if op == rdma.WRRead {
			want, from = bytes.Clone(from), a.buf[:n]
		}
		if op == rdma.WRSend {
			_, err := b.qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{b.mr.SGE(0, n)}})
			must(t, err)
		}
		_, err := a.qp.PostSend(rdma.SendWR{Opcode: op, Flags: rdma.Signaled, SGList: []rdma.SGE{a.mr.SGE(0, n)}, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()})
		must(t, err)
		if wc := a.wait(t, 1, 20*time.Second)[0]; wc.Err() != nil {
			t.Fatalf("%v: %v", op, wc.Err())
		}
		if op == rdma.WRSend {
			if wc := b.wait(t, 1, 20*time.Second)[0]; wc.Err() != nil {
				t.Fatalf("receive: %v", wc.Err())
			}
		}
		if !bytes.Equal(want, from) {
			t.Fatalf("%v: memory differs", op)
		}
	}
	for _, s := range []*side{a, b} {
		if c := s.dev.Counters(); c.ICRCErr+c.Malformed != 0 {
			t.Errorf("%s: %d packets with a wrong ICRC, %d malformed", s.node.Name(), c.ICRCErr, c.Malformed)
		}
	}
}

func fill(b []byte, seed uint64) {
	r := rand.NewChaCha8([32]byte{byte(seed), 1})
	_, _ = r.Read(b)
}

// path is a way from one node to another.
type path struct {
	name  string
	nodes func(t testing.TB) (a, b *side)
}

var paths = []path{{"wire", overWire}, {"bridge", overBridge}}

func overWire(t testing.TB) (a, b *side) {
	t.Helper()
	x, y, err := wire.New(wire.Config{Name: "w", MTU: linkMTU})
	must(t, err)
	return pair(t, x, y)
}

func pair(t testing.TB, x, y tap.Device) (a, b *side) {
	t.Helper()
	an, ai := newNode(t, 1, x)
	bn, bi := newNode(t, 2, y)
	return open(t, an, ai), open(t, bn, bi)
}

// overBridge joins the nodes' TAPs by a bridge of the kernel, in a namespace.
func overBridge(t testing.TB) (a, b *side) {
	t.Helper()
	ns := bridge(t)
	return pair(t, openTAP(t, ns, "t1"), openTAP(t, ns, "t2"))
}

// bridge makes a namespace with a bridge and two TAPs, t1 and t2, that wait to
// be opened.
func bridge(t testing.TB) *netns.Namespace {
	t.Helper()
	room.Need(t, "root", "tun", "ip", "nsenter")
	ns, err := netns.New(netns.Options{})
	must(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	// No spanning tree, no delay, no IPv6 of the kernel's own on these links.
	shell(t, ns, `
sysctl -qw net.ipv6.conf.default.disable_ipv6=1
ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
for d in t1 t2; do
  ip tuntap add dev $d mode tap vnet_hdr
  ip link set $d mtu %d master br0 up
done
ip link set br0 mtu %[1]d up`, linkMTU)
	return ns
}

func shell(t testing.TB, ns *netns.Namespace, script string, args ...any) {
	t.Helper()
	c := exec.Command("nsenter", "--net="+ns.Path(), "--", "sh", "-ec", fmt.Sprintf(script, args...))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func openTAP(t testing.TB, ns *netns.Namespace, name string) tap.Device {
	t.Helper()
	d, err := tap.Open(tap.Options{Name: name, Namespace: ns, MTU: linkMTU, Up: true})
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
