package stack

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"taproom/stack/packet"
	"taproom/tap"
)

// port is a device whose far end is the test: it puts frames in and reads
// what came out.
type port struct {
	info tap.Info
	recv tap.Receiver

	mu   sync.Mutex
	sent [][]byte
	gso  []packet.GSO
	to   *port // or another port, for a wire without delay
	keep bool
}

func newPort(name string) *port {
	return &port{info: tap.Info{Name: name, MTU: 1500, Queues: 1, Offloads: tap.AllOffloads}, keep: true}
}

// wire joins two ports.
func wire(a, b *port) { a.to, b.to, a.keep, b.keep = b, a, false, false }

func (p *port) Info() tap.Info             { return p.info }
func (p *port) Start(r tap.Receiver) error { p.recv = r; return nil }
func (p *port) SetMTU(mtu int) error       { p.info.MTU = mtu; return nil }
func (p *port) Stats() tap.Stats           { return tap.Stats{} }
func (p *port) Close() error               { return nil }

func (p *port) Write(_ int, batch []*packet.Packet) {
	for _, q := range batch {
		if p.to != nil {
			c := q.Clone()
			q.Release()
			m := packet.Meta{GSO: c.GSO, CsumPartial: c.CsumPartial}
			c.Meta = m
			go p.to.recv(0, []*packet.Packet{c})
			continue
		}
		if p.keep {
			b := make([]byte, q.Len())
			q.CopyTo(b, 0)
			if membership(b) {
				q.Release()
				continue
			}
			p.mu.Lock()
			p.sent, p.gso = append(p.sent, b), append(p.gso, q.GSO)
			p.mu.Unlock()
		}
		q.Release()
	}
}

// membership recognises the reports that netstack sends when it likes (MLD:
// ICMPv6 behind a router alert option), which no test is about.
func membership(f []byte) bool {
	return len(f) > 62 && f[12] == 0x86 && f[20] == packet.ProtoHopByHop && f[54] == packet.ProtoICMPv6 && f[56] == 5 ||
		len(f) > 34 && f[12] == 8 && f[13] == 0 && f[23] == packet.ProtoIGMP
}

// in lets a frame arrive.
func (p *port) in(frame []byte) { p.recv(0, []*packet.Packet{packet.New(frame)}) }

// out takes what the node has sent since the last call.
func (p *port) out() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sent
	p.sent, p.gso = nil, nil
	return s
}

var (
	macX  = net.HardwareAddr{2, 0, 0, 0, 0, 1} // the neighbour on the left
	macY0 = net.HardwareAddr{2, 0, 0, 0, 0, 2} // the node, left
	macY1 = net.HardwareAddr{2, 0, 0, 0, 1, 2} // the node, right
	macZ  = net.HardwareAddr{2, 0, 0, 0, 1, 3} // the neighbour on the right
)

// testNode is X - (y0) node (y1) - Z, as in the picture of a router between
// two hosts, with the neighbours known.
type testNode struct {
	*Node
	y0, y1 *port
	clock  *fakeClock
}

func newTestNode(t testing.TB) *testNode {
	t.Helper()
	live := packet.Live()
	c := newFakeClock()
	n, err := New(Options{Name: "y", Clock: c, ICMPRate: -1})
	must(t, err)
	tn := &testNode{Node: n, y0: newPort("y0"), y1: newPort("y1"), clock: c}
	add := func(p *port, mac net.HardwareAddr, addrs ...string) {
		var ps []netip.Prefix
		for _, a := range addrs {
			ps = append(ps, netip.MustParsePrefix(a))
		}
		_, err := n.AddInterface(p, InterfaceConfig{Addr: mac, Addresses: ps})
		must(t, err)
	}
	add(tn.y0, macY0, "10.9.0.2/24", "fd09::2/64")
	add(tn.y1, macY1, "10.9.1.2/24", "fd09:0:0:1::2/64")
	for _, e := range []struct {
		dev, ip string
		mac     net.HardwareAddr
	}{
		{"y0", "10.9.0.1", macX}, {"y0", "fd09::1", macX}, {"y1", "10.9.1.3", macZ}, {"y1", "fd09:0:0:1::3", macZ},
	} {
		must(t, n.AddNeighbor(e.dev, netip.MustParseAddr(e.ip), e.mac))
	}
	tn.y0.out()
	tn.y1.out()
	t.Cleanup(func() {
		n.Close()
		if k := packet.Live() - live; k != 0 {
			t.Errorf("%d packets leaked", k)
		}
	})
	return tn
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeClock is turned by the test. Timers fire inside Advance, on its
// goroutine.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*fakeTimer]struct{}
}

type fakeTimer struct {
	c  *fakeClock
	at time.Time
	f  func()
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Unix(1700000000, 0), timers: make(map[*fakeTimer]struct{})}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) AfterFunc(d time.Duration, f func()) Timer {
	t := &fakeTimer{c: c, f: f}
	t.Reset(d)
	return t
}

func (t *fakeTimer) Stop() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	_, was := t.c.timers[t]
	delete(t.c.timers, t)
	return was
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	_, was := t.c.timers[t]
	t.at = t.c.now.Add(d)
	t.c.timers[t] = struct{}{}
	return was
}

// Advance turns the clock, firing what is due in order.
func (c *fakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		var next *fakeTimer
		for t := range c.timers {
			if !t.at.After(end) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		if next == nil {
			break
		}
		delete(c.timers, next)
		if next.at.After(c.now) {
			c.now = next.at
		}
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}
