package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"taproom/stack/hook"
)

// The errors of routes.
var (
	ErrRouteExists = errors.New("stack: route exists")
	ErrNoSuchRoute = errors.New("stack: no such route")
)

// Route is an entry of a node's routing table. Addresses bring routes of
// their own, which Routes lists with Kernel set.
type Route struct {
	Prefix    netip.Prefix
	Kind      hook.RouteKind // the zero value is a unicast route
	Via       netip.Addr     // the gateway, invalid for a destination on the link
	Interface string         // may be left out if Via is on a connected prefix
	Metric    uint32         // the smallest whose interface is up wins; equals share the load by flow
	MTU       int            // smaller than the interface's; 0 is the interface's
	Src       netip.Addr     // preferred source of the node's own packets
	Kernel    bool           // comes with an address
}

func (r Route) String() string {
	s := r.Prefix.String()
	if r.Kind != hook.NoRoute && r.Kind != hook.Unicast {
		s = r.Kind.String() + " " + s
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Interface != "" {
		s += " dev " + r.Interface
	}
	if r.Metric != 0 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	return s
}

// hop is one way of a table entry, resolved to an interface.
type hop struct {
	kind   hook.RouteKind
	ifc    *Interface // nil for blackhole and the like
	via    netip.Addr
	src    netip.Addr
	mtu    int
	metric uint32
	spec   Route
}

func (h *hop) usable() bool { return h.ifc == nil || h.ifc.up.Load() }

// entry is what a prefix leads to: ways in order of metric.
type entry struct{ hops []hop }

// pick chooses the way for a flow: the first usable metric, and among equals
// by hash.
func (e *entry) pick(hash func() uint32) *hop {
	for i := range e.hops {
		h := &e.hops[i]
		if !h.usable() {
			continue
		}
		n := 1
		for j := i + 1; j < len(e.hops) && e.hops[j].metric == h.metric; j++ {
			if e.hops[j].usable() {
				n++
			}
		}
		if n == 1 || hash == nil {
			return h
		}
		k := int(hash() % uint32(n))
		for j := i; ; j++ {
			if e.hops[j].usable() {
				if k == 0 {
					return &e.hops[j]
				}
				k--
			}
		}
	}
	return nil
}

// fib is an immutable table: one trie for both versions, in which a node's
// own addresses are host routes of kind LocalRoute.
type fib struct{ table *bart.Table[*entry] }

func newFIB() *fib { return &fib{table: new(bart.Table[*entry])} }

// lookup finds the way to dst, nil if there is none.
func (f *fib) lookup(dst netip.Addr, hash func() uint32) *hop {
	e, ok := f.table.Lookup(dst)
	if !ok {
		return nil
	}
	if h := e.pick(hash); h != nil {
		return h
	}
	return f.lookupShorter(dst, hash)
}

// lookupShorter is for the rare case that all ways of the longest prefix are
// down: a shorter one may have a way that is up.
func (f *fib) lookupShorter(dst netip.Addr, hash func() uint32) *hop {
	var best *hop
	bits := -1
	for pfx, e := range f.table.Supernets(netip.PrefixFrom(dst, dst.BitLen())) {
		if h := e.pick(hash); h != nil && pfx.Bits() > bits {
			best, bits = h, pfx.Bits()
		}
	}
	return best
}

// lookupOut finds a way to dst through one interface.
func (f *fib) lookupOut(dst netip.Addr, out *Interface) *hop {
	var best *hop
	bits := -1
	for pfx, e := range f.table.Supernets(netip.PrefixFrom(dst, dst.BitLen())) {
		for i := range e.hops {
			if h := &e.hops[i]; h.ifc == out && h.usable() && pfx.Bits() > bits {
				best, bits = h, pfx.Bits()
				break
			}
		}
	}
	return best
}

func (f *fib) with(pfx netip.Prefix, h hop) *fib {
	var next entry
	if e, ok := f.table.Get(pfx); ok {
		next.hops = slices.Clone(e.hops)
	}
	i := 0
	for i < len(next.hops) && rank(&next.hops[i]) <= rank(&h) {
		i++
	}
	next.hops = slices.Insert(next.hops, i, h)
	return &fib{table: f.table.InsertPersist(pfx, &next)}
}

// rank orders the ways of a prefix: the node's own addresses win over
// anything that is routed, as Linux's local table does.
func rank(h *hop) uint64 {
	if h.kind == hook.LocalRoute || h.kind == hook.BroadcastRoute {
		return 0
	}
	return 1 + uint64(h.metric)
}

func (f *fib) without(pfx netip.Prefix, match func(*hop) bool) (*fib, int) {
	e, ok := f.table.Get(pfx)
	if !ok {
		return f, 0
	}
	hops := slices.DeleteFunc(slices.Clone(e.hops), func(h hop) bool { return match(&h) })
	removed := len(e.hops) - len(hops)
	if removed == 0 {
		return f, 0
	}
	if len(hops) == 0 {
		return &fib{table: f.table.DeletePersist(pfx)}, removed
	}
	return &fib{table: f.table.InsertPersist(pfx, &entry{hops: hops})}, removed
}

// withoutAll removes every way that matches, in the whole table.
func (f *fib) withoutAll(match func(*hop) bool) *fib {
	var hit []netip.Prefix
	for pfx, e := range f.table.All() {
		if slices.ContainsFunc(e.hops, func(h hop) bool { return match(&h) }) {
			hit = append(hit, pfx)
		}
	}
	for _, pfx := range hit {
		f, _ = f.without(pfx, match)
	}
	return f
}
