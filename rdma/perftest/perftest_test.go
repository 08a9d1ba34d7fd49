package perftest

import (
	"bytes"
	"embed"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taproom/rdma/roce"
)

//go:embed testdata
var testdata embed.FS

// tests are the recorded talks: what kind of test each is, and with how many
// queue pairs.
var tests = []struct {
	name    string
	kind    Kind
	latency bool
	qps     int
}{
	{"ib_send_bw", Send, false, 1},
	{"ib_send_bw_cUD", Send, false, 1},
	{"ib_send_lat_cUD", Send, true, 1},
	{"ib_write_bw", Write, false, 1},
	{"ib_write_bw_q2", Write, false, 2},
	{"ib_write_bw_a", Write, false, 1},
	{"ib_write_bw_b", Write, false, 1},
	{"ib_read_bw", Read, false, 1},
	{"ib_read_lat", Read, true, 1},
	{"ib_atomic_bw", Atomic, false, 1},
	{"ib_atomic_lat", Atomic, true, 1},
}

func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		t.Skipf("no recording: %v", err)
	}
	return bytes.TrimSuffix(b, []byte(doneMark)) // some of them lost it when the relay ended
}

// TestRecorded plays each side of a recorded talk against the other side's half
// of it, and must say what the recorded program said.
func TestRecorded(t *testing.T) {
	for _, c := range tests {
		if c.name == "ib_write_bw" {
			continue // its variants are recorded
		}
		t.Run(c.name, func(t *testing.T) {
			halves := map[bool][]byte{false: recorded(t, c.name+".client"), true: recorded(t, c.name+".server")}
			for _, server := range []bool{false, true} {
				var dests []Dest
				own := halves[server]
				for i := range c.qps {
					d, err := ParseDest(own[prefaceLen+i*destLen:][:destLen])
					if err != nil {
						t.Fatal(err)
					}
					dests = append(dests, d)
				}
				var out bytes.Buffer
				s := NewSession(struct {
					io.Reader
					io.Writer
				}{bytes.NewReader(halves[!server]), &out}, server)
				report := Report{}
				if n := len(own) - destLen - reportLen; own[n-destLen+4] == ':' {
					report, _ = ParseReport(own[n : n+reportLen])
				}
				if err := talk(s, c.kind, c.latency, dests, report); err != nil {
					t.Fatal(err)
				}
				if got := bytes.TrimSuffix(out.Bytes(), []byte(doneMark)); !bytes.Equal(got, own) {
					t.Errorf("server %v said\n%q, recorded is\n%q", server, got, own)
				}
			}
		})
	}
}

// talk goes through a whole test without traffic.
func talk(s *Session, k Kind, latency bool, local []Dest, r Report) error {
	if _, err := s.Open(DefaultPreface); err != nil {
		return err
	}
	if _, err := s.Exchange(local); err != nil {
		return err
	}
	if err := s.Sync(); err != nil {
		return err
	}
	for range Points {
		if err := s.Point(); err != nil {
			return err
		}
	}
	if Reports(k, latency) {
		if _, err := s.Report(r); err != nil {
			return err
		}
	}
	return s.Close()
}

// TestFollow: a server that only answers gets to the end, and has the report.
func TestFollow(t *testing.T) {
	for _, c := range tests {
		a, b := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- talk(NewSession(a, false), c.kind, c.latency, make([]Dest, c.qps), Report{Size: 64, Average: 7})
		}()
		s := NewSession(b, true)
		if _, err := s.Open(DefaultPreface); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Exchange(make([]Dest, c.qps)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan *Report, 1)
		go func() { r, _ := s.Follow(); ended <- r }()
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		buf := make([]byte, len(doneMark))
		if _, err := io.ReadFull(a, buf); err != nil || string(buf) != doneMark {
			t.Errorf("%s: the server ended with %q, %v", c.name, buf, err)
		}
		if r, _, want := (<-ended), 0, c.kind != Send && !c.latency; (r != nil) != want || want && r.Average != 7 {
			t.Errorf("%s: report %v", c.name, r)
		}
	}
}

func TestPingpong(t *testing.T) {
	l := PingpongAddr{QPN: 0x21, PSN: 0x56ed96, GID: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 9, 15: 1}}
	if got, want := string(l.Append(nil)), "0000:000021:56ed96:00000000000000000000ffff0a090001\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	a, b := net.Pipe()
	r := l
	r.QPN = 0x23
	go func() {
		if got, err := PingpongClient(a, r); err != nil || got != l {
			t.Errorf("client: %+v, %v", got, err)
		}
		a.Close()
	}()
	if err := PingpongServer(b, l, func(got PingpongAddr) error {
		if got != r {
			t.Errorf("server: %+v", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestTables compares with what perftest printed.
func TestTables(t *testing.T) {
	us := func(v float64) time.Duration { return time.Duration(v * 1000) }
	for _, c := range []struct{ got, want string }{
		{Report{64, 5, 0.01, 0.01, 0.000138}.Row(), " 64         5                0.01               0.01   \t\t   0.000138\n"},
		{Report{65536, 5, 0, 77045.32, 1.232725}.Row(), " 65536      5                0.00               77045.32\t\t   1.232725\n"},
		{Report{8388608, 5, 34.23, 31, 0.000004}.Row(), " 8388608    5                34.23              31.00  \t\t   0.000004\n"},
		{Latency{64, 20, us(3884.18), us(13814.95), us(4049.32), us(5871.33), us(2606.31), us(13814.95), us(13814.95)}.Row(),
			" 64      20          3884.18        13814.95      4049.32  \t       5871.33     \t2606.31\t\t13814.95 \t\t13814.95\n"},
		{Latency{64, 10, us(29.08), us(148.91), us(32.58), us(50.33), us(35.38), us(148.91), us(148.91)}.Row(),
			" 64      10          29.08          148.91       32.58    \t       50.33       \t35.38  \t\t148.91  \t\t148.91 \n"},
		{Dest{QPN: 0x11, PSN: 0x26f8a, RKey: 0x257, VAddr: 0x55c1cff53000, GID: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 9, 15: 1}}.Line("local", Write),
			" local address: LID 0000 QPN 0x0011 PSN 0x26f8a RKey 0x000257 VAddr 0x0055c1cff53000\n GID: 00:00:00:00:00:00:00:00:00:00:255:255:10:09:00:01\n"},
	} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Errorf("(-perftest +got):\n%s", d)
		}
	}
	var b strings.Builder
	h := Heading{Kind: Write, Device: "rxe0", QPs: 1, Connection: "RC", Depth: 5, Moderation: 5, MTU: 1024, GIDIndex: 1}
	if _, err := h.WriteTo(&b); err != nil || !strings.Contains(b.String(), " CQ Moderation   : 5\n Mtu             : 1024[B]\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestFigures(t *testing.T) {
	ms := time.Millisecond
	r := Bandwidth(1<<20, []time.Duration{0, ms, 2 * ms, 3 * ms}, []time.Duration{10 * ms, 11 * ms, 12 * ms, 100 * ms})
	if r.Iterations != 4 || r.Average != 40 || r.Peak < 180 || r.Peak > 190 {
		t.Errorf("%+v", r)
	}
	var s []time.Duration
	for i := 1000; i > 0; i-- {
		s = append(s, time.Duration(2*i)*time.Microsecond)
	}
	l := NewLatency(8, s, true)
	if l.Min != time.Microsecond || l.Max != ms || l.Typical != 500*time.Microsecond || l.P99 != 990*time.Microsecond || l.P999 != 999*time.Microsecond {
		t.Errorf("%+v", l)
	}
}

// FuzzMessages: what can be read can be written again and reads the same.
func FuzzMessages(f *testing.F) {
	f.Add(PingpongAddr{QPN: 1}.Append(nil))
	f.Add(Dest{QPN: 1}.Append(nil))
	f.Add(DefaultPreface.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParsePingpongAddr(b); err == nil {
			if c, err := ParsePingpongAddr(a.Append(nil)); err != nil || c != a {
				t.Fatalf("%+v, %v", c, err)
			}
		}
		if d, err := ParseDest(b); err == nil {
			if e, err := ParseDest(d.Append(nil)); err != nil || e != d {
				t.Fatalf("%+v, %v", e, err)
			}
		}
		if p, err := ParsePreface(b); err == nil && p.MTU != roce.MTU(0) {
			if q, err := ParsePreface(p.Append(nil)); err != nil || q.MTU != p.MTU {
				t.Fatalf("%+v, %v", q, err)
			}
		}
	})
}
