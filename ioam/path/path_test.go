package path

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/option"
)

// step is a node on a path of a test: id, interface ids, time since the
// packet set out.
type step struct {
	id      uint32
	in, out uint16
	after   time.Duration
}

var start = time.Unix(1795212969, 0)

// event is the trace of a packet that took these steps, sent after the start.
func event(sent time.Duration, steps ...step) *ioam.Event {
	f := option.TraceFields{Namespace: 123, Type: 0xf00000, Words: 4 * len(steps)}
	b := make([]byte, f.OptionLen())
	f.Encode(b)
	t := option.Trace(b)
	t.SetRemaining(0)
	for i, s := range steps {
		d := t.Room()[16*(len(steps)-1-i):]
		at := start.Add(sent + s.after)
		put := func(off int, v uint32) {
			d[off], d[off+1], d[off+2], d[off+3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
		}
		put(0, uint32(64-i)<<24|s.id)
		put(4, uint32(s.in)<<16|uint32(s.out))
		put(8, uint32(at.Unix()))
		put(12, uint32(at.Nanosecond()/1000))
	}
	e := ioam.TraceEvent(t)
	e.Last, e.Time, e.Proto, e.SrcPort, e.DstPort = true, start.Add(sent).UnixNano(), 17, 40001, 9999
	e.Src, e.Dst = netip.MustParseAddr("2001:db8:a::1"), netip.MustParseAddr("2001:db8:b::1")
	return &e
}

func TestReport(t *testing.T) {
	a := New(Options{Names: map[uint64]string{2: "core", 4: "detour"}})
	us := time.Microsecond
	for i := range 100 {
		extra := time.Duration(i) * us
		a.Add(event(time.Duration(i)*time.Millisecond, step{1, 1, 2, 0}, step{2, 1, 2, 20 * us}, step{3, 1, 0xffff, 200*us + extra}))
	}
	for i := range 10 {
		a.Add(event(time.Second+time.Duration(i)*time.Millisecond, step{1, 1, 3, 0}, step{4, 1, 2, 50 * us}, step{3, 2, 0xffff, 90 * us}))
	}
	silent := event(0, step{9, 1, 1, 0})
	silent.Last = false
	a.Add(silent)
	r := a.Report()
	if len(r.Flows) != 1 {
		t.Fatalf("%d flows", len(r.Flows))
	}
	f := r.Flows[0]
	if f.Packets != 110 || f.Changes != 1 || len(f.Paths) != 2 || f.Paths[0].Packets != 10 || f.Paths[1].Packets != 100 {
		t.Errorf("%+v", f)
	}
	h := f.Paths[1].Hops
	if len(h) != 3 || h[1].Name != "core" || h[1].Delay.Median != 20*us || !h[2].Slowest || h[2].Delay.Min != 180*us || h[2].Egress != "-" {
		t.Errorf("hops %+v", h)
	}
	near := func(got, want time.Duration) bool { return got > want*96/100 && got < want*104/100 }
	if d := h[2].Delay; !near(d.Median, 229*us) || !near(d.P99, 278*us) || d.Max != 279*us {
		t.Errorf("delay %v", d)
	}
	text := r.String()
	for _, s := range []string{"2001:db8:a::1.40001 > 2001:db8:b::1.9999 udp ns 123", "detour", "slowest", "path changed 1 times", "before, 100 packets", "end to end"} {
		if !strings.Contains(text, s) {
			t.Errorf("%q is not in\n%s", s, text)
		}
	}
	if m := r.Mermaid(); !strings.HasPrefix(m, "graph LR\n") || !strings.Contains(m, "==>") || strings.Count(m, "\n") != 1+4+4 {
		t.Errorf("mermaid:\n%s", m)
	}
	if d := r.DOT(); !strings.Contains(d, `"0x1" -> "core" [label="100 packets, 20µs"]`) {
		t.Errorf("dot:\n%s", d)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

func TestSequence(t *testing.T) {
	for name, c := range map[string]struct {
		in                             []uint64
		lost                           int64
		reordered, duplicates, restart uint64
	}{
		"in order":    {[]uint64{5, 6, 7, 8}, 0, 0, 0, 0},
		"lost":        {[]uint64{0, 1, 4, 5}, 2, 0, 0, 0},
		"overtaken":   {[]uint64{0, 2, 1, 3}, 0, 1, 0, 0},
		"twice":       {[]uint64{0, 1, 1, 2}, 0, 0, 1, 0},
		"late, twice": {[]uint64{0, 3, 1, 1, 2}, 0, 2, 1, 0},
		"wraps":       {[]uint64{0xfffffffe, 0xffffffff, 0, 2}, 1, 0, 0, 0},
		"late wrap":   {[]uint64{0xfffffffe, 0, 0xffffffff, 1}, 0, 1, 0, 0},
		"restarted":   {[]uint64{5000, 5001, 0, 1, 2}, 0, 0, 0, 1},
	} {
		var s sequence
		for _, v := range c.in {
			s.add(v, false)
		}
		if s.lost != c.lost || s.reordered != c.reordered || s.duplicates != c.duplicates || s.restarts != c.restart {
			t.Errorf("%s: lost %d, reordered %d, duplicates %d, restarts %d", name, s.lost, s.reordered, s.duplicates, s.restarts)
		}
	}
}

func TestBounded(t *testing.T) {
	a := New(Options{Flows: 4, Paths: 2})
	for i := range 20 {
		e := event(time.Duration(i)*time.Second, step{uint32(i), 1, 2, 0})
		e.SrcPort = uint16(i)
		a.Add(e)
		e = event(time.Duration(i)*time.Second, step{uint32(i), 1, 2, 0})
		e.SrcPort = 19
		a.Add(e)
	}
	r := a.Report()
	if len(r.Flows) != 4 || r.Evicted == 0 {
		t.Errorf("%d flows, %d evicted", len(r.Flows), r.Evicted)
	}
	for _, f := range r.Flows {
		if len(f.Paths) > 2 {
			t.Errorf("%d paths", len(f.Paths))
		}
	}
}

func TestHistogram(t *testing.T) {
	for _, v := range []int64{0, 1, 15, 16, 17, 31, 32, 33, 1000, 123456, 1 << 30, 1<<62 + 5} {
		b := bucketOf(v)
		if v < 1<<35 {
			if m := middle(b); m < v*96/100 || m > v*104/100+1 {
				t.Errorf("%d is in the bucket of %d", v, m)
			}
		}
	}
	if bucketOf(-5) != 0 {
		t.Error("negative")
	}
}
