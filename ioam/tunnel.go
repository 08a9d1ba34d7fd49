package ioam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/gaissmai/bart"

	"taproom/ioam/option"
	"taproom/stack/hook"
)

// Mode is how a tunnel puts a trace into packets (IOAM6_IPTUNNEL_MODE_*).
type Mode uint8

// The modes.
const (
	Inline Mode = iota + 1 // into the packet itself
	Encap                  // into an outer IPv6 header around it
	Auto                   // inline for the node's own packets, encap for others
)

var modeNames = [...]string{"none", "inline", "encap", "auto"}

func (m Mode) String() string { return modeNames[int(m)%len(modeNames)] }

// ParseMode is the reverse of String.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(modeNames[1:], s); i >= 0 {
		return Mode(i + 1), nil
	}
	return 0, fmt.Errorf("ioam: invalid mode %q (one of %v)", s, modeNames[1:])
}

// MTUPolicy says what happens to a packet that would be too big with its trace.
type MTUPolicy uint8

const (
	// MTUSignal tells the sender of a forwarded packet the MTU that leaves
	// room for the trace (Packet Too Big), lets the node's own packets be
	// fragmented, and cuts TCP super-frames into smaller segments.
	MTUSignal MTUPolicy = iota
	// MTULinux takes no care: Packet Too Big names the link's MTU, which does
	// not help the sender, and forwarded packets in encap mode are lost.
	MTULinux
	// MTUSkip lets such packets go without a trace.
	MTUSkip
)

// MaxFrequency is the largest n of k out of n.
const MaxFrequency = 1000000

// Tunnel is an encapsulating route (lwtunnel ioam6): what is put into packets
// to a destination prefix.
type Tunnel struct {
	Prefix netip.Prefix // destinations; of several the longest prefix counts

	// Class, and Mark under MarkMask, restrict the tunnel to packets that a
	// classifier has marked so. Zero does not.
	Class    uint32
	Mark     uint32
	MarkMask uint32

	Mode Mode // 0 is Inline
	// K out of N packets get a trace, the first K of every N. 0 of 0 is 1 of 1.
	K, N uint32
	Dst  netip.Addr // of the outer header; not for Inline
	Src  netip.Addr // invalid: chosen by the destination

	Kind      option.Kind // Preallocated (default), Incremental or DirectExport
	Namespace uint16
	Type      option.Type
	Size      int  // room for data in octets, a multiple of 4, at most 244
	Overflow  bool // preset in every packet
	Reserved  uint8
	Loopback  bool // L and A flags (RFC 9322)
	Active    bool
	FlowID    uint32         // of direct export
	E2E       option.E2EType // fields of an edge-to-edge option beside it; 0 is none

	MTU MTUPolicy
	// Stripped promises that the option is taken out again before the
	// receiver sees it. Without that RoCE packets (UDP port 4791) get no
	// inline trace: their receivers would drop them as corrupt.
	Stripped bool
}

const textTrace = "invalid trace validation"

// normal returns the tunnel with defaults filled in, or Linux's refusal.
func (t Tunnel) normal() (Tunnel, error) {
	op := fmt.Sprintf("tunnel to %v", t.Prefix)
	inval := func(text string) (Tunnel, error) { return t, refuse(op, syscall.EINVAL, text) }
	if t.Mode == 0 {
		t.Mode = Inline
	}
	if t.K == 0 && t.N == 0 {
		t.K, t.N = 1, 1
	}
	switch {
	case !t.Prefix.IsValid() || !t.Prefix.Addr().Is6() || t.Prefix.Addr().Is4In6():
		return inval("not an IPv6 prefix")
	case t.Mode > Auto || t.K > MaxFrequency || t.N > MaxFrequency:
		return t, refuse(op, syscall.ERANGE, "integer out of range")
	case t.K == 0 || t.N == 0:
		return inval("freq: missing parameter")
	case t.K > t.N:
		return inval("freq: k > n is forbidden")
	case t.Mode != Inline && !t.Dst.IsValid():
		return inval("this mode needs a tunnel destination")
	case t.Mode == Inline && t.Src.IsValid():
		return inval("no tunnel src expected with this mode")
	case t.Type == 0 && t.Reserved == 0, t.Type > option.All, t.Type&(option.Undefined|option.Reserved) != 0,
		t.Kind > option.Incremental && t.Kind != option.DirectExport:
		return inval(textTrace)
	case t.Kind != option.DirectExport && (t.Size <= 0 || t.Size%4 != 0 || t.Size > 4*option.MaxWords):
		return inval(textTrace)
	case t.Mode != Inline && t.Dst.IsUnspecified():
		return inval("invalid tunnel dest address")
	case t.Src.IsValid() && t.Src.IsUnspecified():
		return inval("invalid tunnel source address")
	case !t.E2E.Valid():
		return inval("invalid edge-to-edge type")
	}
	t.Prefix = t.Prefix.Masked()
	return t, nil
}

// Encapsulation is the part of a route that ip -6 route show prints.
func (t Tunnel) Encapsulation() string {
	t, _ = t.normal()
	var b strings.Builder
	fmt.Fprintf(&b, "encap ioam6 freq %d/%d mode %s ", t.K, t.N, t.Mode)
	if t.Mode != Inline {
		if t.Src.IsValid() {
			fmt.Fprintf(&b, "tunsrc %s ", t.Src)
		}
		fmt.Fprintf(&b, "tundst %s ", t.Dst)
	}
	fmt.Fprintf(&b, "trace %s type %v ns %d size %d", t.Kind, t.Type, t.Namespace, t.Size)
	return b.String()
}

// tunnel is a Tunnel at work.
type tunnel struct {
	Tunnel
	dst [16]byte
	// header is the options headers that are put in, with no data in them and
	// the next header of the last one open; chained says where that one is.
	header  []byte
	chained int
	e2e     int           // offset of the edge-to-edge option in header, 0 if none
	count   atomic.Uint64 // packets that met the tunnel
	seq     atomic.Uint64 // packets it put something into
}

func compile(spec Tunnel) *tunnel {
	t := &tunnel{Tunnel: spec}
	if spec.Dst.IsValid() {
		t.dst = spec.Dst.As16()
	}
	var opt []byte
	if spec.Kind == option.DirectExport {
		d := option.DEX{Namespace: spec.Namespace, Type: spec.Type, Extension: option.DEXFlowID | option.DEXSequence, FlowID: spec.FlowID}
		opt = make([]byte, d.OptionLen())
		d.Encode(opt)
	} else {
		f := option.TraceFields{
			Kind: spec.Kind, Namespace: spec.Namespace, Type: spec.Type, Words: spec.Size / 4, Overflow: spec.Overflow,
			Loopback: spec.Loopback, Active: spec.Active, Reserved: spec.Reserved,
		}
		opt = make([]byte, f.OptionLen())
		f.Encode(opt)
	}
	t.header = make([]byte, option.HeaderFor(len(opt)))
	option.EncodeHeader(t.header, 0, len(opt))
	copy(t.header[4:], opt)
	if spec.E2E != 0 {
		e := option.E2E{Namespace: spec.Namespace, Type: spec.E2E}
		t.chained = len(t.header)
		t.header[0] = 60 // destination options
		t.e2e = t.chained + 4
		t.header = append(t.header, make([]byte, option.HeaderFor(e.OptionLen()))...)
		option.EncodeHeader(t.header[t.chained:], 0, e.OptionLen())
		e.Encode(t.header[t.e2e:])
	}
	return t
}

// tunnels is an immutable set.
type tunnels struct {
	table bart.Table[[]*tunnel]
	n     int
}

// match finds the tunnel a packet goes into: that with the longest prefix
// whose class and mark the packet has.
func (ts *tunnels) match(p *hook.Packet, dst []byte) *tunnel {
	if ts.n == 0 {
		return nil
	}
	list, _ := ts.table.Lookup(netip.AddrFrom16([16]byte(dst)))
	for _, t := range list {
		if (t.Class == 0 || t.Class == p.ClassID) && p.Mark&t.MarkMask == t.Mark {
			return t
		}
	}
	return nil
}

// AddTunnel adds an encapsulating route. Two may have the same prefix if a
// classifier tells them apart: the one added first is asked first.
func (n *Node) AddTunnel(spec Tunnel) error {
	spec, err := spec.normal()
	if err != nil {
		return err
	}
	err = n.change(func(s *state) error {
		old, _ := s.tunnels.table.Get(spec.Prefix)
		for _, t := range old {
			if t.Class == spec.Class && t.Mark == spec.Mark && t.MarkMask == spec.MarkMask {
				return refuse(fmt.Sprintf("tunnel to %v", spec.Prefix), syscall.EEXIST, "")
			}
		}
		s.tunnels = &tunnels{table: *s.tunnels.table.Clone(), n: s.tunnels.n + 1}
		s.tunnels.table.Insert(spec.Prefix, append(slices.Clone(old), compile(spec)))
		return nil
	})
	return errors.Join(err, n.hookPostrouting())
}

// DelTunnel removes all encapsulating routes to a prefix; ESRCH if there is
// none, as for a route.
func (n *Node) DelTunnel(prefix netip.Prefix) error {
	prefix = prefix.Masked()
	return n.change(func(s *state) error {
		old, ok := s.tunnels.table.Get(prefix)
		if !ok {
			return refuse(fmt.Sprintf("tunnel to %v", prefix), syscall.ESRCH, "")
		}
		s.tunnels = &tunnels{table: *s.tunnels.table.Clone(), n: s.tunnels.n - len(old)}
		s.tunnels.table.Delete(prefix)
		return nil
	})
}

// Tunnels lists the encapsulating routes by prefix.
func (n *Node) Tunnels() []Tunnel {
	var out []Tunnel
	for _, list := range n.state.Load().tunnels.table.AllSorted() {
		for _, t := range list {
			out = append(out, t.Tunnel)
		}
	}
	return out
}
