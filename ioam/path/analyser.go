package path

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"taproom/ioam"
	"taproom/ioam/option"
)

// Options configure an Analyser. The zero value is usable.
type Options struct {
	// Flows is how many are followed; the one that has been silent longest
	// makes room for another. 0 is 1024.
	Flows int
	// Paths is how many different ways of a flow are remembered; 0 is 8.
	Paths int
	// Names of nodes, by their ids.
	Names map[uint64]string
	// All takes every event of a trace, not only where it ends.
	All bool
}

// Key is what packets of a flow have in common.
type Key struct {
	Namespace uint16     `json:"namespace"`
	Src       netip.Addr `json:"src"`
	Dst       netip.Addr `json:"dst"`
	Proto     uint8      `json:"proto"`
	SrcPort   uint16     `json:"sport,omitempty"`
	DstPort   uint16     `json:"dport,omitempty"`
}

// stream is what one encapsulating node numbers.
type stream struct {
	namespace uint16
	src, dst  netip.Addr // of a tunnel's outer header, else invalid
}

// Analyser collects events. Its methods may be called from any goroutine.
type Analyser struct {
	opts Options

	mu      sync.Mutex
	flows   map[Key]*flow
	streams map[stream]*sequence
	evicted uint64
	bad     uint64 // traces that could not be decoded
}

type flow struct {
	key       Key
	first     int64
	last      int64
	packets   uint64
	overflows uint64
	changes   uint64
	changed   int64
	paths     []*route // most recent first
	endToEnd  histogram
}

// route is one way that a flow took.
type route struct {
	hops    []hop // in the direction of the packets
	packets uint64
	first   int64
	last    int64
}

type hop struct {
	id       uint64
	known    bool
	ingress  uint32
	egress   uint32
	hopLimit uint8
	queueMax uint32
	delay    histogram // since the hop before
	transit  histogram // within the node, if it says so
}

// New returns an Analyser that knows nothing yet.
func New(o Options) *Analyser {
	if o.Flows <= 0 {
		o.Flows = 1024
	}
	if o.Paths <= 0 {
		o.Paths = 8
	}
	return &Analyser{opts: o, flows: make(map[Key]*flow), streams: make(map[stream]*sequence)}
}

// protoIPv6 is a packet in a tunnel.
const protoIPv6 = 41

// Add takes an event. It keeps nothing of it.
func (a *Analyser) Add(e *ioam.Event) {
	if !e.Last && !a.opts.All || e.Kind == option.DirectExport {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Kind == option.EdgeToEdge {
		a.number(e)
		return
	}
	hops, err := e.Hops()
	if err != nil {
		a.bad++
	}
	if len(hops) == 0 {
		return
	}
	f := a.add(Key{e.Namespace, e.Src, e.Dst, e.Proto, e.SrcPort, e.DstPort}, e.Time, hops)
	if e.Overflow {
		f.overflows++
	}
}

// AddHops adds a packet by its decoded record, newest node first, and the
// time at which it was seen, in nanoseconds since 1970.
func (a *Analyser) AddHops(k Key, now int64, hops []option.Hop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(k, now, slices.Clone(hops))
}

func (a *Analyser) add(k Key, now int64, hops []option.Hop) *flow {
	slices.Reverse(hops)
	f := a.flow(k, now)
	f.packets++
	f.last = now
	f.take(now, hops, a.opts.Paths)
	return f
}

func (a *Analyser) number(e *ioam.Event) {
	if !e.HasSequence {
		return
	}
	k := stream{namespace: e.Namespace}
	if e.Proto == protoIPv6 {
		k.src, k.dst = e.Src, e.Dst
	}
	s := a.streams[k]
	if s == nil {
		if len(a.streams) >= a.opts.Flows {
			return
		}
		s = new(sequence)
		a.streams[k] = s
	}
	s.add(e.Sequence, option.E2EType(e.Type>>16)&option.Sequence64 != 0)
}

func (a *Analyser) flow(k Key, now int64) *flow {
	f := a.flows[k]
	if f != nil {
		return f
	}
	if len(a.flows) >= a.opts.Flows {
		var oldest *flow
		for _, o := range a.flows {
			if oldest == nil || o.last < oldest.last {
				oldest = o
			}
		}
		delete(a.flows, oldest.key)
		a.evicted++
	}
	f = &flow{key: k, first: now}
	a.flows[k] = f
	return f
}

// take adds a packet to the way it took.
func (f *flow) take(now int64, hops []option.Hop, limit int) {
	i := slices.IndexFunc(f.paths, func(r *route) bool { return r.same(hops) })
	var r *route
	switch {
	case i >= 0:
		r = f.paths[i]
		f.paths = slices.Delete(f.paths, i, i+1)
	default:
		r = newRoute(hops, now)
		if len(f.paths) >= limit {
			f.paths = f.paths[:limit-1]
		}
	}
	if i != 0 && f.packets > 1 {
		f.changes++
		f.changed = now
	}
	f.paths = slices.Insert(f.paths, 0, r)
	r.packets++
	r.last = now
	var before int64
	var first, last int64
	for i := range hops {
		h := &r.hops[i]
		h.hopLimit = hops[i].HopLimit
		if q := hops[i].QueueDepth; hops[i].Type&option.QueueDepth != 0 && q != option.Unset32 {
			h.queueMax = max(h.queueMax, q)
		}
		if d := hops[i].TransitDelay; hops[i].Type&option.TransitDelay != 0 && d>>31 == 0 {
			h.transit.add(int64(d))
		}
		t, ok := hops[i].Time()
		if !ok {
			before = 0
			continue
		}
		if before != 0 {
			h.delay.add(t - before)
		}
		before, last = t, t
		if first == 0 {
			first = t
		}
	}
	if last != first {
		f.endToEnd.add(last - first)
	}
}

func newRoute(hops []option.Hop, now int64) *route {
	r := &route{hops: make([]hop, len(hops)), first: now}
	for i := range hops {
		h := &r.hops[i]
		h.id, h.known = hops[i].ID()
		h.ingress, h.egress = interfaces(&hops[i])
	}
	return r
}

func (r *route) same(hops []option.Hop) bool {
	if len(r.hops) != len(hops) {
		return false
	}
	for i := range hops {
		id, known := hops[i].ID()
		in, out := interfaces(&hops[i])
		if h := &r.hops[i]; h.id != id || h.known != known || h.ingress != in || h.egress != out {
			return false
		}
	}
	return true
}

// interfaces are the ids that were recorded, all ones if none.
func interfaces(h *option.Hop) (in, out uint32) {
	if h.Type&option.InterfacesWide != 0 {
		return h.IngressWide, h.EgressWide
	}
	in, out = option.Unset32, option.Unset32
	if h.Type&option.Interfaces != 0 {
		if h.Ingress != option.Unset16 {
			in = uint32(h.Ingress)
		}
		if h.Egress != option.Unset16 {
			out = uint32(h.Egress)
		}
	}
	return in, out
}

// Follow adds the events of a subscription until done is closed.
func (a *Analyser) Follow(done <-chan struct{}, sub *ioam.Subscription) {
	for {
		select {
		case <-done:
			return
		case e := <-sub.C:
			a.Add(&e)
		}
	}
}

func stamp(ns int64) time.Time { return time.Unix(0, ns).UTC() }
