package ioam

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"taproom/integration/room"
	"taproom/ioam"
	"taproom/ioam/export"
	"taproom/ioam/ioamtest"
	"taproom/ioam/option"
	"taproom/ioam/path"
)

// recorded is the event of a trace through three nodes.
func recorded() *ioam.Event {
	f := option.TraceFields{Namespace: traceNS, Type: 0xf00000, Words: 12}
	b := make([]byte, f.OptionLen())
	f.Encode(b)
	t := option.Trace(b)
	t.SetRemaining(0)
	for i := range 3 {
		d := t.Room()[16*i:]
		binary.BigEndian.PutUint32(d, uint32(62+i)<<24|uint32(3-i))
		binary.BigEndian.PutUint32(d[4:], 0x00650066)
		binary.BigEndian.PutUint32(d[8:], 1795212969)
		binary.BigEndian.PutUint32(d[12:], uint32(100-50*i))
	}
	e := ioam.TraceEvent(t)
	e.Last, e.Proto, e.SrcPort, e.DstPort, e.In, e.Time = true, 17, 40001, 9999, 2, 1795212969000100000
	e.Src, e.Dst = netip.MustParseAddr("2001:db8:a::1"), netip.MustParseAddr("2001:db8:b::1")
	return &e
}

// TestOpenTelemetry lets the collector's own decoder read what we post.
func TestOpenTelemetry(t *testing.T) {
	o := &export.OTLP{Service: "lab"}
	traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(o.Spans([]ioam.Event{*recorded()}))
	if err != nil {
		t.Fatal(err)
	}
	spans := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
	root, last := spans.At(0), spans.At(2)
	if traces.SpanCount() != 3 || last.ParentSpanID() != root.SpanID() || last.TraceID() != root.TraceID() || root.SpanID().IsEmpty() ||
		root.EndTimestamp().AsTime().Sub(root.StartTimestamp().AsTime()) != 100*time.Microsecond {
		t.Errorf("%+v", spans)
	}
	if hops, ok := root.Attributes().Get("ioam.hops"); !ok || hops.Int() != 3 {
		t.Errorf("attributes %v", root.Attributes().AsRaw())
	}
	n, err := ioam.Attach(ioamtest.NewNode("R", time.Now), ioam.Config{})
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics(o.Metrics(map[string]export.Counters{"r1": n}, time.Unix(1, 0), time.Unix(2, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := metrics.DataPointCount(), len(n.Counters()); got != want {
		t.Errorf("%d points, want %d", got, want)
	}
}

// TestPromtool lets Prometheus' checker read what it would scrape.
func TestPromtool(t *testing.T) {
	room.Need(t, "promtool")
	a := path.New(path.Options{})
	a.Add(recorded())
	n, err := ioam.Attach(ioamtest.NewNode("R", time.Now), ioam.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := export.WritePrometheus(&b, map[string]export.Counters{"r1": n, "r2": n}, a.Report()); err != nil {
		t.Fatal(err)
	}
	if out := run(t, &b, "promtool", "check", "metrics"); out != "" {
		t.Error(out)
	}
}

// TestIPFIXTshark lets Wireshark read our messages by their template.
func TestIPFIXTshark(t *testing.T) {
	room.Need(t, "tshark", "text2pcap")
	x := export.NewIPFIX(7, 0)
	var dump bytes.Buffer
	write := func(m []byte) {
		dump.WriteString("000000")
		for _, c := range m {
			fmt.Fprintf(&dump, " %02x", c)
		}
		dump.WriteString("\n\n")
	}
	for range 20 {
		if m := x.Add(recorded()); m != nil {
			write(m)
		}
	}
	write(x.Flush(time.Unix(1795212970, 0)))
	file := t.TempDir() + "/ipfix.pcap"
	run(t, &dump, "text2pcap", "-q", "-u", "50000,4739", "-", file)
	out := run(t, nil, "tshark", "-r", file, "-T", "fields", "-e", "cflow.version", "-e", "cflow.srcaddrv6", "-e", "cflow.dstport",
		"-e", "_ws.malformed")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	records := 0
	for _, l := range lines {
		w := strings.Split(l, "\t")
		if w[0] != "10" || len(w) > 3 && w[3] != "" {
			t.Errorf("tshark reads %q", l)
		}
		records += strings.Count(w[1], "2001:db8:a::1")
	}
	if records != 20 {
		t.Errorf("tshark found %d records in\n%s", records, out)
	}
}
