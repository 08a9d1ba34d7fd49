package spec

import "net/netip"

// Expectation is one assertion about a running lab: one of ping, path, exec
// and counter.
type Expectation struct {
	Name    string         `yaml:"name" doc:"What to call it in the report."`
	Ping    *PingExpect    `yaml:"ping" doc:"An ICMP echo is answered."`
	Path    *PathExpect    `yaml:"path" doc:"A traceroute shows these hops."`
	Exec    *ExecExpect    `yaml:"exec" doc:"A command ends as expected."`
	Counter *CounterExpect `yaml:"counter" doc:"A counter is in a range."`
	Within  Duration       `yaml:"within" doc:"Try again until it is true or this time is over."`
}

// PingExpect pings from one room to another, or to an address.
type PingExpect struct {
	From  string  `yaml:"from" doc:"Room." required:"true"`
	To    string  `yaml:"to" doc:"Room, room:interface, or address." required:"true"`
	IP    int     `yaml:"ip" doc:"IP version: 4 or 6; both if not given and the target is a room."`
	Size  int     `yaml:"size" doc:"Bytes of payload, 56 if not given."`
	Count int     `yaml:"count" doc:"How many echoes, 1 if not given."`
	Loss  Percent `yaml:"loss" doc:"How much may be lost."`
	Fails bool    `yaml:"fails" doc:"Expect that no echo is answered."`
}

// PathExpect follows the hops from a room to a target.
type PathExpect struct {
	From string   `yaml:"from" doc:"Room." required:"true"`
	To   string   `yaml:"to" doc:"Room, room:interface, or address." required:"true"`
	IP   int      `yaml:"ip" doc:"IP version: 4 or 6; both if not given."`
	Hops []string `yaml:"hops" doc:"Rooms or addresses in order, the target included." required:"true"`
}

// ExecExpect runs a command in a room.
type ExecExpect struct {
	Room    string   `yaml:"room" doc:"Room; a namespace." required:"true"`
	Command Command  `yaml:"command" doc:"Program and arguments, or a line for sh -c." required:"true"`
	Exit    int      `yaml:"exit" doc:"Exit status, 0 if not given."`
	Output  Pattern  `yaml:"output" doc:"Regular expression that its output matches."`
	Timeout Duration `yaml:"timeout" doc:"When to give up, 30s if not given."`
}

// CounterExpect looks at a counter that 'taproom show -j' prints.
type CounterExpect struct {
	At   string  `yaml:"at" doc:"Router, or router:interface." required:"true"`
	Name string  `yaml:"name" doc:"Name of the counter, as forwarded or drops.no-route." required:"true"`
	Min  *uint64 `yaml:"min" doc:"Smallest value."`
	Max  *uint64 `yaml:"max" doc:"Largest value."`
}

// Target finds the addresses that a target of an expectation stands for: of a
// room, an interface, or the address itself.
func Target(s string, addresses func(room, iface string) []netip.Prefix) []netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.Addr{a}
	}
	var e Endpoint
	if e.UnmarshalText([]byte(s)) != nil {
		e = Endpoint{Room: s}
	}
	var out []netip.Addr
	for _, p := range addresses(e.Room, e.Interface) {
		out = append(out, p.Addr())
	}
	return out
}
