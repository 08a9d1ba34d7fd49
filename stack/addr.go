package stack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"taproom/stack/hook"
)

// AddAddress gives the interface an address with its network: a host route
// for the address, a connected route for the network and, for IPv4, one for
// its broadcast address.
func (i *Interface) AddAddress(p netip.Prefix) error {
	i.node.mu.Lock()
	defer i.node.mu.Unlock()
	if i.gone.Load() {
		return hook.ErrNoInterface
	}
	if err := i.addAddressLocked(p); err != nil {
		return err
	}
	i.node.changed()
	return nil
}

func (i *Interface) addAddressLocked(p netip.Prefix) error {
	a := p.Addr()
	if !p.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("stack: %s:%s: %v is not an address an interface can have", i.node.name, i.name, p)
	}
	for _, have := range *i.addrs.Load() {
		if have.Addr() == a {
			return fmt.Errorf("stack: %s:%s has address %v already", i.node.name, i.name, a)
		}
	}
	if err := i.ep.addAddress(p); err != nil {
		return err
	}
	addrs := append(slices.Clone(*i.addrs.Load()), p)
	i.addrs.Store(&addrs)
	f := i.node.fib.Load()
	for _, r := range i.routesOf(p) {
		f = f.with(r.spec.Prefix, r)
	}
	i.node.setFIBLocked(f)
	return nil
}

// DelAddress takes an address away, with the routes it brought.
func (i *Interface) DelAddress(a netip.Addr) error {
	i.node.mu.Lock()
	defer i.node.mu.Unlock()
	addrs := slices.Clone(*i.addrs.Load())
	k := slices.IndexFunc(addrs, func(p netip.Prefix) bool { return p.Addr() == a })
	if k < 0 {
		return fmt.Errorf("%w: %v on %s:%s", ErrNoAddress, a, i.node.name, i.name)
	}
	gone := addrs[k]
	addrs = slices.Delete(addrs, k, k+1)
	i.addrs.Store(&addrs)
	i.ep.removeAddress(a)
	f := i.node.fib.Load()
	for _, r := range i.routesOf(gone) {
		first := true
		f, _ = f.without(r.spec.Prefix, func(h *hop) bool {
			hit := first && h.ifc == i && h.kind == r.kind && h.spec.Kernel && h.src == r.src
			first = first && !hit
			return hit
		})
	}
	i.node.setFIBLocked(f)
	return nil
}

// Addresses lists the interface's addresses in the order they were given.
func (i *Interface) Addresses() []netip.Prefix { return slices.Clone(*i.addrs.Load()) }

// routesOf are the routes that come with an address. Link-local ones stay
// out of the table: they mean something on one link only.
func (i *Interface) routesOf(p netip.Prefix) []hop {
	a := p.Addr()
	if a.Is6() && a.IsLinkLocalUnicast() {
		return nil
	}
	mk := func(pfx netip.Prefix, k hook.RouteKind) hop {
		return hop{kind: k, ifc: i, src: a, spec: Route{Prefix: pfx, Kind: k, Interface: i.name, Src: a, Kernel: true}}
	}
	out := []hop{mk(netip.PrefixFrom(a, a.BitLen()), hook.LocalRoute)}
	if i.loopback() && a.Is4() {
		return append(out, mk(p.Masked(), hook.LocalRoute)) // all of 127/8 is here
	}
	if p.Bits() < a.BitLen() {
		out = append(out, mk(p.Masked(), hook.Unicast))
	}
	if a.Is4() && p.Bits() <= 30 {
		out = append(out, mk(netip.PrefixFrom(broadcastOf(p), 32), hook.BroadcastRoute))
	}
	return out
}

func broadcastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	v := binary.BigEndian.Uint32(b[:]) | ^uint32(0)>>p.Bits()
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// onLink reports whether a destination is on one of the interface's networks.
func (i *Interface) onLink(a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return false // could be any: the interface has to be named
	}
	for _, p := range *i.addrs.Load() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// has reports whether an address is one of the interface's own.
func (i *Interface) has(a netip.Addr) bool {
	for _, p := range *i.addrs.Load() {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// source chooses the interface's address for talking to dst: one of the same
// network, else the first of matching scope (a short form of RFC 6724).
func (i *Interface) source(dst netip.Addr) netip.Addr {
	var best netip.Addr
	score := -1
	for _, p := range *i.addrs.Load() {
		a := p.Addr()
		if a.Is4() != dst.Is4() {
			continue
		}
		s := 0
		if a.IsLinkLocalUnicast() == (dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast()) {
			s += 2
		}
		if p.Contains(dst) {
			s += 1
		}
		if s > score {
			best, score = a, s
		}
	}
	return best
}
