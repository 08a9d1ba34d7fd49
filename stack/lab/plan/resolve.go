package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"taproom/stack/lab/spec"
)

// Resolved is a lab with everything made explicit.
type Resolved struct {
	Lab       *spec.Lab
	Addresses map[spec.Endpoint][]netip.Prefix // of every interface, lo included
	Links     map[spec.Endpoint]string         // name of the link at an interface
	Resources []Resource
}

// Resolve makes a lab explicit. Old is what is there now, or nil: automatic
// addresses that still fit are kept.
func Resolve(l *spec.Lab, old *Resolved) (*Resolved, error) {
	r := &Resolved{Lab: l, Addresses: map[spec.Endpoint][]netip.Prefix{}, Links: map[spec.Endpoint]string{}}
	var have map[spec.Endpoint][]netip.Prefix
	if old != nil {
		have = old.Addresses
	}
	names := slices.Sorted(maps.Keys(l.Rooms))
	for _, name := range names {
		r.room(name, l.Rooms[name])
	}
	a := newAddresser(l, have)
	for i := range l.Links {
		if err := r.link(&l.Links[i], a); err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
	}
	if err := r.checkAddresses(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := r.staticRoutes(name); err != nil {
			return nil, err
		}
	}
	if l.Routing == spec.RoutingAuto {
		r.computeRoutes()
	}
	for _, name := range slices.Sorted(maps.Keys(l.Sections)) {
		r.add(Section{Name: name, Value: l.Sections[name], Rooms: names})
	}
	for _, name := range names {
		for _, p := range l.Rooms[name].Run {
			r.add(Program{Room: name, Program: p})
		}
	}
	return r, nil
}

func (r *Resolved) add(res Resource) { r.Resources = append(r.Resources, res) }

func (r *Resolved) room(name string, room spec.Room) {
	r.add(Room{Name: name, Kind: room.Kind, PID: room.PID, Path: room.Path})
	if room.Kind == spec.Router {
		r.add(Forwarding{Room: name, On: room.Forwards()})
	} else if room.Forwarding != nil {
		v := "0"
		if *room.Forwarding {
			v = "1"
		}
		for _, s := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
			r.add(Sysctl{Room: name, Name: s, Value: v, Early: true})
		}
	}
	for _, s := range slices.Sorted(maps.Keys(room.Sysctl)) {
		early := !strings.Contains(s, ".conf.") && !strings.Contains(s, ".neigh.") ||
			strings.Contains(s, ".default.") || strings.Contains(s, ".all.")
		r.add(Sysctl{Room: name, Name: s, Value: string(room.Sysctl[s]), Early: early})
	}
	lo := spec.Endpoint{Room: name, Interface: "lo"}
	for _, p := range room.Addresses {
		r.add(Address{At: lo, Prefix: p})
	}
	r.Addresses[lo] = room.Addresses
}

func (r *Resolved) link(k *spec.Link, a *addresser) error {
	l := Link{Name: k.Name, Offload: k.Offload == nil || *k.Offload, Seed: r.Lab.Seed}
	addresses, err := a.link(k)
	if err != nil {
		return err
	}
	for e := range k.Ends {
		end := &k.Ends[e]
		mac := end.MAC
		if mac == "" {
			mac = deriveMAC(r.Lab.Name, end.At)
		}
		l.Ends[e] = LinkEnd{At: end.At, MAC: mac, Queues: end.Queues}
		r.Links[end.At] = k.Name
		r.Addresses[end.At] = addresses[e]
	}
	r.add(l)
	for d, imp := range k.Impairments() {
		r.add(Impairment{Link: k.Name, Direction: d, From: k.Ends[d].At, To: k.Ends[1-d].At, Impairment: imp})
	}
	for e := range k.Ends {
		r.add(MTU{Link: k.Name, At: k.Ends[e].At, MTU: k.Ends[e].MTU})
		for _, p := range addresses[e] {
			r.add(Address{Link: k.Name, At: k.Ends[e].At, Prefix: p})
		}
	}
	for e := range k.Ends {
		room := r.Lab.Rooms[k.Ends[e].At.Room]
		for _, n := range room.Neighbours {
			if n.Dev == k.Ends[e].At.Interface {
				r.add(Neighbour{Link: k.Name, At: k.Ends[e].At, Address: n.Address, MAC: n.MAC})
			}
		}
	}
	return nil
}

// checkAddresses finds one address in two places of a room, or at both ends of
// a link.
func (r *Resolved) checkAddresses() error {
	seen := map[string]spec.Endpoint{}
	for _, res := range r.Resources {
		a, ok := res.(Address)
		if !ok {
			continue
		}
		k := a.At.Room + " " + a.Prefix.Addr().String()
		if other, ok := seen[k]; ok {
			return fmt.Errorf("plan: address %v is at both %v and %v", a.Prefix.Addr(), other, a.At)
		}
		seen[k] = a.At
	}
	for i := range r.Lab.Links {
		e := r.Lab.Links[i].Ends
		for _, p := range r.Addresses[e[0].At] {
			for _, q := range r.Addresses[e[1].At] {
				if p.Addr() == q.Addr() {
					return fmt.Errorf("plan: address %v is at both ends of link %s", p.Addr(), r.Lab.Links[i].Name)
				}
			}
		}
	}
	return nil
}

func (r *Resolved) staticRoutes(room string) error {
	for i, s := range r.Lab.Rooms[room].Routes {
		prefixes := s.To.Prefixes(s.Via)
		if s.To == "default" && !s.Via.IsValid() && s.Dev != "" {
			prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return !r.speaks(room, s.Dev, p.Addr().Is4()) })
		}
		for _, p := range prefixes {
			route := Route{Room: room, Prefix: p, Via: s.Via, Dev: s.Dev, Metric: s.Metric, MTU: s.MTU, Kind: s.Kind}
			if route.Kind == "unicast" {
				route.Kind = ""
			}
			if route.Kind == "" {
				if err := r.ground(&route); err != nil {
					return fmt.Errorf("plan: rooms.%s.routes[%d]: %w", room, i, err)
				}
			}
			r.add(route)
		}
	}
	return nil
}

// speaks reports whether an interface has an address of an IP version.
func (r *Resolved) speaks(room, dev string, v4 bool) bool {
	return slices.ContainsFunc(r.Addresses[spec.Endpoint{Room: room, Interface: dev}],
		func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}

// ground finds what a route stands on: the interface, and the address whose
// network the next hop is in.
func (r *Resolved) ground(route *Route) error {
	for _, at := range r.interfaces(route.Room) {
		if route.Dev != "" && route.Dev != at.Interface {
			continue
		}
		for _, p := range r.Addresses[at] {
			if route.Via.IsValid() && p.Contains(route.Via) {
				route.Dev = at.Interface
				route.Lives = Address{At: at, Prefix: p}.Key()
				return nil
			}
		}
	}
	if route.Dev == "" {
		return fmt.Errorf("next hop %v is in no network of room %s", route.Via, route.Room)
	}
	if link := r.Links[spec.Endpoint{Room: route.Room, Interface: route.Dev}]; link != "" {
		route.Lives = "link/" + link
	}
	return nil
}

// interfaces of a room, sorted by name.
func (r *Resolved) interfaces(room string) []spec.Endpoint {
	var out []spec.Endpoint
	for at := range r.Addresses {
		if at.Room == room {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, func(a, b spec.Endpoint) int { return strings.Compare(a.Interface, b.Interface) })
	return out
}

// Room are the addresses of a room: lo's first, then by interface name.
func (r *Resolved) Room(room string) []netip.Prefix {
	out := slices.Clone(r.Addresses[spec.Endpoint{Room: room, Interface: "lo"}])
	for _, at := range r.interfaces(room) {
		if at.Interface != "lo" {
			out = append(out, r.Addresses[at]...)
		}
	}
	return out
}

// Owner is the room that has an address, empty if none does.
func (r *Resolved) Owner(a netip.Addr) string {
	for at, addresses := range r.Addresses {
		for _, p := range addresses {
			if p.Addr() == a.WithZone("") {
				return at.Room
			}
		}
	}
	return ""
}
