package ioam

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/ioam"
	"taproom/stack"
	"taproom/stack/wire"
)

// farm is two kernels with two taproom routers between them:
// A - n1 - n2 - B. What goes to B from A passes n1's tunnel.
type farm struct {
	a, b   *room.Room
	n1, n2 *stack.Node
	i1, i2 *ioam.Node
}

func newFarm(t testing.TB, mtu int, c1, c2 ioam.Config) *farm {
	t.Helper()
	room.Need(t, "root", "tun")
	f := &farm{}
	var err error
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	f.a, err = room.New("a", room.Config{Addrs: []string{"fd01::2/64"}, Via: []string{"fd01::1"}, MTU: mtu})
	check(err)
	t.Cleanup(func() { f.a.Close() })
	f.b, err = room.New("b", room.Config{Addrs: []string{"fd02::2/64"}, Via: []string{"fd02::1"}, MTU: mtu})
	check(err)
	t.Cleanup(func() { f.b.Close() })
	f.n1, err = stack.New(stack.Options{Name: "n1"})
	check(err)
	t.Cleanup(f.n1.Close)
	f.n2, err = stack.New(stack.Options{Name: "n2"})
	check(err)
	t.Cleanup(f.n2.Close)
	_, err = f.a.Join(f.n1, "a", "fd01::1/64")
	check(err)
	_, err = f.b.Join(f.n2, "b", "fd02::1/64")
	check(err)
	macs := [2]net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
	p1, p2, err := wire.New(wire.Config{Name: "mid", MTU: mtu})
	check(err)
	_, err = f.n1.AddInterface(p1, stack.InterfaceConfig{Addr: macs[0], Addresses: []netip.Prefix{netip.MustParsePrefix("fd12::1/64")}})
	check(err)
	_, err = f.n2.AddInterface(p2, stack.InterfaceConfig{Addr: macs[1], Addresses: []netip.Prefix{netip.MustParsePrefix("fd12::2/64")}})
	check(err)
	check(f.n1.AddRoute(stack.Route{Prefix: netip.MustParsePrefix("fd02::/64"), Via: netip.MustParseAddr("fd12::2")}))
	check(f.n2.AddRoute(stack.Route{Prefix: netip.MustParsePrefix("fd01::/64"), Via: netip.MustParseAddr("fd12::1")}))
	attach := func(n *stack.Node, id uint32, c ioam.Config, strip string) *ioam.Node {
		c.NodeID = &id
		c.Namespaces = append(c.Namespaces, ioam.Namespace{ID: traceNS})
		c.Interfaces = make(map[int]ioam.Interface)
		for _, i := range n.Interfaces() {
			c.Interfaces[i.Index] = ioam.Interface{Enabled: true}
			if i.Name == strip {
				c.Interfaces[i.Index] = ioam.Interface{Edge: ioam.EdgeStrip}
			}
		}
		in, err := ioam.Attach(n, c)
		check(err)
		t.Cleanup(func() { in.Close() })
		return in
	}
	f.i1, f.i2 = attach(f.n1, 1, c1, ""), attach(f.n2, 2, c2, "b")
	return f
}

// iperf moves data from A to B for a second and returns bits per second.
func (f *farm) iperf(t testing.TB, args ...string) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	srv := f.b.Command(ctx, "iperf3", "-s", "-1", "--forceflush")
	out, err := srv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer srv.Wait()
	var b [512]byte
	for s := ""; !strings.Contains(s, "listening"); {
		k, err := out.Read(b[:])
		if err != nil {
			t.Fatal(err)
		}
		s += string(b[:k])
	}
	res, err := f.a.Output("iperf3", append([]string{"-c", "fd02::2", "-J", "-t", "1"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		End struct {
			Received struct {
				BPS float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sum struct {
				BPS  float64 `json:"bits_per_second"`
				Lost float64 `json:"lost_percent"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(res), &r); err != nil {
		t.Fatal(err)
	}
	if r.End.Received.BPS > 0 {
		return r.End.Received.BPS
	}
	return r.End.Sum.BPS
}

var tunnels = map[string]ioam.Tunnel{
	"inline": {Prefix: netip.MustParsePrefix("fd02::/64"), Namespace: traceNS, Type: 0xf00000, Size: 64},
	"encap": {Prefix: netip.MustParsePrefix("fd02::/64"), Namespace: traceNS, Type: 0xf00000, Size: 64,
		Mode: ioam.Encap, Dst: netip.MustParseAddr("fd12::2")},
}

// TestTraffic sends real TCP and UDP through tunnels, at the link's MTU: what
// does not fit any more is signalled to the sender, super-frames stay whole.
func TestTraffic(t *testing.T) {
	room.Need(t, "root", "tun", "iperf3")
	plain := newFarm(t, 1500, ioam.Config{}, ioam.Config{})
	t.Logf("without IOAM: TCP %.2f Gbit/s", plain.iperf(t)/1e9)
	for name, tun := range tunnels {
		f := newFarm(t, 1500, ioam.Config{Tunnels: []ioam.Tunnel{tun}}, ioam.Config{Decapsulate: true})
		tcp := f.iperf(t)
		udp := f.iperf(t, "-u", "-b", "200M", "-l", "1200")
		c := f.i2.Counters()
		t.Logf("%s: TCP %.2f Gbit/s, UDP %.0f Mbit/s; n1 inserted %d, encapsulated %d; n2 filled %d", name, tcp/1e9, udp/1e6,
			f.i1.Count(ioam.Inserted), f.i1.Count(ioam.Encapsulated), c["filled"])
		if tcp < 50e6 || udp < 100e6 || c["filled"] == 0 || c["stripped"]+c["decapsulated"] == 0 {
			t.Errorf("%s: too slow, or no traces: %v", name, c)
		}
	}
}
