package probe

import (
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"

	"taproom/ioam/path"
)

// Result is what the probes of a Run found out.
type Result struct {
	Src      netip.Addr  `json:"src"`
	Dst      netip.Addr  `json:"dst"`
	Sent     int         `json:"sent"`
	Answered int         `json:"answered"` // probes the destination answered
	Overflow bool        `json:"overflow"` // there were more nodes than the trace had room for
	RTT      path.Delay  `json:"rtt"`
	Path     path.Report `json:"path"`
	// Stopped is a router's refusal, empty if there was none.
	Stopped string `json:"stopped,omitempty"`

	opts     *Options
	analyser *path.Analyser
	done     map[uint32]bool
	rtts     path.Sample
	longest  map[uint32]int
}

func newResult(src, dst netip.Addr, o *Options) *Result {
	return &Result{
		Src: src, Dst: dst, opts: o, done: make(map[uint32]bool), longest: make(map[uint32]int),
		analyser: path.New(path.Options{All: true, Names: o.Names}),
	}
}

func (r *Result) answered() int { return len(r.done) }

var stopped = map[[2]uint8]string{
	{1, 0}: "no route", {1, 1}: "prohibited", {1, 2}: "beyond scope", {1, 3}: "address unreachable",
	{3, 0}: "hop limit exceeded", {2, 0}: "packet too big", {4, 0}: "erroneous header", {4, 1}: "unknown next header", {4, 2}: "unknown option",
}

func (r *Result) add(rec *record) {
	if len(rec.hops) == 0 && !rec.end {
		return
	}
	final := rec.end && rec.typ == 1 && rec.code == 4
	if why, ok := stopped[[2]uint8{rec.typ, rec.code}]; ok && rec.typ != 0 && !final {
		r.Stopped = fmt.Sprintf("%s, says %s", why, rec.from)
		r.done[rec.seq] = true
	}
	if final && !r.done[rec.seq] {
		r.done[rec.seq] = true
		r.Answered++
		r.Overflow = r.Overflow || rec.overflow
		r.rtts.Add(rec.at - rec.sent)
		r.RTT = r.rtts.Delay()
	}
	// The longest record of a probe holds all shorter ones.
	if len(rec.hops) > r.longest[rec.seq] {
		r.longest[rec.seq] = len(rec.hops)
		if final || r.opts.Loopback || r.Stopped != "" {
			r.analyse(rec)
		}
	}
}

func (r *Result) analyse(rec *record) {
	r.analyser.AddHops(path.Key{Namespace: r.opts.Namespace, Src: r.Src, Dst: r.Dst, Proto: 17}, rec.sent, rec.hops)
	r.Path = r.analyser.Report()
}

// String is the result as traceroute would show it.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "path to %s from %s, %d probes, %d answered", r.Dst, r.Src, r.Sent, r.Answered)
	if r.Sent > 0 {
		fmt.Fprintf(&b, " (%d%% loss)", 100*(r.Sent-min(r.Answered, r.Sent))/r.Sent)
	}
	b.WriteByte('\n')
	if len(r.Path.Flows) > 0 && len(r.Path.Flows[0].Paths) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for i, h := range r.Path.Flows[0].Paths[0].Hops {
			fmt.Fprintf(w, " %2d\t%s\t%s > %s\t", i+1, h.Name, h.Ingress, h.Egress)
			if h.Delay.Count > 0 {
				fmt.Fprintf(w, "+%v\t", h.Delay.Median)
			} else {
				fmt.Fprint(w, "\t")
			}
			if h.Slowest && i > 1 {
				fmt.Fprint(w, "slowest")
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	if r.RTT.Count > 0 {
		fmt.Fprintf(&b, "round trip %v\n", r.RTT)
	}
	if r.Overflow {
		b.WriteString("there were more nodes than the trace has room for\n")
	}
	if r.Stopped != "" {
		fmt.Fprintf(&b, "stopped: %s\n", r.Stopped)
	}
	return b.String()
}
