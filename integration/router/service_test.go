package router

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/stack"
	"taproom/stack/wire"
)

// iperf3 at a moderate rate loses nothing, in datagrams of one packet and of
// several fragments.
func TestUDP(t *testing.T) {
	s := two(t, room.Config{}, room.Config{}, "iperf3")
	stop := serve(t, s.B)
	defer stop()
	for _, to := range []string{room.B4, room.B6} {
		for _, size := range []string{"64", "1400", "8000"} {
			out := s.A.Run(t, "iperf3", "-c", to, "-u", "-b", "5M", "-l", size, "-t", "1", "-J")
			var r struct {
				Error string
				End   struct {
					Sum struct {
						Packets float64
						Lost    float64 `json:"lost_packets"`
					}
				}
			}
			out = out[max(strings.Index(out, "{"), 0):] // a warning about the size may come first
			if err := json.Unmarshal([]byte(out), &r); err != nil || r.Error != "" || r.End.Sum.Packets == 0 || r.End.Sum.Lost > r.End.Sum.Packets/50 {
				t.Errorf("%s, %s bytes: %v %s lost %v of %v", to, size, err, r.Error, r.End.Sum.Lost, r.End.Sum.Packets)
			}
		}
	}
}

func TestDNS(t *testing.T) {
	s := two(t, room.Config{}, room.Config{}, "dnsmasq", "dig")
	ctx, cancel := context.WithCancel(context.Background())
	srv := s.B.Command(ctx, "dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root",
		"--address=/tap.example/192.0.2.53", "--address=/tap.example/2001:db8::53", "--txt-record=long.example,"+strings.Repeat("x", 200))
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = srv.Wait() }()
	ask := func(args ...string) string {
		var out string
		var err error
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if out, err = s.A.Output("dig", append([]string{"+short", "+tries=1", "+time=1"}, args...)...); err == nil && !strings.Contains(out, ";;") {
				return strings.TrimSpace(out)
			}
		}
		t.Fatalf("dig %v: %v %s", args, err, out)
		return ""
	}
	for _, server := range []string{room.B4, room.B6} {
		if got := ask("@"+server, "a.tap.example", "A"); got != "192.0.2.53" {
			t.Errorf("A from %s: %q", server, got)
		}
		if got := ask("@"+server, "a.tap.example", "AAAA", "+tcp"); got != "2001:db8::53" {
			t.Errorf("AAAA over TCP from %s: %q", server, got)
		}
		if got := ask("@"+server, "long.example", "TXT"); len(got) < 200 {
			t.Errorf("TXT from %s: %q", server, got)
		}
	}
}

// Ten routers in a row, in one process: every one of them is a hop.
func TestChain(t *testing.T) {
	room.Need(t, "root", "tun", "traceroute", "ping", "iperf3")
	const routers = 10
	a, err := room.New("a", room.Config{Addrs: []string{"10.100.0.2/24", "fd64::2/64"}, Via: []string{"10.100.0.1", "fd64::1"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := room.New("b", room.Config{Addrs: []string{"10.200.0.2/24", "fdc8::2/64"}, Via: []string{"10.200.0.1", "fdc8::1"}})
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*stack.Node
	defer func() {
		for _, n := range nodes {
			n.Close()
		}
		_, _ = a.Close(), b.Close()
	}()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for k := range routers {
		n, err := stack.New(stack.Options{Name: fmt.Sprintf("r%d", k)})
		must(err)
		nodes = append(nodes, n)
	}
	_, err = a.Join(nodes[0], "a", "10.100.0.1/24", "fd64::1/64")
	must(err)
	_, err = b.Join(nodes[routers-1], "b", "10.200.0.1/24", "fdc8::1/64")
	must(err)
	for k := range routers - 1 {
		left, right, err := wire.New(wire.Config{})
		must(err)
		for _, e := range []struct {
			n   *stack.Node
			dev *wire.End
			own int
			dst []string
		}{{nodes[k], left, 1, []string{"10.200.0.0/24", "fdc8::/64"}}, {nodes[k+1], right, 2, []string{"10.100.0.0/24", "fd64::/64"}}} {
			name := map[int]string{1: "right", 2: "left"}[e.own]
			_, err := e.n.AddInterface(e.dev, stack.InterfaceConfig{Name: name, Addresses: []netip.Prefix{
				netip.MustParsePrefix(fmt.Sprintf("10.101.%d.%d/24", k, e.own)), netip.MustParsePrefix(fmt.Sprintf("fd65:0:0:%x::%d/64", k, e.own)),
			}})
			must(err)
			must(e.n.AddRoute(stack.Route{Prefix: netip.MustParsePrefix(e.dst[0]), Via: netip.MustParseAddr(fmt.Sprintf("10.101.%d.%d", k, 3-e.own))}))
			must(e.n.AddRoute(stack.Route{Prefix: netip.MustParsePrefix(e.dst[1]), Via: netip.MustParseAddr(fmt.Sprintf("fd65:0:0:%x::%d", k, 3-e.own))}))
		}
	}
	for _, to := range []string{"10.200.0.2", "fdc8::2"} {
		out := a.Run(t, "ping", "-c", "3", "-i", "0.05", "-W", "5", "-s", "8000", to)
		if !strings.Contains(out, " 0% packet loss") {
			t.Error(out)
		}
		out = a.Run(t, "traceroute", "-n", "-q", "1", "-w", "3", to)
		if hops := regexp.MustCompile(`(?m)^ *\d+  [0-9a-f]`).FindAllString(out, -1); len(hops) != routers+1 {
			t.Errorf("%d hops:\n%s", len(hops), out)
		}
	}
	stop := serve(t, b)
	defer stop()
	if out := a.Run(t, "iperf3", "-c", "10.200.0.2", "-t", "1", "-J"); strings.Contains(out, `"error"`) {
		t.Error(out)
	}
}
