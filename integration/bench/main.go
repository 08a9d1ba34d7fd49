// Command bench measures what a taproom node forwards between two kernel
// namespaces, beside what else could stand in its place: the kernel's own
// router on veth pairs, a bare copy from TAP to TAP (the ceiling of anything
// that reads and writes TAPs), and netstack with its own TAP endpoint. All
// take turns in one run, so that the ratios hold whatever the machine does.
//
//	go run ./integration/bench [-rounds N] [-time D] [-mtu 1500,9000] [-only tcp1,udp64]
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
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
	pump.Load
}

var loads = []load{
	{name: "tcp1", Load: pump.Load{Streams: 1}},
	{name: "tcp4", Load: pump.Load{Streams: 4}},
	{name: "tcp1v6", v6: true, Load: pump.Load{Streams: 1}},
	{name: "udp64", Load: pump.Load{UDP: true, Size: 64}},
	{name: "udp1400", Load: pump.Load{UDP: true, Size: 1400}},
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
	{"fdbased", netstack},
}

func main() {
	netns.Init()
	rounds := flag.Int("rounds", 2, "how often each is measured; the best counts")
	length := flag.Duration("time", 2*time.Second, "of one measurement, whole seconds")
	mtus := flag.String("mtu", "1500", "MTUs, with commas")
	only := flag.String("only", "", "loads, with commas; empty is all")
	flag.Parse()
	if err := run(*rounds, *length, *mtus, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, length time.Duration, mtus, only string) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces of a real kernel need root here")
	}
	if err := pump.Missing(); err != nil {
		return err
	}
	for _, m := range strings.Split(mtus, ",") {
		mtu, err := strconv.Atoi(m)
		if err != nil {
			return fmt.Errorf("-mtu: %w", err)
		}
		if err := table(mtu, rounds, length, only); err != nil {
			return err
		}
	}
	return nil
}

// table measures all scenes at one MTU.
func table(mtu, rounds int, length time.Duration, only string) error {
	best := make(map[string]pump.Result)
	for range rounds {
		for _, s := range scenes {
			a, b, stop, err := s.make(mtu)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			for _, l := range loads {
				if only != "" && !slices.Contains(strings.Split(only, ","), l.name) {
					continue
				}
				w := l.Load
				w.From, w.To, w.Time, w.Addr = a, b, length, netip.MustParseAddr(room.B4)
				if l.v6 {
					w.Addr = netip.MustParseAddr(room.B6)
				}
				r, err := w.Run()
				if err != nil {
					fmt.Fprintf(os.Stderr, "%s %s: %v\n", s.name, l.name, err)
					continue
				}
				if k := s.name + l.name; r.Gbps > best[k].Gbps {
					best[k] = r
				}
			}
			stop()
		}
	}
	show(mtu, only, best)
	return nil
}

// show prints throughput and the process's CPU, and the ratios to taproom's.
func show(mtu int, only string, best map[string]pump.Result) {
	fmt.Printf("\nMTU %d          %10s %12s %14s %10s\n", mtu, "", "throughput", "CPU", "taproom is")
	for _, l := range loads {
		if only != "" && !slices.Contains(strings.Split(only, ","), l.name) {
			continue
		}
		ours := best["taproom"+l.name]
		for _, s := range scenes {
			r := best[s.name+l.name]
			rate, cpu := fmt.Sprintf("%.2f Gbit/s", r.Gbps), fmt.Sprintf("%.3f s/Gbit", r.CPUPerGbit())
			if l.UDP {
				rate = fmt.Sprintf("%.0f kpps", float64(r.Received)/r.Wall.Seconds()/1e3)
				cpu = fmt.Sprintf("%.2f us/pkt", perPacket(r))
			}
			if s.name == "kernel" {
				cpu = "(kernel)"
			}
			fmt.Printf("%-14s %-9s %14s %15s %9.2fx\n", l.name, s.name, rate, cpu, ratio(ours, r))
		}
	}
}

func perPacket(r pump.Result) float64 {
	if r.Received == 0 {
		return 0
	}
	return float64(r.CPU.Microseconds()) / float64(r.Received)
}

func ratio(a, b pump.Result) float64 {
	if b.Gbps == 0 {
		return 0
	}
	return a.Gbps / b.Gbps
}
