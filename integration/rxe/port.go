package rxe

import (
	"net/netip"
	"sync"

	"taproom/rdma"
	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// Port is a Host as the port of an RDMA device: the shortest way between our
// engine and a guest.
type Port struct {
	h   *Host
	mtu int

	mu     sync.Mutex
	groups map[netip.Addr]int
}

// NewPort makes a port. mtu is that of the segment in bytes.
func NewPort(h *Host, mtu int) *Port {
	return &Port{h: h, mtu: mtu, groups: map[netip.Addr]int{}}
}

// Open implements [rdma.Port].
func (p *Port) Open(r rdma.Receiver) error {
	p.h.Receive(func(ip []byte) {
		q := packet.New(ip)
		r.Receive(q)
		q.Release()
	})
	return nil
}

// Close implements [rdma.Port]; the host stays open.
func (p *Port) Close() error { p.h.Receive(nil); return nil }

// Info implements [rdma.Port]. The host's GIDs are those a guest has: link-local,
// IPv4, IPv6.
func (p *Port) Info() rdma.PortInfo {
	info := rdma.PortInfo{MTU: p.mtu, Up: true, MAC: p.h.o.MAC, Addrs: []netip.Addr{p.h.o.IP, p.h.o.IP6}}
	if _, ok := p.h.link.(runWriter); ok {
		info.MaxRun = roce.MaxRunPackets
	}
	return info
}

// Send implements [rdma.Port].
func (p *Port) Send(q *packet.Packet) error {
	q.Linearize()
	size := 0
	if q.GSO.Type == packet.GSOUDP {
		size = int(q.GSO.Size)
	}
	err := p.h.SendRun(q.Head(), size)
	q.Release()
	return err
}

// Join implements [rdma.Port]. The host takes frames to all groups, and tells no
// router of them.
func (p *Port) Join(group netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[group]++
	return nil
}

// Leave implements [rdma.Port].
func (p *Port) Leave(group netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[group]--
	return nil
}

// Clock implements [rdma.Port].
func (p *Port) Clock() rdma.Clock { return rdma.SystemClock }
