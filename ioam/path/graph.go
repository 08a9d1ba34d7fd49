package path

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// edge is a step between two nodes, over all flows.
type edge struct {
	from, to string
	packets  uint64
	median   time.Duration // the largest of any flow's
	slowest  bool
}

// edges collects the steps of all present paths, and with what traffic.
func (r Report) edges() (nodes []string, out []*edge) {
	index := map[[2]string]*edge{}
	for _, f := range r.Flows {
		for _, p := range f.Paths {
			for i, h := range p.Hops {
				if !slices.Contains(nodes, h.Name) {
					nodes = append(nodes, h.Name)
				}
				if i == 0 {
					continue
				}
				k := [2]string{p.Hops[i-1].Name, h.Name}
				e := index[k]
				if e == nil {
					e = &edge{from: k[0], to: k[1]}
					index[k] = e
					out = append(out, e)
				}
				e.packets += p.Packets
				e.median = max(e.median, h.Delay.Median)
				e.slowest = e.slowest || h.Slowest && len(p.Hops) > 2
			}
		}
	}
	return nodes, out
}

func (e *edge) label() string {
	if e.median == 0 {
		return fmt.Sprintf("%d packets", e.packets)
	}
	return fmt.Sprintf("%d packets, %v", e.packets, round(e.median))
}

// Mermaid is the paths as a Mermaid flow chart; the slowest hop of each path
// is a thick arrow.
func (r Report) Mermaid() string {
	nodes, edges := r.edges()
	var b strings.Builder
	b.WriteString("graph LR\n")
	for i, n := range nodes {
		fmt.Fprintf(&b, "  n%d[%q]\n", i, n)
	}
	for _, e := range edges {
		arrow := "-->"
		if e.slowest {
			arrow = "==>"
		}
		fmt.Fprintf(&b, "  n%d %s|%q| n%d\n", slices.Index(nodes, e.from), arrow, e.label(), slices.Index(nodes, e.to))
	}
	return b.String()
}

// DOT is the same for Graphviz.
func (r Report) DOT() string {
	nodes, edges := r.edges()
	var b strings.Builder
	b.WriteString("digraph ioam {\n  rankdir=LR\n  node [shape=box]\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %q\n", n)
	}
	for _, e := range edges {
		style := ""
		if e.slowest {
			style = ", penwidth=3, color=red"
		}
		fmt.Fprintf(&b, "  %q -> %q [label=%q%s]\n", e.from, e.to, e.label(), style)
	}
	b.WriteString("}\n")
	return b.String()
}
