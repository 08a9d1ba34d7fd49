package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
	"taproom/ioam/option"
	"taproom/ioam/path"
)

// traced is an event of three nodes, 1 the oldest, 50 us apart.
func traced() *ioam.Event {
	f := option.TraceFields{Namespace: 123, Type: 0xf00000, Words: 12}
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

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := WriteJSON(&b, traced()); err != nil {
		t.Fatal(err)
	}
	var e Event
	if err := json.Unmarshal(b.Bytes(), &e); err != nil || bytes.Count(b.Bytes(), []byte{'\n'}) != 1 {
		t.Fatalf("%v: %s", err, b.String())
	}
	if len(e.Hops) != 3 || *e.Hops[0].NodeID != 3 || *e.Hops[2].Ingress != 101 || e.Type != "0xf00000" || e.Hops[1].Time.Nanosecond() != 50000 {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	WriteText(&b, traced())
	if !strings.HasPrefix(b.String(), "[TRACE] Namespace=123 NodeLen=4 Type=0xf0000000 Data=3e000003006500666b00c6a900000064") {
		t.Errorf("%s", b.String())
	}
}

// TestIPFIX reads the messages back by their own template.
func TestIPFIX(t *testing.T) {
	x := NewIPFIX(7, 0)
	var messages [][]byte
	for range 40 {
		if m := x.Add(traced()); m != nil {
			messages = append(messages, bytes.Clone(m))
		}
	}
	if m := x.Flush(time.Unix(1795212970, 0)); m != nil {
		messages = append(messages, bytes.Clone(m))
	}
	if x.Flush(time.Now()) != nil {
		t.Error("an empty message")
	}
	records := uint32(0)
	for i, m := range messages {
		if binary.BigEndian.Uint16(m) != 10 || int(binary.BigEndian.Uint16(m[2:])) != len(m) || len(m) > 1400 {
			t.Fatalf("message %d: header %x, %d octets", i, m[:16], len(m))
		}
		if binary.BigEndian.Uint32(m[8:]) != records || binary.BigEndian.Uint32(m[12:]) != 7 {
			t.Errorf("message %d: sequence %d, want %d", i, binary.BigEndian.Uint32(m[8:]), records)
		}
		for m = m[16:]; len(m) > 0; {
			id, n := binary.BigEndian.Uint16(m), int(binary.BigEndian.Uint16(m[2:]))
			if id == templateID {
				for set := m[4:n]; len(set) > 0; records++ {
					data := int(set[fixedLen])
					if data != 48 || !bytes.Equal(set[fixedLen+1:][:data], traced().Data()) {
						t.Fatalf("record %x", set)
					}
					set = set[fixedLen+1+data:]
				}
			} else if id != templateSetID || i != 0 {
				t.Errorf("message %d: set %d", i, id)
			}
			m = m[n:]
		}
	}
	if records != 40 {
		t.Errorf("%d records", records)
	}
}

func TestPrometheus(t *testing.T) {
	a := path.New(path.Options{})
	a.Add(traced())
	n, err := ioam.Attach(ioamtest.NewNode("R", time.Now), ioam.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WritePrometheus(&b, map[string]Counters{"r1": n}, a.Report()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE taproom_ioam_filled_total counter", `taproom_ioam_filled_total{node="r1"} 0`,
		`taproom_ioam_hop_delay_seconds{src="2001:db8:a::1",dst="2001:db8:b::1",proto="17",sport="40001",dport="9999",namespace="123",hop="2",node="0x2",quantile="0.5"} 5e-05`,
		`taproom_ioam_flow_delay_seconds_count{`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// TestOTLP posts to a collector that notes what it gets.
func TestOTLP(t *testing.T) {
	got := make(chan []byte, 4)
	fail := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if fail {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get("Content-Type") == "application/json" {
			got <- append([]byte(r.URL.Path+" "), b...)
		}
	}))
	defer srv.Close()
	o := &OTLP{Endpoint: srv.URL, Service: "lab"}
	e := traced()
	if err := o.Post(context.Background(), "/v1/traces", o.Spans([]ioam.Event{*e})); err != nil {
		t.Fatal(err)
	}
	body, _ := bytes.CutPrefix(<-got, []byte("/v1/traces "))
	var tr otlpTraces
	if err := json.Unmarshal(body, &tr); err != nil {
		t.Fatal(err)
	}
	spans := tr.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 3 || spans[1].Parent != spans[0].SpanID || spans[1].Start != "1795212969000000000" || spans[2].End != spans[0].End ||
		len(spans[0].TraceID) != 32 || len(spans[0].SpanID) != 16 || spans[1].SpanID == spans[2].SpanID {
		t.Errorf("%s", body)
	}
	fail = true
	if err := o.Post(context.Background(), "/v1/metrics", []byte("{}")); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
	if o.Spans([]ioam.Event{{}}) != nil {
		t.Error("spans without times")
	}
}

func TestOTLPFollow(t *testing.T) {
	n, err := ioam.Attach(ioamtest.NewNode("R", time.Now), ioam.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sub := n.Subscribe(4)
	o := &OTLP{Endpoint: "http://127.0.0.1:0", Batch: 1}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	failures := make(chan error, 8)
	go func() { o.Follow(ctx, sub, func(err error) { failures <- err }); close(done) }()
	cancel()
	<-done
	select {
	case err := <-failures:
		t.Errorf("nothing was to be sent: %v", err)
	default:
	}
	if err := o.Post(context.Background(), "/", nil); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
