package path

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"taproom/ioam/option"
)

// Report is what an Analyser knows at one time, flows with the most packets
// first.
type Report struct {
	Flows     []Flow `json:"flows"`
	Evicted   uint64 `json:"evicted,omitempty"`
	Malformed uint64 `json:"malformed,omitempty"`
}

// Flow is one flow's part of it.
type Flow struct {
	Key
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Packets   uint64    `json:"packets"`
	Overflows uint64    `json:"overflows,omitempty"` // traces without room for every node
	EndToEnd  Delay     `json:"end_to_end"`
	Loss      *Loss     `json:"loss,omitempty"`
	Changes   uint64    `json:"path_changes"`
	Changed   time.Time `json:"path_changed,omitzero"`
	Paths     []Path    `json:"paths"` // the present one first
}

// Loss is what sequence numbers tell.
type Loss struct {
	Received   uint64  `json:"received"`
	Lost       int64   `json:"lost"`
	Ratio      float64 `json:"ratio"`
	Reordered  uint64  `json:"reordered"`
	Duplicates uint64  `json:"duplicates"`
}

// Path is one way packets took.
type Path struct {
	Packets uint64    `json:"packets"`
	Last    time.Time `json:"last"`
	Hops    []Hop     `json:"hops"`
}

// Hop is a node on the way.
type Hop struct {
	ID       uint64 `json:"id"`
	Name     string `json:"name"`
	Ingress  string `json:"ingress"`
	Egress   string `json:"egress"`
	HopLimit uint8  `json:"hop_limit"`
	QueueMax uint32 `json:"queue_max,omitempty"`
	Delay    Delay  `json:"delay"`             // since the hop before; of the first: nothing
	Transit  *Delay `json:"transit,omitempty"` // within the node
	Slowest  bool   `json:"slowest,omitempty"` // the largest median of the path
}

// Report sums up.
func (a *Analyser) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := Report{Evicted: a.evicted, Malformed: a.bad}
	for _, f := range a.flows {
		r.Flows = append(r.Flows, a.report(f))
	}
	slices.SortFunc(r.Flows, func(x, y Flow) int {
		return cmp.Or(-cmp.Compare(x.Packets, y.Packets), strings.Compare(x.Key.String(), y.Key.String()))
	})
	return r
}

func (a *Analyser) report(f *flow) Flow {
	out := Flow{
		Key: f.key, First: stamp(f.first), Last: stamp(f.last), Packets: f.packets, Overflows: f.overflows,
		EndToEnd: f.endToEnd.delay(), Changes: f.changes,
	}
	if f.changes > 0 {
		out.Changed = stamp(f.changed)
	}
	k := stream{namespace: f.key.Namespace}
	if f.key.Proto == protoIPv6 {
		k.src, k.dst = f.key.Src, f.key.Dst
	}
	if s := a.streams[k]; s != nil {
		l := &Loss{Received: s.received, Lost: s.lost, Reordered: s.reordered, Duplicates: s.duplicates}
		if all := float64(s.received) + float64(s.lost); all > 0 {
			l.Ratio = float64(s.lost) / all
		}
		out.Loss = l
	}
	for _, r := range f.paths {
		out.Paths = append(out.Paths, a.path(r))
	}
	return out
}

func (a *Analyser) path(r *route) Path {
	p := Path{Packets: r.packets, Last: stamp(r.last)}
	slowest := -1
	for i := range r.hops {
		h := &r.hops[i]
		out := Hop{
			ID: h.id, Name: a.name(h), Ingress: ifName(h.ingress), Egress: ifName(h.egress),
			HopLimit: h.hopLimit, QueueMax: h.queueMax, Delay: h.delay.delay(),
		}
		if h.transit.n > 0 {
			d := h.transit.delay()
			out.Transit = &d
		}
		if h.delay.n > 0 && (slowest < 0 || out.Delay.Median > p.Hops[slowest].Delay.Median) {
			slowest = i
		}
		p.Hops = append(p.Hops, out)
	}
	if slowest >= 0 {
		p.Hops[slowest].Slowest = true
	}
	return p
}

func (a *Analyser) name(h *hop) string {
	if !h.known {
		return "?"
	}
	if n := a.opts.Names[h.id]; n != "" {
		return n
	}
	return fmt.Sprintf("%#x", h.id)
}

func ifName(id uint32) string {
	if id == option.Unset32 {
		return "-"
	}
	return fmt.Sprint(id)
}

var protoNames = map[uint8]string{6: "tcp", 17: "udp", 58: "icmp6", protoIPv6: "tunnel"}

func (k Key) String() string {
	proto := protoNames[k.Proto]
	if proto == "" {
		proto = fmt.Sprintf("proto %d", k.Proto)
	}
	if k.SrcPort == 0 && k.DstPort == 0 {
		return fmt.Sprintf("%s > %s %s ns %d", k.Src, k.Dst, proto, k.Namespace)
	}
	return fmt.Sprintf("%s.%d > %s.%d %s ns %d", k.Src, k.SrcPort, k.Dst, k.DstPort, proto, k.Namespace)
}

// String is the report as text: one table a flow.
func (r Report) String() string {
	var b strings.Builder
	for i := range r.Flows {
		if i > 0 {
			b.WriteByte('\n')
		}
		r.Flows[i].write(&b)
	}
	if r.Evicted > 0 {
		fmt.Fprintf(&b, "\n%d flows were dropped to make room\n", r.Evicted)
	}
	return b.String()
}

func (f *Flow) write(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n  %d packets", f.Key, f.Packets)
	if l := f.Loss; l != nil {
		fmt.Fprintf(b, ", %d lost (%.2g%%), %d reordered, %d duplicates", l.Lost, 100*l.Ratio, l.Reordered, l.Duplicates)
	}
	if f.Overflows > 0 {
		fmt.Fprintf(b, ", %d traces overflowed", f.Overflows)
	}
	if f.Changes > 0 {
		fmt.Fprintf(b, ", path changed %d times, last %s", f.Changes, f.Changed.Format("15:04:05.000"))
	}
	b.WriteByte('\n')
	for i, p := range f.Paths {
		if i > 0 {
			fmt.Fprintf(b, "  before, %d packets:\n", p.Packets)
		}
		p.write(b)
	}
	if d := f.EndToEnd; d.Count > 0 {
		fmt.Fprintf(b, "  end to end  %s\n", d)
	}
}

func (p *Path) write(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  #\tnode\tin\tout\thl\tmin\tmedian\tp99\t")
	for i, h := range p.Hops {
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t%d\t", i+1, h.Name, h.Ingress, h.Egress, h.HopLimit)
		if h.Delay.Count > 0 {
			fmt.Fprintf(w, "%v\t%v\t%v\t", h.Delay.Min, round(h.Delay.Median), round(h.Delay.P99))
		} else {
			fmt.Fprint(w, "-\t-\t-\t")
		}
		if h.Slowest && len(p.Hops) > 2 {
			fmt.Fprint(w, "slowest")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func (d Delay) String() string {
	return fmt.Sprintf("min %v  median %v  p99 %v  max %v", d.Min, round(d.Median), round(d.P99), d.Max)
}

// round leaves three digits: quantiles are no better than that.
func round(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}
