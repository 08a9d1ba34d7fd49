package vm

import (
	"net/netip"
	"syscall"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Clock is one of the clocks that programs can read.
type Clock uint8

// The clocks, in nanoseconds.
const (
	Monotonic Clock = iota // CLOCK_MONOTONIC: bpf_ktime_get_ns
	Boot                   // CLOCK_BOOTTIME
	TAI                    // CLOCK_TAI
	Coarse                 // CLOCK_MONOTONIC_COARSE
)

// Env is the world around a packet, as far as helpers reach into it. Methods are
// called while the program runs, on the goroutine that runs it; they must not wait
// and must not run programs on the same Run. What they are given is valid during the
// call only, unless said otherwise.
type Env interface {
	// Now reads a clock.
	Now(Clock) uint64
	// Random returns 32 random bits.
	Random() uint32
	// Route answers bpf_fib_lookup, and Interface what is known of an interface.
	Route(hook.RouteQuery) hook.Route
	Interface(index int) (hook.Interface, bool)
	// Clone sends a copy of a packet to an interface (bpf_clone_redirect): in at it
	// if ingress, out of it if not. It takes the packet over.
	Clone(pk *packet.Packet, ifindex int, ingress bool) syscall.Errno
	// NextHop says where a packet that bpf_redirect_neigh redirects is to go: a
	// gateway, or with an invalid address whatever the packet's own route says.
	NextHop(pk *packet.Packet, via netip.Addr)
	// SetTunnel attaches a tunnel key to a packet, Tunnel returns the one it came
	// with.
	SetTunnel(pk *packet.Packet, t Tunnel) syscall.Errno
	Tunnel(pk *packet.Packet) (Tunnel, bool)
	// Socket finds a socket of the node (bpf_sk_lookup_*), Assign gives a packet to
	// it (bpf_sk_assign).
	Socket(SocketQuery) (Socket, bool)
	Assign(pk *packet.Packet, s Socket) syscall.Errno
	// Trace receives a line of bpf_trace_printk, without newline if it had none.
	Trace(line []byte)
}

// Tunnel is the key of a packet that came through a tunnel or is to leave by one
// (struct bpf_tunnel_key).
type Tunnel struct {
	ID            uint64
	Local, Remote netip.Addr // outer addresses
	TOS, TTL      uint8
	Label         uint32 // IPv6 flow label
	Flags         uint16 // BPF_F_* of bpf_skb_set_tunnel_key
	Opt           []byte // options, as the tunnel's kind wants them
}

// SocketQuery describes a packet whose socket is wanted. Dst is the local side.
type SocketQuery struct {
	Proto    uint8 // packet.ProtoTCP or packet.ProtoUDP
	Src, Dst netip.AddrPort
	Ifindex  int
	Listen   bool // listening sockets will do
}

// Socket is what programs may know of a socket (struct bpf_sock).
type Socket struct {
	Family   uint32
	Type     uint32
	Protocol uint32
	Mark     uint32
	Priority uint32
	State    uint32
	Bound    int // interface
	Local    netip.AddrPort
	Remote   netip.AddrPort
	Cookie   uint64
	Handle   any // the environment's own
}

// What bpf_redirect and its relatives leave in packet.Meta.RedirectFlags beside
// packet.RedirectIngress.
const (
	RedirectNeigh   = 1 << 16 // resolve the next hop and write the link header
	RedirectPeer    = 1 << 17 // into the other end of the interface's pair
	RedirectNextHop = 1 << 18 // the next hop was given, see Env.NextHop
)
