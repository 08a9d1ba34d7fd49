// Package envtest is a world for BPF programs under test: clocks that stand still until
// told otherwise, numbers that are not random, and a record of everything that programs
// asked for.
package envtest

import (
	"net/netip"
	"syscall"

	"taproom/filter/vm"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Env implements vm.Env. The zero value knows no interface, route or socket; its fields
// may be set before a run and read after it. It is not safe for concurrent use.
type Env struct {
	Clocks     [4]uint64 // by vm.Clock
	Numbers    []uint32  // what Random returns, in turn and again; none means 0
	Interfaces []hook.Interface
	// Routes answers Route; nil means that there is none.
	Routes func(hook.RouteQuery) hook.Route
	// Sockets answers Socket; nil means that there is none.
	Sockets func(vm.SocketQuery) (vm.Socket, bool)
	// CloneError is what Clone returns.
	CloneError syscall.Errno

	Clones   []Clone
	NextHops []netip.Addr
	Tunnels  map[*packet.Packet]vm.Tunnel
	Assigned []vm.Socket
	Lines    []string // of bpf_trace_printk
	Asked    []hook.RouteQuery

	drawn int
}

// Clone is a packet that bpf_clone_redirect sent away.
type Clone struct {
	Bytes   []byte
	Ifindex int
	Ingress bool
}

var _ vm.Env = (*Env)(nil)

// Now implements vm.Env.
func (e *Env) Now(c vm.Clock) uint64 { return e.Clocks[c] }

// Random implements vm.Env.
func (e *Env) Random() uint32 {
	if len(e.Numbers) == 0 {
		return 0
	}
	e.drawn++
	return e.Numbers[(e.drawn-1)%len(e.Numbers)]
}

// Route implements vm.Env.
func (e *Env) Route(q hook.RouteQuery) hook.Route {
	e.Asked = append(e.Asked, q)
	if e.Routes == nil {
		return hook.Route{}
	}
	return e.Routes(q)
}

// Interface implements vm.Env.
func (e *Env) Interface(index int) (hook.Interface, bool) {
	for _, i := range e.Interfaces {
		if i.Index == index {
			return i, true
		}
	}
	return hook.Interface{}, false
}

// Clone implements vm.Env.
func (e *Env) Clone(pk *packet.Packet, ifindex int, ingress bool) syscall.Errno {
	defer pk.Release()
	if e.CloneError != 0 {
		return e.CloneError
	}
	b := make([]byte, pk.Len())
	pk.CopyTo(b, 0)
	e.Clones = append(e.Clones, Clone{b, ifindex, ingress})
	return 0
}

// NextHop implements vm.Env.
func (e *Env) NextHop(_ *packet.Packet, via netip.Addr) { e.NextHops = append(e.NextHops, via) }

// SetTunnel implements vm.Env.
func (e *Env) SetTunnel(pk *packet.Packet, t vm.Tunnel) syscall.Errno {
	if e.Tunnels == nil {
		e.Tunnels = map[*packet.Packet]vm.Tunnel{}
	}
	e.Tunnels[pk] = t
	return 0
}

// Tunnel implements vm.Env.
func (e *Env) Tunnel(pk *packet.Packet) (vm.Tunnel, bool) {
	t, ok := e.Tunnels[pk]
	return t, ok
}

// Socket implements vm.Env.
func (e *Env) Socket(q vm.SocketQuery) (vm.Socket, bool) {
	if e.Sockets == nil {
		return vm.Socket{}, false
	}
	return e.Sockets(q)
}

// Assign implements vm.Env.
func (e *Env) Assign(_ *packet.Packet, s vm.Socket) syscall.Errno {
	e.Assigned = append(e.Assigned, s)
	return 0
}

// Trace implements vm.Env.
func (e *Env) Trace(line []byte) { e.Lines = append(e.Lines, string(line)) }
