package export

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"taproom/ioam"
	"taproom/ioam/option"
)

// OTLP sends traces as spans and counters as metrics to an OpenTelemetry
// collector, over HTTP with JSON bodies (OTLP 1.x, "http/json").
//
// Every IOAM trace becomes an OpenTelemetry trace: a span for the whole way,
// from the first node's receive time to the last one's, and in it a span for
// every step from one node to the next.
type OTLP struct {
	// Endpoint is the collector's base URL, http://127.0.0.1:4318 say.
	Endpoint string
	// Service names the sender (service.name); empty is taproom.
	Service string
	// Client is used to post; nil is http.DefaultClient.
	Client *http.Client
	// Batch is how many traces go into one request; 0 is 256.
	Batch int
	// Interval is how long a batch waits to become full; 0 is a second.
	Interval time.Duration
}

// The parts of OTLP's JSON that are used. Numbers of 64 bits are strings, ids
// hexadecimal, as its JSON mapping demands.
type (
	otlpValue struct {
		String *string `json:"stringValue,omitempty"`
		Int    *string `json:"intValue,omitempty"`
		Bool   *bool   `json:"boolValue,omitempty"`
	}
	otlpAttr struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpResource struct {
		Attributes []otlpAttr `json:"attributes"`
	}
	otlpScope struct {
		Name string `json:"name"`
	}
	otlpSpan struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		Parent     string     `json:"parentSpanId,omitempty"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      string     `json:"startTimeUnixNano"`
		End        string     `json:"endTimeUnixNano"`
		Attributes []otlpAttr `json:"attributes,omitempty"`
	}
	otlpScopeSpans struct {
		Scope otlpScope  `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpResourceSpans struct {
		Resource   otlpResource     `json:"resource"`
		ScopeSpans []otlpScopeSpans `json:"scopeSpans"`
	}
	otlpTraces struct {
		ResourceSpans []otlpResourceSpans `json:"resourceSpans"`
	}
)

func text(k, v string) otlpAttr { return otlpAttr{k, otlpValue{String: &v}} }

func number(k string, v uint64) otlpAttr {
	s := strconv.FormatUint(v, 10)
	return otlpAttr{k, otlpValue{Int: &s}}
}

const spanInternal = 1

func (o *OTLP) resource() otlpResource {
	s := o.Service
	if s == "" {
		s = "taproom"
	}
	return otlpResource{[]otlpAttr{text("service.name", s)}}
}

// Spans encodes events as the body of a request to /v1/traces. Events whose
// traces have no times are left out; nil means that all were.
func (o *OTLP) Spans(events []ioam.Event) []byte {
	var spans []otlpSpan
	for i := range events {
		spans = appendSpans(spans, &events[i])
	}
	if spans == nil {
		return nil
	}
	b, _ := json.Marshal(otlpTraces{[]otlpResourceSpans{{
		Resource: o.resource(), ScopeSpans: []otlpScopeSpans{{Scope: otlpScope{"taproom/ioam"}, Spans: spans}},
	}}})
	return b
}

func appendSpans(spans []otlpSpan, e *ioam.Event) []otlpSpan {
	hops, err := e.Hops()
	if err != nil || len(hops) == 0 {
		return spans
	}
	slices.Reverse(hops)
	first, ok1 := hops[0].Time()
	last, ok2 := hops[len(hops)-1].Time()
	if !ok1 || !ok2 {
		return spans
	}
	id := spanIDs(e)
	nano := func(v int64) string { return strconv.FormatInt(v, 10) }
	root := otlpSpan{
		TraceID: id.trace, SpanID: id.span(0), Name: fmt.Sprintf("%s > %s", e.Src, e.Dst), Kind: spanInternal,
		Start: nano(first), End: nano(max(first, last)),
		Attributes: []otlpAttr{
			number("ioam.namespace", uint64(e.Namespace)), text("ioam.type", option.Type(e.Type>>8).String()),
			text("source.address", e.Src.String()), text("destination.address", e.Dst.String()),
			number("source.port", uint64(e.SrcPort)), number("destination.port", uint64(e.DstPort)),
			number("network.protocol", uint64(e.Proto)), number("ioam.hops", uint64(len(hops))),
		},
	}
	spans = append(spans, root)
	for i := 1; i < len(hops); i++ {
		from, ok1 := hops[i-1].Time()
		to, ok2 := hops[i].Time()
		if !ok1 || !ok2 {
			continue
		}
		s := otlpSpan{
			TraceID: id.trace, SpanID: id.span(i), Parent: root.SpanID, Kind: spanInternal,
			Name: hopName(&hops[i-1]) + " > " + hopName(&hops[i]), Start: nano(from), End: nano(max(from, to)),
			Attributes: hopAttrs(&hops[i-1]),
		}
		spans = append(spans, s)
	}
	return spans
}

func hopName(h *option.Hop) string {
	if id, ok := h.ID(); ok {
		return fmt.Sprintf("%#x", id)
	}
	return "?"
}

func hopAttrs(h *option.Hop) []otlpAttr {
	var a []otlpAttr
	if id, ok := h.ID(); ok {
		a = append(a, number("ioam.node", id), number("ioam.hop_limit", uint64(h.HopLimit)))
	}
	if h.Type&option.Interfaces != 0 {
		a = append(a, number("ioam.ingress", uint64(h.Ingress)), number("ioam.egress", uint64(h.Egress)))
	}
	if h.Type&option.QueueDepth != 0 && h.QueueDepth != option.Unset32 {
		a = append(a, number("ioam.queue_depth", uint64(h.QueueDepth)))
	}
	if h.Type&option.TransitDelay != 0 && h.TransitDelay>>31 == 0 {
		a = append(a, number("ioam.transit_delay_ns", uint64(h.TransitDelay)))
	}
	return a
}

// ids are made from the event, so that the same event has the same ones
// wherever it is exported.
type ids struct {
	trace string
	sum   [16]byte
}

func spanIDs(e *ioam.Event) ids {
	h := fnv.New128a()
	src, dst := e.Src.As16(), e.Dst.As16()
	h.Write(src[:])
	h.Write(dst[:])
	fmt.Fprint(h, e.Time, e.Sequence, e.FlowLabel, e.SrcPort, e.DstPort)
	h.Write(e.Data())
	var d ids
	h.Sum(d.sum[:0])
	d.sum[0] |= 1 // an id of zeros is invalid
	d.trace = hex.EncodeToString(d.sum[:])
	return d
}

func (d ids) span(i int) string {
	b := [8]byte(d.sum[8:])
	b[7] ^= byte(i)
	b[0] |= 1
	return hex.EncodeToString(b[:])
}

// Metrics encodes counters by node as the body of a request to /v1/metrics:
// cumulative sums named taproom.ioam.NAME.
func (o *OTLP) Metrics(nodes map[string]Counters, start, now time.Time) []byte {
	type point struct {
		Attributes []otlpAttr `json:"attributes"`
		Start      string     `json:"startTimeUnixNano"`
		Time       string     `json:"timeUnixNano"`
		Value      string     `json:"asInt"`
	}
	type sum struct {
		Points      []point `json:"dataPoints"`
		Temporality int     `json:"aggregationTemporality"`
		Monotonic   bool    `json:"isMonotonic"`
	}
	type metric struct {
		Name string `json:"name"`
		Sum  sum    `json:"sum"`
	}
	byName := map[string]*metric{}
	for node, c := range nodes {
		for k, v := range c.Counters() {
			m := byName[k]
			if m == nil {
				const cumulative = 2
				m = &metric{Name: "taproom.ioam." + k, Sum: sum{Temporality: cumulative, Monotonic: true}}
				byName[k] = m
			}
			m.Sum.Points = append(m.Sum.Points, point{
				Attributes: []otlpAttr{text("node", node)}, Value: strconv.FormatUint(v, 10),
				Start: strconv.FormatInt(start.UnixNano(), 10), Time: strconv.FormatInt(now.UnixNano(), 10),
			})
		}
	}
	metrics := make([]*metric, 0, len(byName))
	for _, m := range byName {
		metrics = append(metrics, m)
	}
	slices.SortFunc(metrics, func(a, b *metric) int { return strings.Compare(a.Name, b.Name) })
	b, _ := json.Marshal(map[string]any{"resourceMetrics": []any{map[string]any{
		"resource":     o.resource(),
		"scopeMetrics": []any{map[string]any{"scope": otlpScope{"taproom/ioam"}, "metrics": metrics}},
	}}})
	return b
}

// Post sends a body to /v1/traces or /v1/metrics.
func (o *OTLP) Post(ctx context.Context, path string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(o.Endpoint, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	c := o.Client
	if c == nil {
		c = http.DefaultClient
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("export: %s answered %s: %s", req.URL, resp.Status, bytes.TrimSpace(b))
	}
	return nil
}

// Follow posts the events of a subscription in batches until ctx ends. What
// cannot be posted is dropped and reported to failed, which may be nil.
func (o *OTLP) Follow(ctx context.Context, sub *ioam.Subscription, failed func(error)) {
	size, interval := o.Batch, o.Interval
	if size <= 0 {
		size = 256
	}
	if interval <= 0 {
		interval = time.Second
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var batch []ioam.Event
	flush := func(ctx context.Context) {
		if body := o.Spans(batch); body != nil {
			if err := o.Post(ctx, "/v1/traces", body); err != nil && failed != nil {
				failed(err)
			}
		}
		batch = batch[:0]
	}
	for {
		select {
		case e := <-sub.C:
			if e.Last {
				batch = append(batch, e)
			}
			if len(batch) >= size {
				flush(ctx)
			}
		case <-tick.C:
			flush(ctx)
		case <-ctx.Done():
			// The last batch still has the time of an interval.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), interval)
			flush(last)
			cancel()
			return
		}
	}
}
