package export

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"taproom/ioam/path"
)

// Counters is what has an ioam.Node's counters.
type Counters interface{ Counters() map[string]uint64 }

// WritePrometheus writes counters of nodes, by the nodes' names, and what an
// analyser found, in Prometheus' text format (version 0.0.4). The report may
// be empty.
func WritePrometheus(w io.Writer, nodes map[string]Counters, r path.Report) error {
	var b strings.Builder
	names := slices.Sorted(maps.Keys(nodes))
	if len(names) > 0 {
		keys := slices.Sorted(maps.Keys(nodes[names[0]].Counters()))
		values := make([]map[string]uint64, len(names))
		for i, n := range names {
			values[i] = nodes[n].Counters()
		}
		for _, k := range keys {
			m := "taproom_ioam_" + k + "_total"
			head(&b, m, "counter", "IOAM: "+strings.ReplaceAll(k, "_", " "))
			for i, n := range names {
				fmt.Fprintf(&b, "%s{node=%q} %d\n", m, n, values[i][k])
			}
		}
	}
	writeFlows(&b, r)
	_, err := io.WriteString(w, b.String())
	return err
}

func head(b *strings.Builder, name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func writeFlows(b *strings.Builder, r path.Report) {
	if len(r.Flows) == 0 {
		return
	}
	flow := func(f *path.Flow) string {
		return fmt.Sprintf("src=%q,dst=%q,proto=\"%d\",sport=\"%d\",dport=\"%d\",namespace=\"%d\"",
			f.Src, f.Dst, f.Proto, f.SrcPort, f.DstPort, f.Namespace)
	}
	metric := func(name, kind, help string, each func(f *path.Flow, labels string)) {
		head(b, name, kind, help)
		for i := range r.Flows {
			each(&r.Flows[i], flow(&r.Flows[i]))
		}
	}
	metric("taproom_ioam_flow_packets_total", "counter", "traced packets of a flow", func(f *path.Flow, l string) {
		fmt.Fprintf(b, "taproom_ioam_flow_packets_total{%s} %d\n", l, f.Packets)
	})
	metric("taproom_ioam_flow_path_changes_total", "counter", "how often a flow changed its path", func(f *path.Flow, l string) {
		fmt.Fprintf(b, "taproom_ioam_flow_path_changes_total{%s} %d\n", l, f.Changes)
	})
	metric("taproom_ioam_flow_lost_packets", "gauge", "packets missing by their sequence numbers", func(f *path.Flow, l string) {
		if f.Loss != nil {
			fmt.Fprintf(b, "taproom_ioam_flow_lost_packets{%s} %d\n", l, f.Loss.Lost)
		}
	})
	metric("taproom_ioam_flow_delay_seconds", "summary", "time from the first to the last node", func(f *path.Flow, l string) {
		summary(b, "taproom_ioam_flow_delay_seconds", l, f.EndToEnd)
	})
	metric("taproom_ioam_hop_delay_seconds", "summary", "time between two neighbours' receive times", func(f *path.Flow, l string) {
		if len(f.Paths) == 0 {
			return
		}
		for i, h := range f.Paths[0].Hops {
			summary(b, "taproom_ioam_hop_delay_seconds", fmt.Sprintf("%s,hop=\"%d\",node=%q", l, i+1, h.Name), h.Delay)
		}
	})
}

func summary(b *strings.Builder, name, labels string, d path.Delay) {
	if d.Count == 0 {
		return
	}
	fmt.Fprintf(b, "%s{%s,quantile=\"0.5\"} %g\n%s{%s,quantile=\"0.99\"} %g\n%s_count{%s} %d\n",
		name, labels, d.Median.Seconds(), name, labels, d.P99.Seconds(), name, labels, d.Count)
}
