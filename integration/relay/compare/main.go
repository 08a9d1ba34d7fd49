// Command compare measures a container's network through the host's sockets:
// taproom beside slirp4netns and pasta, taking turns on the same path, so that
// the ratios hold whatever the machine does.
//
//	make build && go run ./integration/relay/compare [-rounds N] [-time SECONDS] [-only tcp-up-1,rr]
//
// The container is a namespace of this user, the server a program of the host,
// reached at the gateway's address. It needs root, iperf3, nsenter, and those
// of the peers that are to be measured.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// A peer is a program that serves a namespace.
type peer struct {
	name string
	path string
	// argv serves the namespace of a process with an MTU, as 10.0.2.100/24
	// behind 10.0.2.2, which leads to the host's loopback.
	argv func(pid, mtu string) []string
}

const gateway = "10.0.2.2"

func peers(taproom string) []peer {
	all := []peer{
		{"taproom", taproom, func(pid, mtu string) []string { return []string{"attach", "--host-loopback", "-m", mtu, pid} }},
		{"slirp4netns", "slirp4netns", func(pid, mtu string) []string { return []string{"-c", "-m", mtu, pid, "tap0"} }},
		{"pasta", "pasta", func(pid, mtu string) []string {
			return []string{"-f", "-q", "--config-net", "-4", "-a", "10.0.2.100", "-n", "24", "-g", gateway, "-I", "tap0", "-m", mtu, "-t", "none", "-u", "none", "-T", "none", "-U", "none", pid}
		}},
	}
	return slices.DeleteFunc(all, func(p peer) bool {
		_, err := exec.LookPath(p.path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "compare: without", p.name+":", err)
		}
		return err != nil
	})
}

// A row is what is measured, with how good it is per peer.
type row struct {
	name   string
	unit   string
	mtu    int
	lower  bool // less is better
	run    func(*scene) (value, cpu float64, err error)
	hasCPU bool
}

func rows(seconds int) []row {
	var out []row
	for _, mtu := range []int{1500, 65520} {
		for _, way := range []struct {
			name string
			args []string
		}{{"up", nil}, {"down", []string{"-R"}}} {
			for _, n := range []int{1, 4} {
				args := append([]string{"-P", strconv.Itoa(n)}, way.args...)
				out = append(out, row{fmt.Sprintf("tcp-%s-%d", way.name, n), "Gbit/s", mtu, false, func(s *scene) (float64, float64, error) { return s.iperf(seconds, args...) }, true})
			}
		}
	}
	return append(out,
		row{"udp-1400", "Gbit/s", 1500, false, func(s *scene) (float64, float64, error) {
			return s.iperf(seconds, "-u", "-l", "1400", "-b", "0")
		}, true},
		row{"rr", "us p50", 1500, true, (*scene).roundTrips, false},
		row{"connect-1", "/s", 1500, false, func(s *scene) (float64, float64, error) { return s.connects(1) }, false},
		row{"connect-8", "/s", 1500, false, func(s *scene) (float64, float64, error) { return s.connects(8) }, false},
		row{"start", "ms", 1500, true, (*scene).startTime, false},
		row{"rss", "MB", 1500, true, (*scene).memory, false},
		row{"rss-1000", "MB, 1000 idle", 1500, true, func(s *scene) (float64, float64, error) { return s.idle(1000) }, false},
	)
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "client" {
		if err := client(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "compare:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 2, "how often each is measured; the median counts")
	seconds := flag.Int("time", 2, "of one measurement")
	only := flag.String("only", "", "rows, with commas; empty is all")
	mtu := flag.Int("mtu", 0, "only rows of this MTU")
	taproom := flag.String("taproom", "./taproom", "the program")
	alone := flag.Bool("alone", false, "taproom alone")
	flag.Parse()
	if err := compare(*taproom, *rounds, *seconds, *mtu, *only, *alone); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(taproom string, rounds, seconds, mtu int, only string, alone bool) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces of a real kernel need root here")
	}
	if st, err := os.Stat("/dev/net/tun"); err != nil || st.Mode()&0o006 != 0o006 {
		return errors.New("/dev/net/tun must be open to all: chmod 666 /dev/net/tun")
	}
	servers, err := startServers()
	if err != nil {
		return err
	}
	defer servers.stop()
	ps := peers(taproom)
	if alone {
		ps = ps[:1]
	}
	fmt.Printf("%-11s %6s", "", "MTU")
	for _, p := range ps {
		fmt.Printf(" %22s", p.name)
	}
	fmt.Println("   taproom / best peer")
	for _, r := range rows(seconds) {
		if only != "" && !slices.Contains(strings.Split(only, ","), r.name) || mtu != 0 && r.mtu != mtu {
			continue
		}
		line(r, ps, rounds, servers)
	}
	return nil
}

// line measures one row and prints it.
func line(r row, ps []peer, rounds int, servers *servers) {
	values, cpus := make([][]float64, len(ps)), make([][]float64, len(ps))
	for range rounds {
		for k, p := range ps {
			v, c, err := measure(r, p, servers)
			if err != nil {
				fmt.Fprintf(os.Stderr, "compare: %s: %s: %v\n", r.name, p.name, err)
				continue
			}
			values[k], cpus[k] = append(values[k], v), append(cpus[k], c)
		}
	}
	fmt.Printf("%-11s %6d", r.name, r.mtu)
	best := 0.0
	for k := range ps {
		v, c := median(values[k]), median(cpus[k])
		text := fmt.Sprintf("%.2f", v)
		if r.hasCPU {
			text += fmt.Sprintf(" (%.2f s/GB)", c)
		}
		fmt.Printf(" %22s", text)
		if k > 0 && v > 0 && (best == 0 || (v < best) == r.lower) {
			best = v
		}
	}
	if best > 0 {
		fmt.Printf("   %.2f", median(values[0])/best)
	}
	fmt.Println(" ", r.unit)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

func measure(r row, p peer, servers *servers) (float64, float64, error) {
	s, err := newScene(p, r.mtu, servers)
	if err != nil {
		return 0, 0, err
	}
	defer s.close()
	return r.run(s)
}
