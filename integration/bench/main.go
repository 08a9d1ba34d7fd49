// Command bench measures what a taproom node forwards between two kernel
// namespaces, beside what else could stand in its place: the kernel's own
// router on veth pairs, a bare copy from TAP to TAP (the ceiling of anything
// that reads and writes TAPs), and netstack with its own TAP endpoint. All
// take turns in one run, so that the ratios hold whatever the machine does.
// With -hooks and -scale there are two more rows: taproom with an empty handler
// at each of the seven points, and with 1,000 interfaces and 100,000 routes.
// With -matrix it prints instead what TCP makes of MTU, delay and loss.
//
//	go run ./integration/bench [-rounds N] [-time D] [-mtu 1500,9000]
//	    [-only tcp1,udp64] [-scenes pump,taproom] [-hooks] [-scale] [-gro] [-matrix] [-j]
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"taproom/integration/room"
	"taproom/tap/netns"
	"taproom/tap/pump"
)

// A load is a column of the table.
type load struct {
	name string
	v6   bool
	gso  bool // UDP in super-frames, not by iperf3
	pump.Load
}

var loads = []load{
	{name: "tcp1", Load: pump.Load{Streams: 1}},
	{name: "tcp4", Load: pump.Load{Streams: 4}},
	{name: "tcp1v6", v6: true, Load: pump.Load{Streams: 1}},
	{name: "tcp4v6", v6: true, Load: pump.Load{Streams: 4}},
	{name: "udp64", Load: pump.Load{UDP: true, Size: 64}},
	{name: "udp1400", Load: pump.Load{UDP: true, Size: 1400}},
	{name: "udpgso", gso: true, Load: pump.Load{UDP: true, Size: 1400}},
	{name: "udpgsov6", v6: true, gso: true, Load: pump.Load{UDP: true, Size: 1400}},
}

// run puts the load between two namespaces.
func (l load) run(a, b *netns.Namespace, length time.Duration) (pump.Result, error) {
	to := netip.MustParseAddr(room.B4)
	if l.v6 {
		to = netip.MustParseAddr(room.B6)
	}
	if l.gso {
		return datagrams(a, b, to, length, l.Size)
	}
	w := l.Load
	w.From, w.To, w.Time, w.Addr = a, b, length, to
	return w.Run()
}

// A scene is a row: two namespaces with something between them.
type scene struct {
	name string
	make func(mtu int) (a, b *netns.Namespace, stop func(), err error)
}

var scenes = []scene{
	{"kernel", kernelRouter},
	{"pump", pumped},
	{"taproom", taproom},
	{"gro", joining},
	{"hooks", hooked},
	{"scale", large},
	{"fdbased", netstack},
}

// options are the flags.
type options struct {
	rounds              int
	length              time.Duration
	mtus                string
	only, scenes        string
	hooks, scale, gro   bool
	matrix, quick, json bool
	profile             string
}

func main() {
	netns.Init()
	helper()
	var o options
	flag.IntVar(&o.rounds, "rounds", 2, "how often each is measured; the best counts")
	flag.DurationVar(&o.length, "time", 2*time.Second, "of one measurement, whole seconds")
	flag.StringVar(&o.mtus, "mtu", "1500", "MTUs, with commas")
	flag.StringVar(&o.only, "only", "", "loads, with commas; empty is all")
	flag.StringVar(&o.scenes, "scenes", "", "scenes, with commas; empty is all but those of -hooks and -scale")
	flag.BoolVar(&o.hooks, "hooks", false, "also with an empty handler at every point")
	flag.BoolVar(&o.scale, "scale", false, "also with 1,000 interfaces and 100,000 routes")
	flag.BoolVar(&o.gro, "gro", false, "also with GRO at the devices")
	flag.BoolVar(&o.matrix, "matrix", false, "MTU, delay and loss instead")
	flag.BoolVar(&o.quick, "quick", false, "with -matrix: its corners only")
	flag.BoolVar(&o.json, "j", false, "print JSON")
	flag.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile to a file")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces of a real kernel need root here")
	}
	if err := pump.Missing(); err != nil {
		return err
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if o.matrix {
		return matrix(o)
	}
	var all []row
	for _, m := range strings.Split(o.mtus, ",") {
		mtu, err := strconv.Atoi(m)
		if err != nil {
			return fmt.Errorf("-mtu: %w", err)
		}
		rows, err := o.measure(mtu)
		if err != nil {
			return err
		}
		if !o.json {
			show(mtu, rows)
		}
		all = append(all, rows...)
	}
	if o.json {
		return printJSON(all)
	}
	return nil
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (o options) wants(s scene) bool {
	switch {
	case o.scenes != "":
		return slices.Contains(strings.Split(o.scenes, ","), s.name)
	case s.name == "hooks":
		return o.hooks
	case s.name == "gro":
		return o.gro
	case s.name == "scale":
		return o.scale
	}
	return true
}

// measure runs all loads through all scenes at one MTU.
func (o options) measure(mtu int) ([]row, error) {
	best := make(map[string]pump.Result)
	for range o.rounds {
		for _, s := range scenes {
			if !o.wants(s) {
				continue
			}
			if err := o.through(s, mtu, best); err != nil {
				return nil, err
			}
		}
	}
	return o.rows(mtu, best), nil
}

// through runs the loads through one scene and keeps the best results.
func (o options) through(s scene, mtu int, best map[string]pump.Result) error {
	a, b, stop, err := s.make(mtu)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	defer stop()
	for _, l := range loads {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), l.name) {
			continue
		}
		r, err := l.run(a, b, o.length)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s %s: %v\n", s.name, l.name, err)
			continue
		}
		if k := s.name + l.name; r.Gbps > best[k].Gbps {
			best[k] = r
		}
	}
	return nil
}
