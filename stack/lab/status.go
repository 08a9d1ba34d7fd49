package lab

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/lab/spec"
	"taproom/stack/wire"
)

// Status is a lab as listings show it.
type Status struct {
	Name  string       `json:"name"`
	Pid   int          `json:"pid"`
	Since time.Time    `json:"since"`
	Rooms []RoomStatus `json:"rooms"`
	Links []LinkStatus `json:"links"`
}

// RoomStatus is a room. What only routers have is empty for namespaces, and
// the other way round.
type RoomStatus struct {
	Name       string            `json:"name"`
	Kind       spec.Kind         `json:"kind"`
	Netns      string            `json:"netns,omitempty"` // where other processes of the user find it
	Forwarding bool              `json:"forwarding"`
	Interfaces []InterfaceStatus `json:"interfaces"`
	Routes     []RouteStatus     `json:"routes"`
	Neighbours []NeighbourStatus `json:"neighbours"`
	Counters   *stack.Counters   `json:"counters,omitempty"`
	Hooks      []hook.LinkInfo   `json:"hooks,omitempty"`
	Programs   []ProgramStatus   `json:"programs,omitempty"`
	Error      string            `json:"error,omitempty"` // why something is missing
}

// InterfaceStatus is an interface of a room.
type InterfaceStatus struct {
	Name      string                  `json:"name"`
	Index     int                     `json:"index"`
	MTU       int                     `json:"mtu"`
	MAC       string                  `json:"mac,omitempty"`
	Up        bool                    `json:"up"`
	Link      string                  `json:"link,omitempty"`
	Device    *DeviceStatus           `json:"device,omitempty"`
	Addresses []string                `json:"addresses"`
	Counters  stack.InterfaceCounters `json:"counters"`
}

// DeviceStatus is what a router's end of a link negotiated.
type DeviceStatus struct {
	Backend  string `json:"backend"`
	Queues   int    `json:"queues"`
	Offloads string `json:"offloads"` // "csum,tso4,tso6,ecn,uso", or "none"
}

// RouteStatus is an entry of a routing table.
type RouteStatus struct {
	To     string `json:"to"`
	Via    string `json:"via,omitempty"`
	Dev    string `json:"dev,omitempty"`
	Metric int    `json:"metric,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Kernel bool   `json:"kernel,omitempty"` // comes with an address
}

// NeighbourStatus is an entry of a neighbour table.
type NeighbourStatus struct {
	Address string `json:"address"`
	Dev     string `json:"dev"`
	MAC     string `json:"mac,omitempty"`
	State   string `json:"state"`
}

// ProgramStatus is a program of the lab file.
type ProgramStatus struct {
	Name     string   `json:"name"`
	Command  []string `json:"command"`
	Pid      int      `json:"pid,omitempty"` // 0 if it does not run
	Restarts int      `json:"restarts"`
	Exit     *Exit    `json:"exit,omitempty"` // how it last ended
	Output   []string `json:"output,omitempty"`
}

// LinkStatus is a link. Index 0 is the first end, and the direction that
// leads away from it.
type LinkStatus struct {
	Name       string             `json:"name"`
	Ends       [2]spec.Endpoint   `json:"ends"`
	Up         bool               `json:"up"`
	Error      string             `json:"error,omitempty"` // why a device of it is gone
	Directions [2]DirectionStatus `json:"directions"`
}

// DirectionStatus is one direction of a link.
type DirectionStatus struct {
	From       spec.Endpoint   `json:"from"`
	To         spec.Endpoint   `json:"to"`
	Settings   string          `json:"settings"` // in the words of the lab file
	Impairment wire.Impairment `json:"impairment"`
	Wire       *wire.Stats     `json:"wire,omitempty"` // absent on a TAP that was never impaired
}

// Status collects the whole lab. It asks the kernel about every namespace.
func (l *Lab) Status() Status {
	l.mu.Lock()
	s := Status{Name: l.resolved.Lab.Name, Pid: os.Getpid(), Since: l.since}
	names := slices.Sorted(maps.Keys(l.rooms))
	l.mu.Unlock()
	for _, n := range names {
		if r, err := l.Room(n); err == nil {
			s.Rooms = append(s.Rooms, r)
		}
	}
	s.Links = l.linkStatus()
	return s
}

// Room collects one room.
func (l *Lab) Room(name string) (RoomStatus, error) {
	r, err := l.room(name)
	if err != nil {
		return RoomStatus{}, err
	}
	s := RoomStatus{Name: r.name, Kind: r.kind}
	if r.node != nil {
		s.ofNode(r.node)
	} else {
		s.Netns = r.ns.Path()
		var t tables
		if _, err := r.ns.Call(opTables, struct{}{}, &t); err != nil {
			s.Error = err.Error()
		}
		s.Interfaces, s.Routes, s.Neighbours = t.Interfaces, t.Routes, t.Neighbours
		s.Programs = r.programStatus()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range s.Interfaces {
		s.Interfaces[i].Link = l.resolved.Links[spec.Endpoint{Room: name, Interface: s.Interfaces[i].Name}]
	}
	return s, nil
}

func (s *RoomStatus) ofNode(n *stack.Node) {
	s.Forwarding = n.Forwarding()
	for _, i := range n.InterfaceList() {
		is := InterfaceStatus{Name: i.Name(), Index: i.Index(), MTU: i.MTU(), MAC: i.HardwareAddr().String(), Up: i.Up(), Counters: i.Counters()}
		if d := i.Device(); d != nil {
			info := d.Info()
			is.Device = &DeviceStatus{Backend: info.Backend, Queues: info.Queues, Offloads: info.Offloads.String()}
		}
		for _, a := range i.Addresses() {
			is.Addresses = append(is.Addresses, a.String())
		}
		s.Interfaces = append(s.Interfaces, is)
	}
	for _, r := range n.Routes() {
		rs := RouteStatus{To: r.Prefix.String(), Dev: r.Interface, Metric: int(r.Metric), Kernel: r.Kernel}
		if r.Via.IsValid() {
			rs.Via = r.Via.String()
		}
		if r.Kind != hook.Unicast && r.Kind != hook.NoRoute {
			rs.Kind = r.Kind.String()
		}
		s.Routes = append(s.Routes, rs)
	}
	for _, e := range n.Neighbors() {
		s.Neighbours = append(s.Neighbours, NeighbourStatus{Address: e.Addr.String(), Dev: e.Interface, MAC: e.MAC, State: e.State})
	}
	c := n.Counters()
	s.Counters = &c
	for _, k := range n.Links() {
		s.Hooks = append(s.Hooks, k.Info())
	}
}

func (r *room) programStatus() []ProgramStatus {
	r.mu.Lock()
	programs := slices.Collect(maps.Values(r.programs))
	r.mu.Unlock()
	slices.SortFunc(programs, func(a, b *program) int { return cmp.Compare(a.spec.Name, b.spec.Name) })
	var out []ProgramStatus
	for _, p := range programs {
		p.mu.Lock()
		s := ProgramStatus{Name: p.spec.Name, Command: p.spec.Command, Restarts: p.restarts, Exit: p.last}
		if p.process != nil {
			s.Pid = p.process.Pid
		}
		p.mu.Unlock()
		s.Output = p.out.all()
		out = append(out, s)
	}
	return out
}

func (l *Lab) linkStatus() []LinkStatus {
	l.mu.Lock()
	links := slices.Collect(maps.Values(l.links))
	var out []LinkStatus
	for _, k := range links {
		s := LinkStatus{Name: k.spec.Name}
		s.Up = !k.impairments[0].Down && !k.impairments[1].Down && k.failure == nil
		if k.failure != nil {
			s.Error = k.failure.Error()
		}
		for d := range 2 {
			s.Ends[d] = k.spec.Ends[d].At
			s.Directions[d] = DirectionStatus{
				From: k.spec.Ends[d].At, To: k.spec.Ends[1-d].At,
				Impairment: k.impairments[d], Settings: spec.Words(k.impairments[d]),
			}
		}
		out = append(out, s)
	}
	l.mu.Unlock()
	for i, k := range links {
		if st, ok := k.line.stats(); ok {
			out[i].Directions[0].Wire, out[i].Directions[1].Wire = &st[0], &st[1]
		}
	}
	slices.SortFunc(out, func(a, b LinkStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}
