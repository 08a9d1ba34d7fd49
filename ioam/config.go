package ioam

import (
	"fmt"
	"syscall"

	"taproom/ioam/option"
)

// Config is what Attach is told. The zero value is a Linux node after boot: no
// namespaces, every interface's IOAM off, every id unset.
type Config struct {
	NodeID     *uint32 // ioam6_id, 24 bits; nil is unset
	NodeIDWide *uint64 // ioam6_id_wide, 56 bits; nil is unset
	Namespaces []Namespace
	Schemas    []Schema
	Interfaces map[int]Interface // by interface index
	Tunnels    []Tunnel          // encapsulating routes

	// MaxOptions is max_hbh_opts_number: how many options that are no padding
	// a hop-by-hop header may have; negative: that many, and none unknown. 0
	// is Linux's default of 8.
	MaxOptions int
	// MaxHeader is max_hbh_length: how many octets the header may have. 0 is
	// no limit, Linux's default.
	MaxHeader int

	// Decapsulate makes the node the end of encap-mode tunnels: an outer
	// header for one of its addresses with a trace in it is taken away, as
	// Linux does while ip6tnl0 is up.
	Decapsulate bool
	// StripLocal takes IOAM options out of packets for this node, after they
	// have been filled and reported. RoCE packets (UDP port 4791) are always
	// stripped: their checksum covers the IPv6 header's length and next
	// header, and a verbs device does not look for extension headers.
	StripLocal bool

	// Backlog is how many octets wait in the egress queue of an interface, as
	// a qdisc counts them. nil means that nothing ever waits.
	Backlog func(ifindex int) uint32
	// ErrorRate limits ICMP errors, per second; 0 is Linux's 1000 (with
	// bursts of 50), negative is no limit.
	ErrorRate int
	Extras    Extras
}

// Extras are what taproom knows and Linux does not. Off, each leaves Linux's
// answer, all ones or an option ignored.
type Extras struct {
	TransitDelay bool                  // nanoseconds from receipt to Egress, or to Input
	Buffer       func() (uint32, bool) // buffer occupancy, in a unit of the caller's
	Checksum     bool                  // checksum complement (RFC 9197 section 4.4.2.8)
	QueueAlways  bool                  // queue depth also for packets whose receive queue the egress device lacks
	LocalTime    bool                  // timestamps also in packets of this node's own
	Incremental  bool                  // incremental traces are filled
	DirectExport bool                  // DEX options are exported as events
	EdgeToEdge   bool                  // E2E options of local packets become events
	Loopback     bool                  // the L flag is honoured (RFC 9322 section 4)
	LoopbackRate int                   // copies sent back per second, 0 is 100
	// Seed is the behaviour of Linux 5.15, where IOAM came from: bits 12-21
	// make an option skipped, no queue depth, no events, the hop limit counted
	// down at encapsulation too, local timestamps.
	Seed bool
}

// Namespace is an IOAM namespace (RFC 9197 section 4.3).
type Namespace struct {
	ID     uint16  `json:"namespace"`
	Data   *uint32 `json:"data,omitempty"` // what bit 5 records; nil is unset, all ones
	Wide   *uint64 `json:"wide,omitempty"` // what bit 10 records
	Schema *uint32 `json:"schema,omitempty"`
}

// Schema is what the opaque snapshot of a namespace records. One schema
// belongs to one namespace at most.
type Schema struct {
	ID        uint32  `json:"schema"` // 24 bits on the wire; Linux takes 32 and lets them run into the length
	Data      []byte  `json:"data"`   // up to MaxSchemaData octets, stored padded to a multiple of 4
	Namespace *uint16 `json:"namespace,omitempty"`
}

// MaxSchemaData is the longest schema in octets.
const MaxSchemaData = 255 * 4

// Interface is IOAM's view of an interface.
type Interface struct {
	Enabled bool    // ioam6_enabled: traces that come in here are filled
	ID      *uint16 // ioam6_id; nil is unset
	IDWide  *uint32 // ioam6_id_wide; nil is unset
	Edge    Edge
}

// Edge says what the interface's far side is to the IOAM domain (RFC 9486
// section 4: nothing of the domain leaks, nothing from outside is taken for
// the domain's own).
type Edge uint8

const (
	// Inside: the domain goes on there. IOAM options pass.
	Inside Edge = iota
	// EdgeStrip: outside. IOAM options are removed in both directions.
	EdgeStrip
	// EdgeDrop: outside. Packets that come in with IOAM options are dropped;
	// options are removed from what goes out.
	EdgeDrop
)

var edgeNames = [...]string{"inside", "strip", "drop"}

func (e Edge) String() string { return edgeNames[int(e)%len(edgeNames)] }

// ParseEdge is the reverse of String.
func ParseEdge(s string) (Edge, error) {
	for i, n := range edgeNames {
		if n == s {
			return Edge(i), nil
		}
	}
	return 0, fmt.Errorf("ioam: no edge policy %q (one of %v)", s, edgeNames)
}

// ID, ID16 and ID64 make the optional ids of Config and Interface.
func ID(v uint32) *uint32   { return &v }
func ID16(v uint16) *uint16 { return &v }
func ID64(v uint64) *uint64 { return &v }

// The largest ids; they also mean unset.
const (
	maxNodeID     = 1<<24 - 1
	maxNodeIDWide = 1<<56 - 1
)

// An Error is a refusal of a configuration command, with the errno and the
// text (extended acknowledgement, may be empty) that Linux answers with.
type Error struct {
	Op    string
	Errno syscall.Errno
	Text  string
}

func (e *Error) Error() string {
	if e.Text != "" {
		return fmt.Sprintf("ioam: %s: %v: %s", e.Op, e.Errno, e.Text)
	}
	return fmt.Sprintf("ioam: %s: %v", e.Op, e.Errno)
}

// Unwrap lets errors.Is find the errno.
func (e *Error) Unwrap() error { return e.Errno }

func refuse(op string, errno syscall.Errno, text string) error {
	return &Error{Op: op, Errno: errno, Text: text}
}

// validate checks what the types cannot.
func (c *Config) validate() error {
	if c.NodeID != nil && *c.NodeID > maxNodeID {
		return refuse(fmt.Sprintf("node id %#x", *c.NodeID), syscall.EINVAL, "more than 24 bits")
	}
	if c.NodeIDWide != nil && *c.NodeIDWide > maxNodeIDWide {
		return refuse(fmt.Sprintf("wide node id %#x", *c.NodeIDWide), syscall.EINVAL, "more than 56 bits")
	}
	for i := range c.Interfaces {
		if i <= 0 || i >= maxInterfaces {
			return refuse(fmt.Sprintf("interface %d", i), syscall.EINVAL, "index out of range")
		}
	}
	return nil
}

// maxInterfaces bounds interface indices: the snapshot is indexed by them.
const maxInterfaces = 1 << 16

// Unset values on the wire.
const (
	unset16 = option.Unset16
	unset32 = option.Unset32
	unset64 = option.Unset64
)
