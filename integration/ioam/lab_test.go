package ioam

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/ioam/option"
	"taproom/ioam/probe"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
	"taproom/stack/lab/tracing"
)

// TestExample runs the example: the traces name every router, and the slow
// wire is found.
func TestExample(t *testing.T) {
	room.Need(t, "root", "tun")
	text, err := os.ReadFile("../../examples/ioam-path.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := spec.Parse("ioam-path.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(lab.Options{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Apply(ctx, file, nil); err != nil {
		t.Fatal(err)
	}
	l.Expect(ctx, func(r lab.Result) {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Error)
		}
	})
	x := tracing.Of(l)
	var upper, lower bool
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && !(upper && lower); time.Sleep(10 * time.Millisecond) {
		for _, flow := range x.Paths.Report().Flows {
			hops := flow.Paths[0].Hops
			var names []string
			slow := ""
			for i, h := range hops {
				names = append(names, h.Name)
				if h.Slowest {
					slow = hops[i-1].Name + "-" + h.Name
				}
			}
			switch strings.Join(names, " ") {
			case "r1 r2 r3 r6":
				upper = slow == "r2-r3" && flow.Loss != nil && flow.Loss.Lost == 0 && flow.Loss.Received >= 3
			case "r1 r4 r5 r6":
				lower = true
			}
		}
	}
	report := x.Paths.Report()
	t.Logf("\n%s\n%s", report, report.Mermaid())
	if !upper || !lower {
		t.Errorf("upper way %v, lower way %v", upper, lower)
	}
	p, err := x.Prober("r1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Run(ctx, netip.MustParseAddr("fd00:b:1::1"), probe.Options{Namespace: 123, Count: 2, Interval: time.Millisecond, Names: x.Names})
	if err != nil || r.Answered != 2 || len(r.Path.Flows) == 0 || len(r.Path.Flows[0].Paths[0].Hops) != 3 {
		t.Errorf("probe: %v\n%v", err, r)
	}
	t.Logf("\n%v", r)
	commands(t, x)
	if err := l.Close(); err != nil || tracing.Of(l) != nil {
		t.Errorf("down: %v", err)
	}
}

// commands says to a lab what a person would, and looks for an answer.
func commands(t *testing.T, x *tracing.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, c := range []struct{ line, want string }{
		{"r1 namespace show", "namespace 123\n"},
		{"r1 namespace add 5 data 0x7", ""},
		{"r1 namespace show", "namespace 5, data 0x00000007\n"},
		{"r1 route show", "mode encap tundst fd00:36::6 trace prealloc type 0xf00000 ns 123 size 96 e2e seq32"},
		{"r1 route add fd00:c::/64 encap ioam6 trace prealloc type 0x800000 ns 5 size 8", ""},
		{"r1 route del fd00:c::/64", ""},
		{"r1 sysctl net.ipv6.ioam6_id", "= 1\n"},
		{"r1 sysctl net.ipv6.conf.r2.ioam6_enabled=0", "= 0\n"},
		{"paths", "slowest"},
		{"paths graph dot", "digraph"},
		{"stats r6", "decapsulated"},
		{"r1 probe fd00:b:1::1 count 1", "1 probes, 1 answered"},
	} {
		var b bytes.Buffer
		if err := x.Run(ctx, strings.Fields(c.line), tracing.Options{}, &b); err != nil || !strings.Contains(b.String(), c.want) {
			t.Errorf("%s: %v\n%s", c.line, err, &b)
		}
		b.Reset()
		if err := x.Run(ctx, strings.Fields(c.line), tracing.Options{JSON: true}, &b); strings.Contains(c.line, "show") && (err != nil || !json.Valid(b.Bytes())) {
			t.Errorf("%s, JSON: %v\n%s", c.line, err, &b)
		}
	}
	for _, line := range []string{"", "r9 namespace show", "r1", "r1 namespace", "r1 route add x", "r1 probe", "r1 probe x", "paths graph ascii", "stats r9", "r1 sysctl no.such"} {
		if err := x.Run(ctx, strings.Fields(line), tracing.Options{}, new(bytes.Buffer)); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	watched(ctx, t, x)
}

// watched reads an event from monitor.
func watched(ctx context.Context, t *testing.T, x *tracing.Lab) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		err := x.Run(ctx, []string{"monitor"}, tracing.Options{}, w)
		w.Close()
		done <- err
	}()
	p, err := x.Prober("r1")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			p.Run(ctx, netip.MustParseAddr("fd00:b:1::1"), probe.Options{Namespace: 123, Count: 1})
		}
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil || !strings.Contains(line, "[TRACE] Namespace=123 NodeLen=4 Type=0xf0000000 Data=") || line[0] != 'r' {
		t.Errorf("%q %v", line, err)
	}
	cancel()
	r.Close()
	<-done
}

// TestLabQueue: on a slow wire the queue that a trace records grows with
// every packet that waits.
func TestLabQueue(t *testing.T) {
	room.Need(t, "root", "tun", "python3")
	file, err := spec.Parse("queue.yaml", []byte(`
version: 1
name: queue
rooms: {a: namespace, r1: router, r2: router, b: namespace}
links:
  - {ends: [{at: "a:eth0", addresses: ["fd00:a::2/64"]}, {at: "r1:a", addresses: ["fd00:a::1/64"]}]}
  - {ends: [{at: "r1:m", addresses: ["fd00:12::1/64"]}, {at: "r2:m", addresses: ["fd00:12::2/64"]}], rate: 1mbit}
  - {ends: [{at: "r2:b", addresses: ["fd00:b::1/64"]}, {at: "b:eth0", addresses: ["fd00:b::2/64"]}]}
ioam:
  namespaces: [{id: 1}]
  rooms:
    r1: {node: 1, extras: [queue-always], tunnels: ["fd00:b::/64 encap ioam6 trace prealloc type 0x820000 ns 1 size 16"]}
    r2: {node: 2, interfaces: {b: {edge: strip}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(lab.Options{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Apply(context.Background(), file, nil); err != nil {
		t.Fatal(err)
	}
	// Neighbours are found first: what waits for them has been filled already.
	ping, err := l.Start("a", lab.Command{Argv: []string{"ping", "-c", "1", "fd00:b::2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ping.Close()
	ping.Exit()
	sub := tracing.Of(l).Nodes["r2"].Subscribe(64)
	p, err := l.Start("a", lab.Command{Argv: []string{"python3", "-c", `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(30):
    s.sendto(bytes(1000), ("fd00:b::2", 9))
`}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	last := uint32(0)
	grown := 0
	for deadline := time.After(10 * time.Second); grown < 5 || last < 5000; {
		select {
		case e := <-sub.C:
			hops, err := e.Hops()
			if err != nil || len(hops) != 2 || hops[1].QueueDepth == option.Unset32 {
				t.Fatalf("%v %+v %v", &e, hops, err)
			}
			if hops[1].QueueDepth > last {
				grown++
			}
			last = hops[1].QueueDepth
		case <-deadline:
			t.Fatalf("the queue grew %d times, to %d octets", grown, last)
		}
	}
	t.Logf("%d octets waited", last)
}
