package tap

import (
	"errors"
	"net"
	"strings"

	"taproom/stack/packet"
)

// Kind is what a device carries.
type Kind uint8

// The kinds of devices.
const (
	Ethernet Kind = iota // TAP: packets begin with the MAC header
	IP                   // TUN: packets begin with the IPv4 or IPv6 header
)

func (k Kind) String() string {
	if k == IP {
		return "tun"
	}
	return "tap"
}

// Offloads are the things a device takes unfinished.
type Offloads struct {
	Checksum bool // partial checksums
	TSO4     bool // TCP super-frames over IPv4
	TSO6     bool // TCP super-frames over IPv6
	ECN      bool // TCP super-frames with CWR in the first segment
	USO      bool // UDP super-frames over both
}

// AllOffloads is what a Linux since 6.2 negotiates.
var AllOffloads = Offloads{Checksum: true, TSO4: true, TSO6: true, ECN: true, USO: true}

// String lists the offloads as `ethtool -k` abbreviates them: "csum,tso4".
func (o Offloads) String() string {
	var s []string
	for _, f := range []struct {
		on   bool
		name string
	}{{o.Checksum, "csum"}, {o.TSO4, "tso4"}, {o.TSO6, "tso6"}, {o.ECN, "ecn"}, {o.USO, "uso"}} {
		if f.on {
			s = append(s, f.name)
		}
	}
	if s == nil {
		return "none"
	}
	return strings.Join(s, ",")
}

// Takes reports whether a super-frame can be written as it is.
func (o Offloads) Takes(g packet.GSO) bool {
	switch g.Type {
	case packet.GSONone:
		return true
	case packet.GSOTCPv4:
		return o.Checksum && o.TSO4 && (!g.ECN || o.ECN)
	case packet.GSOTCPv6:
		return o.Checksum && o.TSO6 && (!g.ECN || o.ECN)
	case packet.GSOUDP:
		return o.Checksum && o.USO
	}
	return false
}

// Info describes an open device.
type Info struct {
	Name     string
	Kind     Kind
	Addr     net.HardwareAddr // of the far, the kernel's, side; nil for IP or if unknown
	MTU      int              // bytes behind the MAC header
	Queues   int
	Offloads Offloads
	Backend  string // "vnet", "plain", "water", "fd", "pipe"
	Netns    string // the namespace it is in, "" for this process's
	// Inline says that the Receiver may be called on a goroutine that is
	// inside the far end's Write, as with wires and pipes in memory.
	Inline bool
}

// Receiver gets what a device reads. The packets are the Receiver's from then
// on; the slice is not, it is used again after the call.
type Receiver func(queue int, batch []*packet.Packet)

// AnyQueue lets Write choose the queue of each packet by its flow.
const AnyQueue = -1

// Device is an interface's near end: a TAP, a TUN or their twin in memory.
type Device interface {
	// Info is what the device is now.
	Info() Info
	// Start begins to read, with one goroutine a queue. It can be called once.
	Start(recv Receiver) error
	// Write sends packets and takes them over, sent or not. Packets of one
	// flow must be written to one queue to stay in order; AnyQueue takes care
	// of that. It never waits longer than a few milliseconds: what the device
	// refuses is dropped and counted. After Close everything is dropped.
	Write(queue int, batch []*packet.Packet)
	// SetMTU changes the MTU on both ends.
	SetMTU(mtu int) error
	// Stats are the counters since the device was opened.
	Stats() Stats
	// Close returns after the last call of the Receiver has.
	Close() error
}

// ErrClosed is returned by methods of a closed device, ErrStarted by the
// second Start.
var (
	ErrClosed  = errors.New("tap: device is closed")
	ErrStarted = errors.New("tap: device has been started already")
)
