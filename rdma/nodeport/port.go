package nodeport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"taproom/rdma"
	"taproom/rdma/roce"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Config describes a port.
type Config struct {
	Host      hook.Host
	Interface int    // index
	Name      string // of the hook link; "rdma" if empty
	Priority  int32  // at Input; 0 is between netfilter's raw and filter tables and its security one
	// Clock is the device's time; the machine's if nil.
	Clock rdma.Clock
	// MaxRun is the most packets of a super-frame. 0: 128 where the device takes
	// them whole, and 64 elsewhere, for the node to cut them: still one walk
	// through the hooks for all.
	MaxRun int
	// LinkScope sends to neighbours on the interface only, past routing, Output
	// and Postrouting, as multicast and link-local packets always go.
	LinkScope bool
}

// Port is a device's interface to a node.
type Port struct {
	c    Config
	recv atomic.Pointer[rdma.Receiver]
	info atomic.Pointer[portInfo]

	mu     sync.Mutex // guards what follows
	link   *hook.Link
	cancel func()
	groups map[netip.Addr]int
}

// portInfo is a snapshot for the data path.
type portInfo struct {
	rdma.PortInfo
	groups map[netip.Addr]bool
}

// New makes a port over an interface of a node. It does nothing before a device
// opens it.
func New(c Config) (*Port, error) {
	if c.Host == nil {
		return nil, errors.New("nodeport: Config.Host is nil")
	}
	if _, ok := c.Host.Interface(c.Interface); !ok {
		return nil, fmt.Errorf("nodeport: no interface %d: %w", c.Interface, hook.ErrNoInterface)
	}
	if c.Name == "" {
		c.Name = "rdma"
	}
	if c.Clock == nil {
		c.Clock = rdma.SystemClock
	}
	p := &Port{c: c, groups: make(map[netip.Addr]int)}
	p.refresh()
	return p, nil
}

// Open implements rdma.Port.
func (p *Port) Open(r rdma.Receiver) error {
	if !p.recv.CompareAndSwap(nil, &r) {
		return errors.New("nodeport: open already")
	}
	link, err := p.c.Host.Attach(hook.Input, hook.HandlerFunc(p.handle), hook.Options{Name: p.c.Name, Priority: p.c.Priority})
	if err != nil {
		p.recv.Store(nil)
		return err
	}
	cancel := p.c.Host.OnChange(p.changed)
	p.mu.Lock()
	p.link, p.cancel = link, cancel
	p.mu.Unlock()
	return nil
}

// Close implements rdma.Port.
func (p *Port) Close() error {
	p.mu.Lock()
	link, cancel, groups := p.link, p.cancel, p.groups
	p.link, p.groups = nil, make(map[netip.Addr]int)
	p.mu.Unlock()
	if link == nil {
		return nil
	}
	p.recv.Store(nil)
	cancel()
	for g := range groups {
		_ = p.c.Host.LeaveGroup(p.c.Interface, g)
	}
	return link.Close()
}

// Clock implements rdma.Port.
func (p *Port) Clock() rdma.Clock { return p.c.Clock }

// Info implements rdma.Port.
func (p *Port) Info() rdma.PortInfo { return p.info.Load().PortInfo }

func (p *Port) changed() {
	p.mu.Lock()
	p.refreshLocked()
	p.mu.Unlock()
	if r := p.recv.Load(); r != nil {
		(*r).Changed()
	}
}

func (p *Port) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refreshLocked()
}

// refreshLocked takes a new snapshot of the interface.
func (p *Port) refreshLocked() {
	i, ok := p.c.Host.Interface(p.c.Interface)
	n := &portInfo{groups: make(map[netip.Addr]bool)}
	if !ok { // it has gone: a port that is down
		p.info.Store(n)
		return
	}
	n.MTU, n.Up, n.MaxRun = i.MTU, i.Up, p.c.MaxRun
	if n.MaxRun == 0 {
		if n.MaxRun = 64; i.USO {
			n.MaxRun = roce.MaxRunPackets
		}
	}
	if len(i.HardwareAddr) == 6 {
		n.MAC = [6]byte(i.HardwareAddr)
	}
	for _, a := range i.Addrs {
		n.Addrs = append(n.Addrs, a.Addr().WithZone("").Unmap())
	}
	for g := range p.groups {
		n.groups[g] = true
	}
	p.info.Store(n)
}

// Join implements rdma.Port: the node reports the group by IGMP or MLD.
func (p *Port) Join(g netip.Addr) error {
	if p.count(g, +1) == 1 {
		if err := p.c.Host.JoinGroup(p.c.Interface, g); err != nil {
			p.count(g, -1)
			return err
		}
	}
	return nil
}

// Leave implements rdma.Port.
func (p *Port) Leave(g netip.Addr) error {
	switch n := p.count(g, -1); {
	case n < 0:
		p.count(g, +1)
		return fmt.Errorf("nodeport: not a member of %v", g)
	case n == 0:
		return p.c.Host.LeaveGroup(p.c.Interface, g)
	}
	return nil
}

// count changes the number of memberships in a group. It is not held on to while
// the host is asked: that may tell us of a change before it returns.
func (p *Port) count(g netip.Addr, by int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[g] += by
	n := p.groups[g]
	if n == 0 {
		delete(p.groups, g)
	}
	p.refreshLocked()
	return n
}

// Send implements rdma.Port.
func (p *Port) Send(k *packet.Packet) error {
	dst := destination(k.Head())
	if p.c.LinkScope || dst.IsMulticast() || dst.IsLinkLocalUnicast() {
		if r, ok := p.c.Host.(hook.Router); ok {
			return r.ToNeighbor(p.c.Interface, k, dst)
		}
	}
	return p.c.Host.Send(k)
}

// handle is the hook at Input.
func (p *Port) handle(_ hook.Point, k *packet.Packet) hook.Verdict {
	h := k.Head()
	if !isRoCE(h) {
		return hook.Continue
	}
	r := p.recv.Load()
	if r == nil || !p.ours(destination(h), k.In) {
		return hook.Continue
	}
	(*r).Receive(k)
	k.Release()
	return hook.Stolen
}

// isRoCE tells whether a network packet is UDP to port 4791, not a later
// fragment, without IPv4 options or IPv6 extension headers.
func isRoCE(h []byte) bool {
	const v4, v6 = roce.IPv4Len, roce.IPv6Len
	switch {
	case len(h) >= v4+roce.UDPLen && h[0] == 0x45:
		return h[9] == 17 && binary.BigEndian.Uint16(h[v4+2:]) == roce.Port && binary.BigEndian.Uint16(h[6:])&0x1fff == 0
	case len(h) >= v6+roce.UDPLen && h[0]>>4 == 6:
		return h[6] == 17 && binary.BigEndian.Uint16(h[v6+2:]) == roce.Port
	}
	return false
}

func destination(h []byte) netip.Addr {
	if h[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(h[24:40]))
	}
	return netip.AddrFrom4([4]byte(h[16:20]))
}

// ours tells whether a packet is for the interface: by its address, and for
// groups and link-local addresses by the interface it came in at as well.
func (p *Port) ours(dst netip.Addr, in int) bool {
	i := p.info.Load()
	if dst.IsMulticast() {
		return in == p.c.Interface && i.groups[dst]
	}
	for _, a := range i.Addrs {
		if a == dst {
			return true
		}
	}
	return dst.IsLinkLocalUnicast() && in == p.c.Interface
}

var _ rdma.Port = (*Port)(nil)
