package stack

import (
	"fmt"
	"maps"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// MulticastRoute forwards what a source sends to a group (RFC 1112; as
// ip-mroute: static, per source and group).
type MulticastRoute struct {
	Source netip.Addr // unspecified matches any
	Group  netip.Addr
	In     string   // the interface it must come in at
	Out    []string // where copies go
	MinTTL uint8    // smaller hop limits are not forwarded; 0 and 1 are the same
}

type mrouteKey struct{ src, group netip.Addr }

type mroute struct {
	spec MulticastRoute
	in   *Interface
	out  []*Interface
}

type mrouteTable map[mrouteKey]*mroute

// AddMulticastRoute adds or replaces the route of a source and group.
func (n *Node) AddMulticastRoute(r MulticastRoute) error {
	if !r.Group.IsMulticast() || r.Group.IsLinkLocalMulticast() || r.Group.IsInterfaceLocalMulticast() {
		return fmt.Errorf("stack: %v is not a group that is forwarded", r.Group)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &mroute{spec: r, in: n.byName[r.In]}
	if m.in == nil {
		return fmt.Errorf("%w: %q on node %s", hook.ErrNoInterface, r.In, n.name)
	}
	for _, name := range r.Out {
		o := n.byName[name]
		if o == nil || o == m.in {
			return fmt.Errorf("stack: multicast route %v: %q is no interface it can leave by", r.Group, name)
		}
		m.out = append(m.out, o)
	}
	t := maps.Clone(*n.mroutes.Load())
	if t == nil {
		t = make(mrouteTable)
	}
	t[mrouteKey{r.Source, r.Group}] = m
	n.mroutes.Store(&t)
	return nil
}

// DelMulticastRoute removes the route of a source and group.
func (n *Node) DelMulticastRoute(src, group netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := maps.Clone(*n.mroutes.Load())
	k := mrouteKey{src, group}
	if t[k] == nil {
		return fmt.Errorf("%w: (%v, %v)", ErrNoSuchRoute, src, group)
	}
	delete(t, k)
	n.mroutes.Store(&t)
	return nil
}

// forwardMulticast sends copies where a route says. It takes the packet over,
// and says so, unless the node itself is to have it as well.
func (n *Node) forwardMulticast(i *Interface, p *packet.Packet, f hook.Family, src, dst netip.Addr, member bool) bool {
	t := *n.mroutes.Load()
	if len(t) == 0 || !n.forwarding.Load() || p.Local {
		return false
	}
	m := t[mrouteKey{src, dst}]
	if m == nil {
		m = t[mrouteKey{netip.IPv4Unspecified(), dst}]
	}
	if m == nil {
		m = t[mrouteKey{netip.IPv6Unspecified(), dst}]
	}
	h := p.Head()
	if m == nil || m.in != i || hopLimit(h, f) <= max(1, m.spec.MinTTL) {
		return false
	}
	for k, o := range m.out {
		q := p
		if member || k < len(m.out)-1 {
			q = p.Clone()
		}
		countDown(q.Head(), f)
		q.Out = o.index
		hp := &o.ep.self
		if mtu := hp.pathMTU(); tooBig(q, f, mtu) && !mayFragment(q, f) {
			n.packetTooBig(i, q, f, mtu)
			i.dropIn(q, packet.TooBig)
			continue
		}
		i.afterForward(q, f, hp, n.hooks.Run(hook.Forward, f, q))
	}
	return !member && len(m.out) > 0
}
