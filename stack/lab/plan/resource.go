package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"taproom/stack/lab/spec"
	"taproom/stack/wire"
)

// Resource is one thing that has to exist. Resources are compared with
// reflect.DeepEqual: two with the same key and different contents are the same
// thing in two states.
type Resource interface {
	// Key identifies the thing.
	Key() string
	// Needs are the keys of the things it lives in: it goes with them.
	Needs() []string
	// String describes it for people, in one line.
	String() string
	// Phase orders creation; things of one phase are made in file order.
	Phase() Phase
}

// Phase is when a resource is made; it is removed in the opposite order.
type Phase uint8

// The phases.
const (
	PhaseRoom Phase = iota
	PhaseEarlySetting
	PhaseLink
	PhaseImpairment
	PhaseSetting
	PhaseAddress
	PhaseNeighbour
	PhaseRoute
	PhaseSection
	PhaseProgram
)

// Room is a room without anything in it.
type Room struct {
	Name string
	Kind spec.Kind
	PID  int
	Path string
}

// Key of a room.
func (r Room) Key() string { return "room/" + r.Name }

// Needs nothing.
func (r Room) Needs() []string { return nil }

// Phase is the first.
func (r Room) Phase() Phase { return PhaseRoom }

func (r Room) String() string {
	switch {
	case r.PID > 0:
		return fmt.Sprintf("room %s (%s of process %d)", r.Name, r.Kind, r.PID)
	case r.Path != "":
		return fmt.Sprintf("room %s (%s %s)", r.Name, r.Kind, r.Path)
	}
	return fmt.Sprintf("room %s (%s)", r.Name, r.Kind)
}

// Forwarding is whether a router forwards. Namespaces have settings for that.
type Forwarding struct {
	Room string
	On   bool
}

// Key of the room's forwarding.
func (f Forwarding) Key() string { return "forwarding/" + f.Room }

// Needs the room.
func (f Forwarding) Needs() []string { return []string{"room/" + f.Room} }

// Phase of forwarding.
func (f Forwarding) Phase() Phase { return PhaseSetting }

func (f Forwarding) String() string { return fmt.Sprintf("%s forwarding %v", f.Room, f.On) }

// Sysctl is a kernel setting of a namespace.
type Sysctl struct {
	Room, Name, Value string
	Early             bool // before there are interfaces, which inherit it
}

// Key of the setting.
func (s Sysctl) Key() string { return "sysctl/" + s.Room + "/" + s.Name }

// Needs the room.
func (s Sysctl) Needs() []string { return []string{"room/" + s.Room} }

// Phase is early for what interfaces inherit.
func (s Sysctl) Phase() Phase {
	if s.Early {
		return PhaseEarlySetting
	}
	return PhaseSetting
}

func (s Sysctl) String() string { return fmt.Sprintf("%s sysctl %s=%s", s.Room, s.Name, s.Value) }

// LinkEnd is one interface of a link.
type LinkEnd struct {
	At     spec.Endpoint
	MAC    spec.MAC
	Queues int
}

// Link is a wire and its two interfaces.
type Link struct {
	Name    string
	Ends    [2]LinkEnd
	Offload bool
	Seed    uint64
}

// Key of the link.
func (l Link) Key() string { return "link/" + l.Name }

// Needs both rooms.
func (l Link) Needs() []string {
	return []string{"room/" + l.Ends[0].At.Room, "room/" + l.Ends[1].At.Room}
}

// Phase of links.
func (l Link) Phase() Phase { return PhaseLink }

func (l Link) String() string {
	s := fmt.Sprintf("link %v -- %v", l.Ends[0].At, l.Ends[1].At)
	if !strings.HasPrefix(l.Name, l.Ends[0].At.Room+":") {
		s += " (" + l.Name + ")"
	}
	return s
}

// Impairment are the settings of one direction of a link: 0 is from the first
// end to the second.
type Impairment struct {
	Link      string
	Direction int
	From, To  spec.Endpoint
	wire.Impairment
}

// Key of the direction.
func (i Impairment) Key() string { return fmt.Sprintf("impairment/%s/%d", i.Link, i.Direction) }

// Needs the link.
func (i Impairment) Needs() []string { return []string{"link/" + i.Link} }

// Phase of impairments.
func (i Impairment) Phase() Phase { return PhaseImpairment }

func (i Impairment) String() string {
	return fmt.Sprintf("%v → %v: %s", i.From, i.To, spec.Words(i.Impairment))
}

// MTU of an interface.
type MTU struct {
	Link string
	At   spec.Endpoint
	MTU  int
}

// Key of the interface's MTU.
func (m MTU) Key() string { return "mtu/" + m.At.String() }

// Needs the link.
func (m MTU) Needs() []string { return []string{"link/" + m.Link} }

// Phase is before the addresses: IPv6 goes with an MTU below 1280.
func (m MTU) Phase() Phase { return PhaseSetting }

func (m MTU) String() string { return fmt.Sprintf("%v mtu %d", m.At, m.MTU) }

// Address of an interface. Link is empty for lo.
type Address struct {
	Link   string
	At     spec.Endpoint
	Prefix netip.Prefix
}

// Key of the address.
func (a Address) Key() string { return "address/" + a.At.String() + "/" + a.Prefix.String() }

// Needs the link, or the room for lo.
func (a Address) Needs() []string { return needsOf(a.Link, a.At.Room) }

// Phase of addresses.
func (a Address) Phase() Phase { return PhaseAddress }

func (a Address) String() string { return fmt.Sprintf("%v address %v", a.At, a.Prefix) }

func needsOf(link, room string) []string {
	if link == "" {
		return []string{"room/" + room}
	}
	return []string{"link/" + link}
}

// Neighbour is a static entry of a neighbour table.
type Neighbour struct {
	Link    string
	At      spec.Endpoint
	Address netip.Addr
	MAC     spec.MAC
}

// Key of the entry.
func (n Neighbour) Key() string { return "neighbour/" + n.At.String() + "/" + n.Address.String() }

// Needs the link.
func (n Neighbour) Needs() []string { return needsOf(n.Link, n.At.Room) }

// Phase of neighbours.
func (n Neighbour) Phase() Phase { return PhaseNeighbour }

func (n Neighbour) String() string {
	return fmt.Sprintf("%v neighbour %v lladdr %s", n.At, n.Address, n.MAC)
}

// Route is one entry of a room's routing table.
type Route struct {
	Room   string
	Prefix netip.Prefix
	Via    netip.Addr
	Dev    string // always known, save for kinds that lead nowhere
	Metric int
	MTU    int
	Kind   string // "" is unicast
	Lives  string // key of the address or link it depends on, "" if none
}

// Key of the route: there is one for each prefix and metric.
func (r Route) Key() string { return fmt.Sprintf("route/%s/%v/%d", r.Room, r.Prefix, r.Metric) }

// Needs the room, and the address that makes the next hop reachable.
func (r Route) Needs() []string {
	if r.Lives == "" {
		return []string{"room/" + r.Room}
	}
	return []string{"room/" + r.Room, r.Lives}
}

// Phase of routes.
func (r Route) Phase() Phase { return PhaseRoute }

func (r Route) String() string {
	s := fmt.Sprintf("%s route %v", r.Room, r.Prefix)
	if r.Kind != "" {
		return s + " " + r.Kind
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	return s + " dev " + r.Dev
}

// Section is what a subsystem has to set up.
type Section struct {
	Name  string
	Value spec.Section
	Rooms []string
}

// Key of the section.
func (s Section) Key() string { return "section/" + s.Name }

// Needs all rooms: a subsystem may hold on to any of them.
func (s Section) Needs() []string {
	out := make([]string, len(s.Rooms))
	for i, r := range s.Rooms {
		out[i] = "room/" + r
	}
	return out
}

// Phase of sections.
func (s Section) Phase() Phase { return PhaseSection }

func (s Section) String() string { return s.Name }

// Program runs in a room.
type Program struct {
	Room string
	spec.Program
}

// Key of the program.
func (p Program) Key() string { return "program/" + p.Room + "/" + p.Name }

// Needs the room.
func (p Program) Needs() []string { return []string{"room/" + p.Room} }

// Phase is the last.
func (p Program) Phase() Phase { return PhaseProgram }

func (p Program) String() string {
	return fmt.Sprintf("%s program %s: %s", p.Room, p.Name, strings.Join(p.Command, " "))
}
