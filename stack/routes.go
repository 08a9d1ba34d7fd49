package stack

import (
	"fmt"
	"net/netip"

	"taproom/stack/hook"
)

// AddRoute adds a route. It fails with ErrRouteExists if the same prefix has
// a route with the same gateway, interface and metric, and says so when the
// gateway is not on a connected network or the interface does not exist.
func (n *Node) AddRoute(r Route) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.resolveRouteLocked(&r)
	if err != nil {
		return err
	}
	if e, ok := n.fib.Load().table.Get(r.Prefix); ok {
		for i := range e.hops {
			if sameRoute(&e.hops[i], h) {
				return fmt.Errorf("%w: %v", ErrRouteExists, r)
			}
		}
	}
	n.setFIBLocked(n.fib.Load().with(r.Prefix, *h))
	return nil
}

// AddRoutes adds many routes at once, for tables of more than a handful. The
// first that is wrong ends it, and none is added then.
func (n *Node) AddRoutes(rs []Route) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.fib.Load()
	for i := range rs {
		h, err := n.resolveRouteLocked(&rs[i])
		if err != nil {
			return err
		}
		f = f.with(rs[i].Prefix, *h)
	}
	n.setFIBLocked(f)
	return nil
}

// DelRoute removes the routes to a prefix that match what is set in r: its
// gateway, interface, metric. It fails with ErrNoSuchRoute if none does.
func (n *Node) DelRoute(r Route) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, removed := n.fib.Load().without(r.Prefix.Masked(), func(h *hop) bool {
		return !h.spec.Kernel &&
			(!r.Via.IsValid() || r.Via == h.via) &&
			(r.Interface == "" || h.ifc != nil && r.Interface == h.ifc.name) &&
			(r.Metric == 0 || r.Metric == h.metric)
	})
	if removed == 0 {
		return fmt.Errorf("%w: %v", ErrNoSuchRoute, r)
	}
	n.setFIBLocked(f)
	return nil
}

// Routes lists the table, shorter prefixes after longer ones of the same
// network. Host routes of the node's own addresses are left out.
func (n *Node) Routes() []Route {
	var out []Route
	for _, e := range n.fib.Load().table.AllSorted() {
		for i := range e.hops {
			if k := e.hops[i].kind; k != hook.LocalRoute && k != hook.BroadcastRoute {
				out = append(out, e.hops[i].spec)
			}
		}
	}
	return out
}

// Lookup returns the route a packet to dst would take now.
func (n *Node) Lookup(dst netip.Addr) (Route, bool) {
	h := n.fib.Load().lookup(dst, nil)
	if h == nil {
		return Route{}, false
	}
	r := h.spec
	r.Kind = h.kind
	return r, true
}

func sameRoute(a, b *hop) bool {
	return a.kind == b.kind && a.via == b.via && a.ifc == b.ifc && a.metric == b.metric
}

func (n *Node) resolveRouteLocked(r *Route) (*hop, error) {
	if !r.Prefix.IsValid() {
		return nil, fmt.Errorf("stack: route on %s has no prefix", n.name)
	}
	if m := r.Prefix.Masked(); m != r.Prefix {
		return nil, fmt.Errorf("stack: route %v has bits set behind its prefix (%v is meant?)", r.Prefix, m)
	}
	if r.Kind == hook.NoRoute {
		r.Kind = hook.Unicast
	}
	h := &hop{kind: r.Kind, via: r.Via, src: r.Src, mtu: r.MTU, metric: r.Metric}
	switch r.Kind {
	case hook.Blackhole, hook.Unreachable, hook.Prohibit:
		h.spec = *r
		return h, nil
	case hook.Unicast:
	default:
		return nil, fmt.Errorf("stack: route %v: routes of kind %v come with addresses", r.Prefix, r.Kind)
	}
	if r.Via.IsValid() && r.Via.Is4() != r.Prefix.Addr().Is4() && !r.Via.Is6() {
		return nil, fmt.Errorf("stack: route %v: gateway %v is of the other IP version", r.Prefix, r.Via)
	}
	if r.Interface != "" {
		if h.ifc = n.byName[r.Interface]; h.ifc == nil {
			return nil, fmt.Errorf("stack: route %v: %w: %q on node %s", r.Prefix, hook.ErrNoInterface, r.Interface, n.name)
		}
	} else {
		if !r.Via.IsValid() {
			return nil, fmt.Errorf("stack: route %v has neither gateway nor interface", r.Prefix)
		}
		for _, ifc := range n.byName {
			if ifc.onLink(r.Via) {
				h.ifc = ifc
				break
			}
		}
		if h.ifc == nil {
			return nil, fmt.Errorf("stack: route %v: gateway %v is on no connected network of node %s", r.Prefix, r.Via, n.name)
		}
		r.Interface = h.ifc.name
	}
	h.spec = *r
	return h, nil
}

// setFIBLocked makes a table the one that packets see, and tells netstack.
func (n *Node) setFIBLocked(f *fib) {
	n.fib.Store(f)
	n.mirrorRoutesLocked()
	n.changed()
}
