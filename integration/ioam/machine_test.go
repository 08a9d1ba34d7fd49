package ioam

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"taproom/ioam/ioamtest"
	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/packet"
	"taproom/tap"
)

// vectors are those of package ioam.
const vectors = "../../ioam/testdata/vectors"

func TestVectorsTransitNode(t *testing.T) { ioamtest.RunTransit(t, vectors, makeMachine) }

func TestVectorsEncapNode(t *testing.T) { ioamtest.RunEncap(t, vectors, makeMachine) }

// machine is a taproom node with devices whose far ends are functions.
type machine struct {
	*stack.Node
	ports map[int]*port
	conn  net.PacketConn // the node's UDP socket, if it has one
	heard func(ip []byte)

	mu   sync.Mutex
	last []byte // what came to the socket's port at Input
}

// port is a device in memory: frames leave by a call.
type port struct {
	info tap.Info
	out  func([]byte)
	recv tap.Receiver
}

func (p *port) Info() tap.Info             { return p.info }
func (p *port) Start(r tap.Receiver) error { p.recv = r; return nil }
func (p *port) SetMTU(mtu int) error       { p.info.MTU = mtu; return nil }
func (p *port) Stats() tap.Stats           { return tap.Stats{} }
func (p *port) Close() error               { return nil }

func (p *port) Write(_ int, batch []*packet.Packet) {
	for _, q := range batch {
		q.Linearize()
		f := append([]byte(nil), q.Head()...)
		q.Release()
		if p.out != nil {
			p.out(f)
		}
	}
}

// clock is a Spec's, with the system's timers: nothing here waits for one.
type clock func() time.Time

func (c clock) Now() time.Time { return c() }
func (c clock) AfterFunc(d time.Duration, f func()) stack.Timer {
	return time.AfterFunc(d, f)
}

func makeMachine(s ioamtest.Spec) (ioamtest.Machine, error) {
	n, err := stack.New(stack.Options{Name: s.Name, Clock: clock(s.Now), ICMPRate: -1})
	if err != nil {
		return nil, err
	}
	m := &machine{Node: n, ports: make(map[int]*port), heard: s.Heard}
	for _, i := range s.Ifaces {
		p := &port{out: i.Out, info: tap.Info{
			Name: i.Name, MTU: 1500, Queues: 1, Inline: true, Offloads: tap.Offloads{Checksum: i.Offload},
		}}
		f, err := n.AddInterface(p, stack.InterfaceConfig{Addr: i.MAC, Addresses: i.Addrs, NoLinkLocal: true})
		if err != nil {
			return nil, err
		}
		m.ports[f.Index()] = p
		for a, mac := range s.MACs {
			for _, on := range i.Addrs {
				if on.Contains(a) && a != on.Addr() {
					if err := n.AddNeighbor(i.Name, a, mac); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	for _, r := range s.Routes {
		spec := stack.Route{Prefix: r.Prefix, Kind: r.Kind, Via: r.Via}
		if r.Out > 0 {
			spec.Interface = s.Ifaces[r.Out-1].Name
		}
		// The recording says of a connected prefix again that it is connected.
		if err := n.AddRoute(spec); err != nil && !errors.Is(err, stack.ErrRouteExists) {
			return nil, err
		}
	}
	return m, m.listen(s.Port)
}

// listen opens the socket of the Spec. What it gets is seen whole at Input.
func (m *machine) listen(port uint16) (err error) {
	if m.heard == nil {
		return nil
	}
	if m.conn, err = m.ListenUDP(netip.AddrPortFrom(netip.IPv6Unspecified(), port)); err != nil {
		return err
	}
	_, err = m.Attach(hook.Input, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
		b := make([]byte, p.Len())
		p.CopyTo(b, 0)
		if tr, ok := packet.ParseTransport(b); ok && tr.Proto == packet.ProtoUDP && !tr.Fragment {
			m.mu.Lock()
			m.last = b
			m.mu.Unlock()
		}
		return hook.Continue
	}), hook.Options{Priority: 1000, Family: hook.IPv6})
	return err
}

func (m *machine) Ifindex(name string) int { return m.InterfaceByName(name).Index() }

func (m *machine) Input(ifindex int, frame []byte) {
	m.ports[ifindex].recv(0, []*packet.Packet{packet.New(frame)})
	m.mu.Lock()
	last := m.last
	m.last = nil
	m.mu.Unlock()
	if last == nil {
		return
	}
	// Netstack hands datagrams over on a goroutine of its own.
	var b [2048]byte
	m.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, _, err := m.conn.ReadFrom(b[:]); err == nil {
		m.heard(last)
	}
}

func (m *machine) SendUDP(src, dst netip.AddrPort, payload []byte) error {
	c, err := m.ListenUDP(src)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WriteTo(payload, net.UDPAddrFromAddrPort(dst))
	if err != nil && m.Counters().Drops[packet.NoRoute.String()] > 0 {
		return errors.Join(err, syscall.ENETUNREACH)
	}
	return err
}

func (m *machine) SNMP() map[string]int { return nil }

func (m *machine) Reasons() []packet.Reason { return nil }

func (m *machine) Close() {
	if m.conn != nil {
		m.conn.Close()
	}
	m.Node.Close()
}
