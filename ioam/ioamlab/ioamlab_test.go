package ioamlab

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"taproom/ioam/probe"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	os.Exit(m.Run())
}

// TestExample runs the example: the traces name every router, and the slow
// wire is found.
func TestExample(t *testing.T) {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
	f.Close()
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
		if strings.Contains(err.Error(), "permitted") {
			t.Skipf("needs network namespaces: %v", err)
		}
		t.Fatal(err)
	}
	l.Expect(ctx, func(r lab.Result) {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Error)
		}
	})
	x := Of(l)
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
	if err := l.Close(); err != nil || Of(l) != nil {
		t.Errorf("down: %v", err)
	}
}

func TestCheck(t *testing.T) {
	const head = "version: 1\nname: x\nrooms: {a: namespace, r: router}\nioam:\n"
	for text, want := range map[string]string{
		"  rooms: {q: {node: 1}}":                                               "no room q",
		"  rooms: {a: {node: 1}}":                                               "only routers",
		"  rooms: {r: {node: 0x1000000}}":                                       "24 bits",
		"  rooms: {r: {extras: [magic]}}":                                       "no such extra: magic",
		"  rooms: {r: {tunnels: [fd00::/8 encap mpls]}}":                        "invalid encap type",
		"  rooms: {r: {interfaces: {eth0: {edge: sharp}}}}":                     "edge",
		"  namespaces: [{id: 1}, {id: 1}]\n  rooms: {r: {node: 1}}":             "given twice",
		"  namespaces: [{id: 70000}]\n  rooms: {r: {node: 1}}":                  "65535",
		"  rooms: {r: {node: 1}}\n  schemas: [{id: 16777216, data: something}]": "24 bits",
	} {
		if _, err := spec.Parse("x.yaml", []byte(head+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
