package filter

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"taproom/filter/vm"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// env is the node as programs see it (vm.Env). One serves all of a node's
// programs: what belongs to a packet is kept with the packet.
type env struct {
	fs     *Filters
	tracer atomic.Pointer[func(TraceEvent)]
}

var _ vm.Env = (*env)(nil)

func (e *env) init(fs *Filters) { e.fs = fs }

// TraceEvent tells of one program that ran on one packet.
type TraceEvent struct {
	Ifindex int    `json:"ifindex"`
	Point   string `json:"point"` // "tcx", "tc"
	Program string `json:"prog"`
	Key     string `json:"filter,omitempty"` // chain, priority, handle
	Len     int    `json:"len"`
	Return  int32  `json:"return"`
}

// SetTracer lets f see each program that runs on a packet, until it is called
// with nil. f is called on the data path and must not block.
func (fs *Filters) SetTracer(f func(TraceEvent)) {
	if f == nil {
		fs.env.tracer.Store(nil)
		return
	}
	fs.env.tracer.Store(&f)
}

func (e *env) trace(f *Filter, c *filterState, p *hook.Packet, ret int32) {
	t := e.tracer.Load()
	if t == nil {
		return
	}
	(*t)(TraceEvent{Ifindex: ifindexOf(p), Point: "tc", Program: c.Program.name, Key: f.key.String(), Len: p.Len(), Return: ret})
}

func (e *env) traceTCX(prog *Program, p *hook.Packet, ret int32) {
	if t := e.tracer.Load(); t != nil {
		(*t)(TraceEvent{Ifindex: ifindexOf(p), Point: "tcx", Program: prog.name, Len: p.Len(), Return: ret})
	}
}

func ifindexOf(p *hook.Packet) int {
	if p.Out != 0 {
		return p.Out
	}
	return p.In
}

// Now reads a clock. All but the monotonic ones are the node's, so that a
// test's clock is the programs' clock.
func (e *env) Now(c vm.Clock) uint64 {
	switch c {
	case vm.Boot:
		return kernelClock(unix.CLOCK_BOOTTIME)
	case vm.TAI:
		return uint64(e.fs.host.Now().UnixNano()) + taiOffset
	}
	return kernelClock(unix.CLOCK_MONOTONIC)
}

// taiOffset is TAI - UTC since 2017.
const taiOffset = uint64(37 * time.Second)

func kernelClock(id int32) uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts)
	return uint64(ts.Nano())
}

// Random returns 32 random bits.
func (e *env) Random() uint32 {
	if e.fs.opts.Random != nil {
		return e.fs.opts.Random()
	}
	return rand.Uint32()
}

// Route answers bpf_fib_lookup.
func (e *env) Route(q hook.RouteQuery) hook.Route { return e.fs.host.Route(q) }

// Interface returns what is known of an interface.
func (e *env) Interface(index int) (hook.Interface, bool) { return e.fs.host.Interface(index) }

// Clone sends a copy to an interface.
func (e *env) Clone(p *packet.Packet, ifindex int, ingress bool) syscall.Errno {
	var err error
	p.Type = packet.Host
	if ingress {
		err = e.fs.host.Receive(ifindex, p)
	} else {
		err = e.fs.host.Transmit(ifindex, p)
	}
	if err != nil {
		return unix.ENODEV
	}
	return 0
}

// NextHop keeps the next hop for redirect.
func (e *env) NextHop(p *packet.Packet, via netip.Addr) { p.NextHop = via }

// SetTunnel attaches a tunnel key. No device of a node takes one: as on Linux
// without a tunnel device, it has no effect on what is sent.
func (e *env) SetTunnel(p *packet.Packet, t vm.Tunnel) syscall.Errno {
	p.Private = &t
	return 0
}

// Tunnel returns the key a packet has.
func (e *env) Tunnel(p *packet.Packet) (vm.Tunnel, bool) {
	if t, ok := p.Private.(*vm.Tunnel); ok {
		return *t, true
	}
	return vm.Tunnel{}, false
}

// Socket finds a socket of the node.
func (e *env) Socket(q vm.SocketQuery) (vm.Socket, bool) {
	h, ok := e.fs.host.(hook.SocketHost)
	if !ok {
		return vm.Socket{}, false
	}
	s, ok := h.LookupSocket(hook.SocketQuery{Proto: q.Proto, Src: q.Src, Dst: q.Dst, Ifindex: q.Ifindex, Listen: q.Listen})
	if !ok {
		return vm.Socket{}, false
	}
	out := vm.Socket{Protocol: uint32(q.Proto), State: s.State, Bound: s.Bound, Local: s.Local, Remote: s.Remote, Cookie: s.Cookie, Handle: s}
	out.Family, out.Type = unix.AF_INET, unix.SOCK_DGRAM
	if s.Local.Addr().Is6() {
		out.Family = unix.AF_INET6
	}
	if q.Proto == packet.ProtoTCP {
		out.Type = unix.SOCK_STREAM
	}
	return out, true
}

// Assign gives a packet to a socket. A node's sockets take what is addressed
// to them: for the one that would get the packet anyway this is right, any
// other would need the transparent delivery that netstack lacks, EOPNOTSUPP.
func (e *env) Assign(p *packet.Packet, s vm.Socket) syscall.Errno {
	want, ok := s.Handle.(hook.Socket)
	if !ok {
		return unix.EINVAL
	}
	q, ok := socketQuery(p)
	if !ok {
		return unix.EOPNOTSUPP
	}
	if got, ok := e.Socket(q); !ok || got.Cookie != want.Cookie {
		return unix.EOPNOTSUPP
	}
	p.Socket = want.Cookie
	return 0
}

// socketQuery asks for the socket that a frame is addressed to.
func socketQuery(p *packet.Packet) (vm.SocketQuery, bool) {
	off, ok := p.L3()
	h := p.Head()
	if !ok || off < 0 || off >= len(h) {
		return vm.SocketQuery{}, false
	}
	h = h[off:]
	t, ok := packet.ParseTransport(h)
	if !ok || t.Fragment || t.Proto != packet.ProtoTCP && t.Proto != packet.ProtoUDP || len(h) < t.Offset+4 {
		return vm.SocketQuery{}, false
	}
	q := vm.SocketQuery{Proto: t.Proto, Ifindex: p.In, Listen: true}
	be := binary.BigEndian
	src, dst := be.Uint16(h[t.Offset:]), be.Uint16(h[t.Offset+2:])
	if h[0]>>4 == 4 {
		q.Src, q.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(h[12:])), src), netip.AddrPortFrom(netip.AddrFrom4([4]byte(h[16:])), dst)
	} else {
		q.Src, q.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(h[8:])), src), netip.AddrPortFrom(netip.AddrFrom16([16]byte(h[24:])), dst)
	}
	return q, true
}

// Trace receives what programs print.
func (e *env) Trace(line []byte) {
	if w := e.fs.opts.TracePipe; w != nil {
		_, _ = w.Write(line)
	}
}

// redirect carries out what bpf_redirect and its relatives asked for, as far
// as the node does not do it itself (packet.Meta's flags).
func (e *env) redirect(p *hook.Packet) hook.Verdict {
	switch {
	case p.RedirectTo == 0:
		p.Reason = packet.ByClassifier // TC_ACT_REDIRECT without bpf_redirect
		return hook.Drop
	case p.RedirectFlags&vm.RedirectNeigh != 0:
		return e.redirectNeighbor(p)
	case p.RedirectFlags&vm.RedirectPeer != 0:
		// A node's interface has no other end inside the node: the packet is
		// to come in there, which is what the other end of a pair would see.
		p.RedirectFlags = packet.RedirectIngress
	}
	return hook.Redirect
}

// redirectNeighbor sends the network packet to a neighbour on an interface:
// the one given, or the next hop of the packet's own route.
func (e *env) redirectNeighbor(p *hook.Packet) hook.Verdict {
	to, via := p.RedirectTo, p.NextHop
	p.ResetRedirect()
	off, ok := p.L3()
	if !ok || off < 0 || !p.Pull(off) {
		p.Reason = packet.RedirectFailed
		return hook.Drop
	}
	p.Trim(off)
	if !via.IsValid() {
		via = e.nextHopOf(p, to)
	}
	if !via.IsValid() {
		p.Reason = packet.NoRoute
		return hook.Drop
	}
	_ = e.fs.host.ToNeighbor(to, p, via)
	return hook.Stolen
}

func (e *env) nextHopOf(p *hook.Packet, out int) netip.Addr {
	h := p.Head()
	q := hook.RouteQuery{Out: out, Mark: p.Mark}
	switch {
	case len(h) >= 20 && h[0]>>4 == 4:
		q.Src, q.Dst = netip.AddrFrom4([4]byte(h[12:])), netip.AddrFrom4([4]byte(h[16:]))
	case len(h) >= 40 && h[0]>>4 == 6:
		q.Src, q.Dst = netip.AddrFrom16([16]byte(h[8:])), netip.AddrFrom16([16]byte(h[24:]))
	default:
		return netip.Addr{}
	}
	return e.fs.host.Route(q).NextHop
}
