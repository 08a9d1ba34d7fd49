package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
	"taproom/ioam/option"
	"taproom/stack/hook"
)

// row is a host, two routers and a host in a row; all fill traces.
func row(t *testing.T, extras ioam.Extras) (first *ioamtest.Node, nodes []*ioamtest.Node) {
	t.Helper()
	now := time.Unix(1795212969, 0)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for i := range 4 {
		n := ioamtest.NewNode(string(rune('a'+i)), func() time.Time { now = now.Add(time.Microsecond); return now })
		left, right := byte(i), byte(i+1)
		prefix := func(link, host byte) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 4: link, 15: host}), 64)
		}
		n.AddIface("left", mac, prefix(left, 2))
		n.AddIface("right", mac, prefix(right, 1))
		for l := range byte(5) {
			r := ioamtest.Route{Prefix: prefix(l, 0)}
			switch {
			case l < left:
				r.Out, r.Via = 1, prefix(left, 1).Addr()
			case l > right:
				r.Out, r.Via = 2, prefix(right, 2).Addr()
			default:
				continue
			}
			n.Routes = append(n.Routes, r)
		}
		if _, err := ioam.Attach(n, ioam.Config{
			NodeID: ioam.ID(uint32(i)), Namespaces: []ioam.Namespace{{ID: 0}}, Extras: extras,
			Interfaces: map[int]ioam.Interface{1: {Enabled: true, ID: ioam.ID16(1)}, 2: {Enabled: true, ID: ioam.ID16(2)}},
		}); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			ioamtest.Link(nodes[i-1], nodes[i-1].IfaceByName("right"), n, n.IfaceByName("left"))
		}
		nodes = append(nodes, n)
	}
	return nodes[0], nodes
}

var far = netip.MustParseAddr("2001:db8:300::2")

func TestRun(t *testing.T) {
	first, _ := row(t, ioam.Extras{})
	p, err := New(first)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Run(context.Background(), far, Options{Interval: time.Nanosecond, Names: map[uint64]string{2: "second"}})
	if err != nil || r.Sent != 3 || r.Answered != 3 || r.Overflow {
		t.Fatalf("%+v, %v", r, err)
	}
	hops := r.Path.Flows[0].Paths[0].Hops
	if len(hops) != 3 || hops[0].ID != 1 || hops[1].Name != "second" || hops[2].ID != 3 || hops[2].Egress != "-" || hops[1].Delay.Median <= 0 {
		t.Errorf("%+v", hops)
	}
	if s := r.String(); !strings.Contains(s, "3 probes, 3 answered (0% loss)") || !strings.Contains(s, "second") || !strings.Contains(s, "round trip") {
		t.Errorf("%s", s)
	}
}

func TestStopped(t *testing.T) {
	first, nodes := row(t, ioam.Extras{})
	p, err := New(first)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Run(context.Background(), far, Options{Count: 1, HopLimit: 2})
	if err != nil || r.Answered != 0 || !strings.HasPrefix(r.Stopped, "hop limit exceeded, says 2001:db8:200::2") {
		t.Fatalf("%v, %v", r, err)
	}
	if hops := r.Path.Flows[0].Paths[0].Hops; len(hops) != 2 {
		t.Errorf("%d hops recorded before the end", len(hops))
	}
	nodes[2].Attach(hook.Forward, hook.HandlerFunc(func(hook.Point, *hook.Packet) hook.Verdict { return hook.Drop }), hook.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if r, err = p.Run(ctx, far, Options{Count: 1}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(r.String(), "100% loss") {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := p.Run(ctx, netip.MustParseAddr("2001:db9::1"), Options{}); !errors.Is(err, ErrNoWay) {
		t.Errorf("%v", err)
	}
}

// TestLoopback: with copies from every node, loss behind the first still
// shows the way as far as it goes.
func TestLoopback(t *testing.T) {
	first, nodes := row(t, ioam.Extras{Loopback: true, LoopbackRate: -1})
	p, err := New(first)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	nodes[2].Attach(hook.Forward, hook.HandlerFunc(func(hook.Point, *hook.Packet) hook.Verdict { return hook.Drop }), hook.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	r, _ := p.Run(ctx, far, Options{Count: 1, Loopback: true})
	if len(r.Path.Flows) != 1 || len(r.Path.Flows[0].Paths[0].Hops) != 2 || r.Answered != 0 {
		t.Errorf("%v", r)
	}
}

func FuzzParse(f *testing.F) {
	o := Options{}
	o.setDefaults()
	k := build(far, far, 1, 2, 3, &o)
	f.Add(append([]byte(nil), k.Head()...))
	icmp := append([]byte{0x60, 6: 58, 47: 0}, k.Head()...)
	icmp[40] = 1
	f.Add(icmp)
	f.Fuzz(func(t *testing.T, b []byte) { parse(b) })
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Size: 3}, {Size: 248}, {Type: option.All + 1}} {
		if o.setDefaults() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
