package guest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParsePorts(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		in     string
		ports  []Port
		auto   bool
		except []uint16
		bad    bool
	}{
		{in: "none"},
		{in: "auto", auto: true},
		{in: "22", ports: []Port{{Host: 22, Guest: 22}}},
		{in: "22:23", ports: []Port{{Host: 22, Guest: 23}}},
		{in: "22,25", ports: []Port{{Host: 22, Guest: 22}, {Host: 25, Guest: 25}}},
		{in: "22-24:32-34", ports: []Port{{Host: 22, Guest: 32}, {Host: 23, Guest: 33}, {Host: 24, Guest: 34}}},
		{in: "192.0.2.1/5", ports: []Port{{Addr: addr("192.0.2.1"), Host: 5, Guest: 5}}},
		{in: "127.0.0.1/18095-18095:80-80", ports: []Port{{Addr: addr("127.0.0.1"), Host: 18095, Guest: 80}}},
		{in: "192.0.2.1%eth0/5", ports: []Port{{Addr: addr("192.0.2.1"), Device: "eth0", Host: 5, Guest: 5}}},
		{in: "%lo/5", ports: []Port{{Device: "lo", Host: 5, Guest: 5}}},
		{in: "[2001:db8::1]/5", ports: []Port{{Addr: addr("2001:db8::1"), Host: 5, Guest: 5}}},
		{in: "2001:db8::1/5", ports: []Port{{Addr: addr("2001:db8::1"), Host: 5, Guest: 5}}},
		{in: "5-8,~6-7", ports: []Port{{Host: 5, Guest: 5}, {Host: 8, Guest: 8}}, except: []uint16{6, 7}},
		{in: "~25", auto: true, except: []uint16{25}},
		{in: "", bad: true}, {in: "xx", bad: true}, {in: "70000", bad: true}, {in: "0", bad: true}, {in: "5-3", bad: true},
		{in: "1-2:5-9", bad: true}, {in: "~1:2", bad: true}, {in: "x/1", bad: true}, {in: "/1", bad: true}, {in: "1.2.3.4%/1", bad: true}, {in: "1,,2", bad: true},
	}
	for _, tt := range tests {
		got, err := ParsePorts(tt.in)
		if (err != nil) != tt.bad {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		if err != nil {
			continue
		}
		if d := cmp.Diff(tt.ports, got.Ports, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%q: %s", tt.in, d)
		}
		var want PortSet
		for _, p := range tt.except {
			want.Add(p)
		}
		if got.Auto != tt.auto || got.Except != want {
			t.Errorf("%q: auto %v, exceptions differ: %v", tt.in, got.Auto, got.Except != want)
		}
	}
}

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 6402000A:0050 0202000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
`

func TestParseTable(t *testing.T) {
	want := []Listener{{Addr: netip.MustParseAddrPort("127.0.0.1:8080")}, {Addr: netip.MustParseAddrPort("0.0.0.0:80")}}
	if d := cmp.Diff(want, parseTable(nil, strings.NewReader(table), false), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error(d)
	}
	a, ok := parseAddress([]byte("B80D0120000000000000000001000000:0035"))
	if !ok || a != netip.MustParseAddrPort("[2001:db8::1]:53") {
		t.Error(a, ok)
	}
	any6 := Listener{Addr: netip.MustParseAddrPort("[::]:80")}
	for to, want := range map[string]bool{"10.0.2.100:80": true, "[fd00::100]:80": true, "10.0.2.100:81": false} {
		if any6.takes(false, netip.MustParseAddrPort(to)) != want {
			t.Error(to)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"auto", "22-80:32-90", "5-25,~10-20", "192.0.2.1%eth0/5", "~25"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParsePorts(s)
		if err != nil {
			return
		}
		for _, p := range spec.Ports {
			if p.Host == 0 || p.Guest == 0 || spec.Except.Has(p.Host) {
				t.Errorf("%q: %+v", s, p)
			}
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add(table)
	f.Fuzz(func(t *testing.T, s string) {
		for _, l := range parseTable(nil, strings.NewReader(s), false) {
			if !l.Addr.IsValid() {
				t.Error(l)
			}
		}
	})
}
