package spec

import (
	"net/netip"

	"taproom/stack/wire"
)

// Version is the version of the file format that this package reads.
const Version = 1

// Lab is a whole file.
type Lab struct {
	Version    int             `yaml:"version" doc:"Version of the file format: 1." required:"true"`
	Name       string          `yaml:"name" doc:"Name of the lab, by which commands find it." required:"true"`
	Seed       uint64          `yaml:"seed" doc:"Seed of everything random on the wires. Same seed, same losses."`
	Addressing Addressing      `yaml:"addressing" doc:"Where automatic addresses come from."`
	Routing    Routing         `yaml:"routing" doc:"auto: rooms without routes get the shortest paths. static: only the routes given." enum:"auto,static"`
	Rooms      map[string]Room `yaml:"rooms" doc:"Rooms by name: network namespaces and routers." required:"true"`
	Links      []Link          `yaml:"links" doc:"Wires between the rooms."`
	Expect     []Expectation   `yaml:"expect" doc:"What has to be true of the running lab, checked by 'taproom test' and 'taproom expect'."`

	// Sections are the parts of other subsystems, by key.
	Sections map[string]Section `yaml:"-"`

	source *source
}

// Addressing are the pools of automatic addresses: the n-th link that needs
// one gets the n-th subnet of each.
type Addressing struct {
	V4 netip.Prefix `yaml:"v4" doc:"IPv4 pool, 10.77.0.0/16 if not given. Links get /24s of it, or /30s if there are too many of them."`
	V6 netip.Prefix `yaml:"v6" doc:"IPv6 pool, fd77::/48 if not given. Links get /64s of it."`
}

// Routing says whether paths are computed.
type Routing string

// The kinds of routing.
const (
	RoutingAuto   Routing = "auto"
	RoutingStatic Routing = "static"
)

// Kind is what a room is made of.
type Kind string

// The kinds of rooms.
const (
	Namespace Kind = "namespace" // a network namespace of the kernel, for real programs
	Router    Kind = "router"    // a taproom node
)

// Room is a place where packets begin, end, or are forwarded.
type Room struct {
	Kind       Kind              `yaml:"kind" doc:"namespace: a Linux network namespace for real programs. router: a user-space node." enum:"namespace,router" required:"true"`
	PID        int               `yaml:"pid" doc:"Use the network namespace of this process instead of a new one."`
	Path       string            `yaml:"path" doc:"Use the network namespace at this path (as /run/netns/NAME) instead of a new one."`
	Forwarding *bool             `yaml:"forwarding" doc:"Whether packets for others are forwarded; routers do if nothing is said, namespaces do not."`
	Addresses  []netip.Prefix    `yaml:"addresses" doc:"Addresses of the loopback interface, reachable from everywhere with computed routes."`
	Sysctl     map[string]Scalar `yaml:"sysctl" doc:"Kernel settings of a namespace, as net.ipv4.tcp_congestion_control."`
	Routes     []Route           `yaml:"routes" doc:"Static routes. A room that has any gets no computed ones."`
	Neighbours []Neighbour       `yaml:"neighbours" doc:"Static ARP and ND entries."`
	Run        []Program         `yaml:"run" doc:"Programs to run in a namespace while the lab is up."`
}

// Short is a room of which only the kind is said.
func (r *Room) Short(s string) error { r.Kind = Kind(s); return nil }

// Forwards reports whether the room forwards packets.
func (r Room) Forwards() bool {
	if r.Forwarding != nil {
		return *r.Forwarding
	}
	return r.Kind == Router
}

// Route is one static route.
type Route struct {
	To     Destination `yaml:"to" doc:"Prefix, or default, default4, default6." required:"true"`
	Via    netip.Addr  `yaml:"via" doc:"Address of the next hop."`
	Dev    string      `yaml:"dev" doc:"Interface; with a next hop it is found by itself."`
	Metric int         `yaml:"metric" doc:"Preference among routes to the same prefix, smaller is better."`
	MTU    int         `yaml:"mtu" doc:"Largest packet on this path."`
	Kind   string      `yaml:"kind" doc:"What happens to packets." enum:"unicast,blackhole,unreachable,prohibit"`
}

// Neighbour is a static entry of a neighbour table.
type Neighbour struct {
	Dev     string     `yaml:"dev" doc:"Interface." required:"true"`
	Address netip.Addr `yaml:"address" doc:"IP address." required:"true"`
	MAC     MAC        `yaml:"mac" doc:"Link address." required:"true"`
}

// Program runs in a room while the lab is up.
type Program struct {
	Name    string            `yaml:"name" doc:"Name, unique in the room; the command's if not given."`
	Command Command           `yaml:"command" doc:"Program and arguments, or a line for sh -c." required:"true"`
	Env     map[string]Scalar `yaml:"env" doc:"Environment variables beside those of taproom."`
	Dir     string            `yaml:"dir" doc:"Working directory; relative to the lab file."`
	Restart string            `yaml:"restart" doc:"When to start it again: after a second, doubling up to 30." enum:"no,on-failure,always"`
	Ready   *Ready            `yaml:"ready" doc:"When the program counts as ready. 'up' waits for it."`
}

// Short is a program of which only the command is said.
func (p *Program) Short(s string) error { return p.Command.Short(s) }

// Ready is a condition that 'up' waits for. One of the first three.
type Ready struct {
	TCP     int      `yaml:"tcp" doc:"The room listens on this TCP port."`
	Output  Pattern  `yaml:"output" doc:"A line of its output matches this regular expression."`
	Command Command  `yaml:"command" doc:"This command succeeds in the room."`
	Within  Duration `yaml:"within" doc:"How long to wait, 10s if not given."`
}

// Link is a wire between two interfaces.
type Link struct {
	Name    string         `yaml:"name" doc:"Name of the link; 'alice:eth0--r1:eth0' if not given."`
	Ends    []End          `yaml:"ends" doc:"The two interfaces, as room:interface." required:"true"`
	MTU     int            `yaml:"mtu" doc:"MTU of both interfaces, 1500 if not given."`
	Subnets []netip.Prefix `yaml:"subnets" doc:"Where the automatic addresses of this link come from: at most one IPv4 and one IPv6 prefix."`
	Cost    int            `yaml:"cost" doc:"Cost for computed routes, 1 if not given."`
	Offload *bool          `yaml:"offload" doc:"Whether super-frames and unfinished checksums pass. On if nothing is said."`

	Impair   `yaml:",inline"` // of both directions
	Forward  Impair           `yaml:"forward" doc:"Settings of the direction from the first end to the second."`
	Backward Impair           `yaml:"backward" doc:"Settings of the direction from the second end to the first."`
}

// Impairments are the settings of both directions, forward first.
func (l *Link) Impairments() [2]wire.Impairment {
	var i [2]wire.Impairment
	for d, own := range []*Impair{&l.Forward, &l.Backward} {
		l.Impair.Apply(&i[d])
		own.Apply(&i[d])
	}
	return i
}

// End is one interface of a link.
type End struct {
	At        Endpoint       `yaml:"at" doc:"room:interface" required:"true"`
	Addresses []netip.Prefix `yaml:"addresses" doc:"Addresses with prefix length. Chosen automatically if not given; an empty list is none."`
	MAC       MAC            `yaml:"mac" doc:"Link address; derived from the names if not given."`
	MTU       int            `yaml:"mtu" doc:"MTU of this interface, the link's if not given."`
	Queues    int            `yaml:"queues" doc:"Queues of the TAP, 1 if not given."`
}

// Short is an end of which only the place is said.
func (e *End) Short(s string) error { return e.At.UnmarshalText([]byte(s)) }
