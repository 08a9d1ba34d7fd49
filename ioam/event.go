package ioam

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"taproom/ioam/option"
	"taproom/stack/packet"
)

// Event tells what one IOAM option in one packet held when this node was done
// with it. It is a value: nothing in it belongs to the packet.
type Event struct {
	// The attributes of Linux's trace event (IOAM6_EVENT_TRACE).
	Namespace uint16
	NodeLen   uint8
	Type      uint32 // trace type << 8 | reserved octet; of an E2E option its type << 16

	Kind     option.Kind
	Overflow bool
	Active   bool
	Local    bool // the packet was for this node
	Last     bool // nobody will add to it: it was for this node, or leaves the domain here
	In       int  // receiving interface
	Time     int64
	// The flow.
	Src, Dst  netip.Addr
	FlowLabel uint32
	Proto     uint8 // of the transport header, 0 if it was not found
	SrcPort   uint16
	DstPort   uint16
	// Of E2E and DEX options.
	Sequence    uint64
	HasSequence bool
	FlowID      uint32
	Sent        int64 // when an E2E option says that the packet entered the domain, ns since 1970; 0 if not

	n    uint8
	data [256]byte
}

// TraceEvent is the event for a valid trace, without anything about the
// packet that carried it.
func TraceEvent(t option.Trace) (e Event) {
	e.Namespace, e.NodeLen, e.Type = t.Namespace(), uint8(t.NodeLen()), t.TypeReserved()
	e.Kind, e.Overflow, e.Active = t.Kind(), t.Overflow(), t.Active()
	e.n = uint8(copy(e.data[:], t.Recorded()))
	return e
}

// Data is what the nodes recorded, newest first. It belongs to the event.
func (e *Event) Data() []byte { return e.data[:e.n] }

// Hops decodes the data. The hops' opaque parts belong to the event.
func (e *Event) Hops() ([]option.Hop, error) {
	t := option.Type(e.Type >> 8)
	var hops []option.Hop
	if e.Kind == option.EdgeToEdge || t.NodeLen() == 0 && t&option.Opaque == 0 {
		return nil, nil
	}
	for b := e.Data(); len(b) > 0; {
		var h option.Hop
		n, err := h.Decode(t, b)
		if err != nil {
			return hops, err
		}
		hops = append(hops, h)
		b = b[n:]
	}
	return hops, nil
}

// String is the line that ip ioam monitor prints for a trace. Linux has no
// words for the other kinds.
func (e *Event) String() string {
	typ := fmt.Sprintf("0x%06x", e.Type)
	if e.Type == 0 {
		typ = "00000000" // C's %#08x
	}
	switch e.Kind {
	case option.EdgeToEdge:
		return fmt.Sprintf("[E2E] Namespace=%d Type=%#04x Sequence=%d", e.Namespace, e.Type>>16, e.Sequence)
	case option.DirectExport:
		return fmt.Sprintf("[DEX] Namespace=%d Type=%s FlowID=%d Sequence=%d Data=%s", e.Namespace, typ, e.FlowID, e.Sequence,
			hex.EncodeToString(e.Data()))
	}
	return fmt.Sprintf("[TRACE] Namespace=%d NodeLen=%d Type=%s Data=%s", e.Namespace, e.NodeLen, typ, hex.EncodeToString(e.Data()))
}

// Subscription receives a node's events. Close it when it is no longer read.
type Subscription struct {
	// C is never closed: wait on something of your own beside it.
	C    <-chan Event
	c    chan Event
	node *Node
	lost atomic.Uint64
}

// Subscribe asks for the events that follow, size of which may wait. When
// there is no room events are lost, and counted: packets never wait for a
// reader. Like Linux, a node without subscribers makes no events.
func (n *Node) Subscribe(size int) *Subscription {
	c := make(chan Event, max(size, 1))
	s := &Subscription{C: c, c: c, node: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	subs := append(slices.Clone(*n.subs.Load()), s)
	n.subs.Store(&subs)
	return s
}

// Lost is how many events found no room.
func (s *Subscription) Lost() uint64 { return s.lost.Load() }

// Close ends the subscription. An event that is under way may still arrive.
func (s *Subscription) Close() {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	subs := slices.DeleteFunc(slices.Clone(*n.subs.Load()), func(o *Subscription) bool { return o == s })
	n.subs.Store(&subs)
}

func (n *Node) watched() bool { return len(*n.subs.Load()) > 0 }

func (n *Node) publish(e *Event) {
	for _, s := range *n.subs.Load() {
		select {
		case s.c <- *e:
		default:
			s.lost.Add(1)
			n.counters.add(EventsLost)
		}
	}
}

// describe fills in the flow.
func (e *Event) describe(a *arrival) {
	b := a.b
	e.In, e.Time, e.Local = a.p.In, a.now(), a.local()
	e.Last = e.Local || a.s.anyEdge && a.egress().edge != Inside
	e.Src, e.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	e.FlowLabel = binary.BigEndian.Uint32(b) & 0xfffff
	t, ok := packet.ParseTransport(a.p.Head())
	if !ok || t.Fragment && !t.First {
		return
	}
	e.Proto = t.Proto
	var ports [4]byte
	if (t.Proto == packet.ProtoTCP || t.Proto == packet.ProtoUDP) && a.p.CopyTo(ports[:], t.Offset) == 4 {
		e.SrcPort, e.DstPort = binary.BigEndian.Uint16(ports[:]), binary.BigEndian.Uint16(ports[2:])
	}
}

// traceEvent reports a trace as it is now, to the end of the option. The node
// that puts a trace in does not report it.
func (a *arrival) traceEvent(t option.Trace) {
	if a.sent || a.s.extras.Seed {
		return
	}
	e := TraceEvent(t)
	e.describe(a)
	a.n.publish(&e)
}
