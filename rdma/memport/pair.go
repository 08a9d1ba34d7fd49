package memport

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"taproom/rdma"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// Config describes a pair. The zero value is a perfect wire of MTU 4500.
type Config struct {
	MTU    int        // of the interfaces in bytes; 4500 if zero
	Clock  rdma.Clock // the machine's if nil; impairments and delay need a *Clock
	MaxRun int        // packets of a super-frame; 64 if zero, 1 for none
	Addrs  [2][]netip.Addr

	// Impairments, each with its probability per packet.
	Loss, Dup, Reorder, Corrupt, Mark float64
	Delay, Jitter                     time.Duration
	Seed                              uint64
	// Tap, if set, sees each packet (IP header to ICRC) before impairments. It
	// may return false to drop it. from is 0 or 1.
	Tap func(from int, p []byte) bool
}

// DefaultAddrs are the addresses of the two ports when Config.Addrs is empty.
var DefaultAddrs = [2][]netip.Addr{
	{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")},
	{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")},
}

// Port is one end of a pair.
type Port struct {
	n    int
	cfg  *Config
	peer *Port
	recv atomic.Pointer[rdma.Receiver]
	up   atomic.Bool
	mtu  atomic.Int64
	addr atomic.Pointer[[]netip.Addr]

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand // of what this end sends
	groups map[netip.Addr]int
}

// errDown is what Send says on a port that is down.
var errDown = errors.New("memport: port is down")

// NewPair makes two ports that are each other's network.
func NewPair(c Config) (a, b *Port) {
	if c.MTU == 0 {
		c.MTU = 4500
	}
	if c.Clock == nil {
		c.Clock = rdma.SystemClock
	}
	if c.MaxRun == 0 {
		c.MaxRun = 64
	}
	if c.Addrs[0] == nil {
		c.Addrs = DefaultAddrs
	}
	a, b = newPort(0, &c), newPort(1, &c)
	a.peer, b.peer = b, a
	return a, b
}

func newPort(n int, c *Config) *Port {
	p := &Port{n: n, cfg: c, rng: rand.New(rand.NewPCG(c.Seed, uint64(n))), groups: make(map[netip.Addr]int)}
	p.up.Store(true)
	p.mtu.Store(int64(c.MTU))
	p.addr.Store(&c.Addrs[n])
	return p
}

// Open implements rdma.Port.
func (p *Port) Open(r rdma.Receiver) error { p.recv.Store(&r); return nil }

// Close implements rdma.Port.
func (p *Port) Close() error { p.recv.Store(nil); return nil }

// Clock implements rdma.Port.
func (p *Port) Clock() rdma.Clock { return p.cfg.Clock }

// Info implements rdma.Port.
func (p *Port) Info() rdma.PortInfo {
	return rdma.PortInfo{
		MTU: int(p.mtu.Load()), Up: p.up.Load(), MaxRun: p.cfg.MaxRun,
		MAC: [6]byte{2, 0, 0, 0, 9, byte(p.n + 1)}, Addrs: *p.addr.Load(),
	}
}

// SetUp changes the link state of this end.
func (p *Port) SetUp(up bool) { p.up.Store(up); p.changed() }

// SetMTU changes the MTU of this end.
func (p *Port) SetMTU(n int) { p.mtu.Store(int64(n)); p.changed() }

// SetAddrs changes the addresses of this end.
func (p *Port) SetAddrs(a ...netip.Addr) { p.addr.Store(&a); p.changed() }

func (p *Port) changed() {
	if r := p.recv.Load(); r != nil {
		(*r).Changed()
	}
}

// Join implements rdma.Port.
func (p *Port) Join(g netip.Addr) error { p.mu.Lock(); defer p.mu.Unlock(); p.groups[g]++; return nil }

// Leave implements rdma.Port.
func (p *Port) Leave(g netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.groups[g]--; p.groups[g] <= 0 {
		delete(p.groups, g)
	}
	return nil
}

// Groups are those the port is a member of.
func (p *Port) Groups() (n int) { p.mu.Lock(); defer p.mu.Unlock(); return len(p.groups) }

// Send implements rdma.Port.
func (p *Port) Send(k *packet.Packet) error {
	defer k.Release()
	if !p.up.Load() || !p.peer.up.Load() {
		return errDown
	}
	c := p.cfg
	clock, virtual := c.Clock.(*Clock)
	if c.Tap == nil && (!virtual || c.Delay == 0 && c.Jitter == 0 && c.Loss+c.Dup+c.Reorder+c.Corrupt+c.Mark == 0) {
		p.peer.deliver(k)
		return nil
	}
	run, err := roce.ParseRun(k.Head(), int(k.GSO.Size))
	if err != nil {
		return err
	}
	for i := range run.Len() {
		one := run.AppendPacket(nil, i)
		if c.Tap != nil && !c.Tap(p.n, one) {
			continue
		}
		if virtual {
			p.impair(clock, one)
		} else {
			p.peer.deliverBytes(one)
		}
	}
	return nil
}

// impair decides what becomes of one packet.
func (p *Port) impair(clock *Clock, b []byte) {
	c := p.cfg
	p.mu.Lock()
	r := p.rng
	chance := func(x float64) bool { return x > 0 && r.Float64() < x }
	lost, twice, late, bad, mark := chance(c.Loss), chance(c.Dup), chance(c.Reorder), chance(c.Corrupt), chance(c.Mark)
	d := c.Delay
	if c.Jitter > 0 {
		d += time.Duration(r.Int64N(int64(c.Jitter)))
	}
	bit := r.IntN((len(b) - 28) * 8)
	p.mu.Unlock()
	if mark {
		markCE(b)
	}
	if bad {
		b[28+bit/8] ^= 1 << (bit % 8)
	}
	if lost {
		return
	}
	if late {
		d += max(c.Delay, 10*time.Microsecond) * 3
	}
	clock.After(d, func() { p.peer.deliverBytes(b) })
	if twice {
		clock.After(d+c.Delay/2, func() { p.peer.deliverBytes(b) })
	}
}

// markCE sets the ECN field to "congestion experienced".
func markCE(b []byte) {
	if b[0]>>4 == 6 {
		b[1] |= 0x30
		return
	}
	b[1] |= 3
	roce.FixIPv4(b)
}

func (p *Port) deliver(k *packet.Packet) {
	if r := p.recv.Load(); r != nil {
		(*r).Receive(k)
	}
}

func (p *Port) deliverBytes(b []byte) {
	k := packet.New(b)
	p.deliver(k)
	k.Release()
}
