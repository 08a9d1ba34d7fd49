package probe

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taproom/stack"
	"taproom/stack/wire"
)

// chain is three routers in a row; the outer ones know the way.
func chain(t *testing.T) []*stack.Node {
	t.Helper()
	var nodes []*stack.Node
	for _, name := range []string{"a", "b", "c"} {
		n, err := stack.New(stack.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		nodes = append(nodes, n)
	}
	for i, subnet := range []string{"1", "2"} {
		x, y, err := wire.New(wire.Config{Name: subnet})
		if err != nil {
			t.Fatal(err)
		}
		for j, dev := range []*wire.End{x, y} {
			host := []string{"1", "2"}[j]
			_, err := nodes[i+j].AddInterface(dev, stack.InterfaceConfig{Name: "e" + subnet, Addresses: []netip.Prefix{
				netip.MustParsePrefix("10.0." + subnet + "." + host + "/24"), netip.MustParsePrefix("fd00:" + subnet + "::" + host + "/64"),
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, rs := range [][][2]string{{{"10.0.2.0/24", "10.0.1.2"}, {"fd00:2::/64", "fd00:1::2"}, {"10.9.0.0/16", "10.0.1.2"}}, {}, {{"10.0.1.0/24", "10.0.2.1"}, {"fd00:1::/64", "fd00:2::1"}}} {
		for _, r := range rs {
			if err := nodes[i].AddRoute(stack.Route{Prefix: netip.MustParsePrefix(r[0]), Via: netip.MustParseAddr(r[1])}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return nodes
}

func TestProbe(t *testing.T) {
	nodes := chain(t)
	p, err := New(nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	addr := netip.MustParseAddr
	for _, c := range []struct {
		dst  string
		hops []string
	}{
		{"10.0.2.2", []string{"10.0.1.2", "10.0.2.2"}},
		{"fd00:2::2", []string{"fd00:1::2", "fd00:2::2"}},
	} {
		for _, size := range []int{1, 56, 4000} {
			if a, err := p.Echo(t.Context(), addr(c.dst), Options{Size: size}); err != nil || a.Kind != Reply || a.From != addr(c.dst) {
				t.Errorf("%s, %d bytes: %+v, %v", c.dst, size, a, err)
			}
		}
		hops, err := p.Trace(t.Context(), addr(c.dst), 8)
		var got []string
		for _, h := range hops {
			got = append(got, h.String())
		}
		if diff := cmp.Diff(c.hops, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.dst, err, diff)
		}
	}
	if a, err := p.Echo(t.Context(), addr("10.9.0.1"), Options{}); err != nil || a.Kind != Unreachable || a.From != addr("10.0.1.2") {
		t.Errorf("no route at b: %+v, %v", a, err)
	}
	if _, err := p.Echo(t.Context(), addr("10.0.1.1"), Options{}); err != nil {
		t.Errorf("itself: %v", err)
	}
	if _, err := p.Echo(t.Context(), addr("192.0.2.1"), Options{}); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("no route here: %v", err)
	}
	nodes[2].InterfaceByName("e2").SetUp(false)
	if _, err := p.Echo(t.Context(), addr("fd00:2::2"), Options{Timeout: 20 * time.Millisecond}); err != nil && !errors.Is(err, ErrNoAnswer) {
		t.Errorf("dead: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	r := encode(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 7, 9, Options{Size: 8, TTL: 3})
	f.Add(r.Head())
	r.Release()
	r = encode(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 7, 9, Options{Size: 8, TTL: 3})
	f.Add(r.Head())
	r.Release()
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := parse(b, 7); ok && !h.from.IsValid() {
			t.Error("an answer from nobody")
		}
	})
}
