package tracing

import (
	"fmt"
	"slices"
	"strings"

	"taproom/ioam"
	"taproom/ioam/cli"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

func init() {
	lab.RegisterSection("ioam", "In-situ OAM: what routers record in packets, and where it is put in and taken out.",
		func() spec.Section { return new(Section) }, up)
}

// Section is the key ioam of a lab file.
type Section struct {
	Namespaces []Namespace     `yaml:"namespaces" doc:"IOAM namespaces that every room knows."`
	Schemas    []Schema        `yaml:"schemas" doc:"Schemas of every room, for opaque snapshots."`
	Rooms      map[string]Room `yaml:"rooms" doc:"Routers that take part, by name." required:"true"`
}

// Namespace is an IOAM namespace.
type Namespace struct {
	ID     int     `yaml:"id" doc:"Namespace id, 0 to 65535." required:"true"`
	Data   *uint64 `yaml:"data" doc:"32 bits that nodes record on demand; unset if not given."`
	Wide   *uint64 `yaml:"wide" doc:"64 bits that nodes record on demand; unset if not given."`
	Schema *uint64 `yaml:"schema" doc:"Schema for the opaque snapshot."`
}

// Schema is what an opaque snapshot records.
type Schema struct {
	ID   uint64 `yaml:"id" doc:"Schema id, 24 bits." required:"true"`
	Data string `yaml:"data" doc:"Up to 1020 octets of text." required:"true"`
}

// Room is a router's part.
type Room struct {
	Node        *uint64              `yaml:"node" doc:"Node id, 24 bits; unset if not given."`
	NodeWide    *uint64              `yaml:"node-wide" doc:"Wide node id, 56 bits; unset if not given."`
	Namespaces  []Namespace          `yaml:"namespaces" doc:"Namespaces of this room alone; one of the lab's with the same id gives way."`
	Interfaces  map[string]Interface `yaml:"interfaces" doc:"Interfaces that are not as usual: enabled, and their index their id."`
	Tunnels     []Tunnel             `yaml:"tunnels" doc:"Encapsulating routes, as ip -6 route add takes them: PREFIX encap ioam6 ..."`
	Decapsulate bool                 `yaml:"decapsulate" doc:"Whether tunnels end here: outer headers with a trace in them are taken off."`
	StripLocal  bool                 `yaml:"strip-local" doc:"Whether packets for this room lose their IOAM options before anybody sees them."`
	Extras      []string             `yaml:"extras" doc:"What Linux does not do: transit-delay, checksum, queue-always, local-time, incremental, direct-export, edge-to-edge, loopback, seed."`
}

// Interface is an interface that is not as usual.
type Interface struct {
	Enabled *bool   `yaml:"enabled" doc:"Whether traces that come in here are filled. Yes if not given."`
	ID      *uint64 `yaml:"id" doc:"Interface id, 16 bits."`
	IDWide  *uint64 `yaml:"id-wide" doc:"Wide interface id, 32 bits."`
	Edge    string  `yaml:"edge" doc:"What is behind it: inside the domain; outside, options are stripped both ways; outside, what comes in with options is dropped." enum:"inside,strip,drop"`
}

// Tunnel is an encapsulating route in one line.
type Tunnel struct{ ioam.Tunnel }

// UnmarshalText reads the line.
func (t *Tunnel) UnmarshalText(b []byte) (err error) {
	t.Tunnel, err = cli.ParseRoute(strings.Fields(string(b)))
	return err
}

// MarshalText writes it.
func (t Tunnel) MarshalText() ([]byte, error) { return []byte(cli.FormatRoute(t.Tunnel)), nil }

// extras are the switches by name.
var extras = map[string]func(*ioam.Extras){
	"transit-delay": func(x *ioam.Extras) { x.TransitDelay = true },
	"checksum":      func(x *ioam.Extras) { x.Checksum = true },
	"queue-always":  func(x *ioam.Extras) { x.QueueAlways = true },
	"local-time":    func(x *ioam.Extras) { x.LocalTime = true },
	"incremental":   func(x *ioam.Extras) { x.Incremental = true },
	"direct-export": func(x *ioam.Extras) { x.DirectExport = true },
	"edge-to-edge":  func(x *ioam.Extras) { x.EdgeToEdge = true },
	"loopback":      func(x *ioam.Extras) { x.Loopback = true },
	"seed":          func(x *ioam.Extras) { x.Seed = true },
}

// Check reports mistakes that the types do not show.
func (s *Section) Check(l *spec.Lab, fail func(key, format string, args ...any)) {
	checkNamespaces("namespaces", s.Namespaces, fail)
	for i, sc := range s.Schemas {
		if sc.ID > 1<<24-1 || len(sc.Data) > ioam.MaxSchemaData {
			fail(fmt.Sprintf("schemas[%d]", i), "the id has more than 24 bits, or the data more than %d octets", ioam.MaxSchemaData)
		}
	}
	for name, r := range s.Rooms {
		key := "rooms." + name
		if room, ok := l.Rooms[name]; !ok {
			fail(key, "there is no room %s", name)
		} else if room.Kind != spec.Router {
			fail(key, "%s is a %s: only routers take part, a kernel is told by its own commands", name, room.Kind)
		}
		checkNamespaces(key+".namespaces", r.Namespaces, fail)
		if r.Node != nil && *r.Node >= 1<<24 || r.NodeWide != nil && *r.NodeWide >= 1<<56 {
			fail(key+".node", "more than 24 bits, or more than 56 in node-wide")
		}
		for i, f := range r.Interfaces {
			if f.ID != nil && *f.ID > 0xffff || f.IDWide != nil && *f.IDWide > 0xffffffff {
				fail(key+".interfaces."+i, "an id of more than 16 bits, or of more than 32 in id-wide")
			}
		}
		for i, x := range r.Extras {
			if extras[x] == nil {
				fail(fmt.Sprintf("%s.extras[%d]", key, i), "no such extra: %s", x)
			}
		}
	}
}

func checkNamespaces(key string, list []Namespace, fail func(key, format string, args ...any)) {
	for i, n := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		if n.ID < 0 || n.ID > 0xffff {
			fail(at+".id", "%d is not in 0 to 65535", n.ID)
		}
		if n.Data != nil && *n.Data > 0xffffffff {
			fail(at+".data", "%#x has more than 32 bits", *n.Data)
		}
		if slices.ContainsFunc(list[:i], func(o Namespace) bool { return o.ID == n.ID }) {
			fail(at+".id", "namespace %d is given twice", n.ID)
		}
	}
}
