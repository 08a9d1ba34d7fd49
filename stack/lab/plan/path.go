package plan

import (
	"maps"
	"net/netip"
	"slices"

	"taproom/stack/lab/spec"
)

// Computed routes are the shortest paths by the links' costs, for each IP
// version on its own. Only rooms that forward are passed through. A room at
// the edge that has one way out gets a default route; everybody else a route
// to each network.

type edge struct {
	from, to spec.Endpoint
	via      netip.Addr   // the far end's address
	local    netip.Prefix // this end's address, in the same network
	cost     int
}

// network is a destination: a prefix and the rooms that are in it.
type network struct {
	prefix netip.Prefix
	rooms  []string
}

func (r *Resolved) computeRoutes() {
	names := slices.Sorted(maps.Keys(r.Lab.Rooms))
	for _, v4 := range []bool{true, false} {
		edges, networks := r.graph(v4)
		for _, room := range names {
			if r.Lab.Rooms[room].Routes == nil {
				r.routesOf(room, v4, edges, networks)
			}
		}
	}
}

// graph collects edges by room, and networks, in the order of the file.
func (r *Resolved) graph(v4 bool) (map[string][]edge, []network) {
	edges := map[string][]edge{}
	var networks []network
	index := map[netip.Prefix]int{}
	join := func(p netip.Prefix, room string) {
		i, ok := index[p.Masked()]
		if !ok {
			i = len(networks)
			index[p.Masked()] = i
			networks = append(networks, network{prefix: p.Masked()})
		}
		networks[i].rooms = append(networks[i].rooms, room)
	}
	for i := range r.Lab.Links {
		k := &r.Lab.Links[i]
		imp := k.Impairments()
		cut := imp[0].Down || imp[1].Down // no carrier: led round
		for d := range 2 {
			from, to := k.Ends[d].At, k.Ends[1-d].At
			found := false
			for _, p := range r.Addresses[from] {
				if p.Addr().Is4() != v4 {
					continue
				}
				join(p, from.Room)
				for _, q := range r.Addresses[to] {
					if !found && !cut && p.Contains(q.Addr()) {
						edges[from.Room] = append(edges[from.Room], edge{from, to, q.Addr(), p, k.Cost})
						found = true
					}
				}
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(r.Lab.Rooms)) {
		for _, p := range r.Lab.Rooms[room].Addresses {
			if p.Addr().Is4() == v4 {
				join(p, room)
			}
		}
	}
	return edges, networks
}

// way is the cost of reaching a room, and the first edge of the path.
type way struct {
	cost  int
	first *edge
}

// shortest is Dijkstra's algorithm. Equal paths are decided by the order of
// the links in the file, so that the result is always the same.
func (r *Resolved) shortest(room string, edges map[string][]edge) map[string]way {
	best := map[string]way{room: {}}
	done := map[string]bool{}
	order := []string{room} // rooms with a known way
	for {
		at := ""
		for _, n := range order {
			if !done[n] && (at == "" || best[n].cost < best[at].cost) {
				at = n
			}
		}
		if at == "" {
			return best
		}
		done[at] = true
		if at != room && !r.Lab.Rooms[at].Forwards() {
			continue
		}
		for i := range edges[at] {
			e := &edges[at][i]
			w := way{best[at].cost + e.cost, best[at].first}
			if at == room {
				w.first = e
			}
			old, known := best[e.to.Room]
			if !known {
				order = append(order, e.to.Room)
			}
			if !known || w.cost < old.cost {
				best[e.to.Room] = w
			}
		}
	}
}

func (r *Resolved) routesOf(room string, v4 bool, edges map[string][]edge, networks []network) {
	add := func(p netip.Prefix, e *edge) {
		r.add(Route{Room: room, Prefix: p, Via: e.via, Dev: e.from.Interface,
			Lives: Address{At: e.from, Prefix: e.local}.Key()})
	}
	own := edges[room]
	if r.links(room) == 1 && len(own) == 1 && !r.Lab.Rooms[room].Forwards() {
		if r.Lab.Rooms[own[0].to.Room].Forwards() {
			p := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if v4 {
				p = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
			add(p, &own[0])
		}
		return
	}
	best := r.shortest(room, edges)
	for _, n := range networks {
		if slices.Contains(n.rooms, room) {
			continue
		}
		var w way
		for _, owner := range n.rooms {
			if b, ok := best[owner]; ok && (w.first == nil || b.cost < w.cost) {
				w = b
			}
		}
		if w.first != nil {
			add(n.prefix, w.first)
		}
	}
}

// links is how many links a room has, cut ones included: a room with two does
// not change to a default route because one of them is down.
func (r *Resolved) links(room string) (n int) {
	for at := range r.Links {
		if at.Room == room {
			n++
		}
	}
	return n
}
