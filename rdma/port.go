package rdma

import (
	"net/netip"

	"taproom/stack/packet"
)

// Port is the network as a device sees it. It moves whole packets, which start
// at their IP header, and knows nothing of queue pairs. All methods may be
// called from any goroutine.
type Port interface {
	// Open tells the port whose it is. Packets may arrive before it returns.
	Open(r Receiver) error
	// Close ends it. No upcall begins after it has returned.
	Close() error
	// Info describes the port as it is now. Changed is called when it is no
	// longer so.
	Info() PortInfo
	// Send takes a packet over, with whatever it is made of. With GSO.Type
	// packet.GSOUDP it is a run: several datagrams of GSO.Size bytes of UDP
	// payload behind one header; only ports whose MaxRun is above 1 get those.
	// It does not wait: what cannot go now is dropped, and the error counted.
	// Send may call Receive of this or another device before it returns.
	Send(p *packet.Packet) error
	// Join and Leave a multicast group.
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	// Clock is the time the port lives in.
	Clock() Clock
}

// Receiver is the device as a port sees it.
type Receiver interface {
	// Receive hands over a packet, or a run, that came in; Head starts at the
	// IP header. It is the device's only for the call. Anything that is not
	// for UDP port 4791 of a queue pair is counted and ignored.
	Receive(p *packet.Packet)
	// Changed says that Info has other answers now.
	Changed()
}

// PortInfo describes a port.
type PortInfo struct {
	MTU    int          // of the interface in bytes, IP header included
	Up     bool         //
	MaxRun int          // packets of one run it takes; 0 and 1: no runs
	MAC    [6]byte      // zero if there is none; the GUIDs and GID 0 come from it
	Addrs  []netip.Addr // in the order in which they came
}

// Clock is a device's time. [SystemClock] is the machine's; tests have virtual ones.
type Clock interface {
	// Now is nanoseconds from any fixed point, and never goes back.
	Now() int64
	// NewAlarm makes an alarm that is not set. When it goes off, ring is
	// called, not before its time and never twice at once.
	NewAlarm(ring func()) Alarm
}

// Alarm goes off once for every Set.
type Alarm interface {
	// Set lets the alarm go off at a time; an earlier Set is forgotten.
	Set(at int64)
	// Close ends the alarm.
	Close()
}
