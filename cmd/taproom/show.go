package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:     "show [ROOM]",
			GroupID: groupLook,
			Short:   "Show interfaces, addresses, routes, links and counters",
			Long: `Show the lab, or all there is to know of one room: interfaces with addresses and
counters, routes, neighbours, hooks with their verdicts, and what was dropped
and why.`,
			Example:           "  taproom show\n  taproom show r1\n  taproom show -j r1 | jq .counters.drops",
			Args:              cobra.MaximumNArgs(1),
			ValidArgsFunction: completeFirst(a, roomNames),
			RunE: func(c *cobra.Command, args []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				w := c.OutOrStdout()
				if len(args) == 1 {
					r, err := client.Room(c.Context(), args[0])
					if err != nil {
						return err
					}
					if a.json {
						return printJSON(w, r)
					}
					showRoom(w, r)
					return nil
				}
				s, err := client.Status(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return printJSON(w, s)
				}
				showLab(w, s)
				return nil
			},
		}
	})
}

func showLab(w io.Writer, s lab.Status) {
	fmt.Fprintf(w, "%s: %s, %s, up for %s\n\n", s.Name, plural(len(s.Rooms), "room"), plural(len(s.Links), "link"), age(s.Since))
	var t table
	t.row("ROOM", "KIND", "INTERFACE", "ADDRESSES")
	for _, r := range s.Rooms {
		name, kind := r.Name, string(r.Kind)
		for _, i := range r.Interfaces {
			global := globalOnly(i.Addresses)
			if i.Name == "lo" && len(global) == 0 {
				continue
			}
			t.row(name, kind, i.Name, strings.Join(global, " "))
			name, kind = "", ""
		}
		if name != "" {
			t.row(name, kind, "", "")
		}
	}
	t.print(w, "")
	fmt.Fprintln(w)
	t = table{}
	t.row("LINK", "", "STATE", "SETTINGS")
	for _, k := range s.Links {
		f, b := k.Directions[0], k.Directions[1]
		if f.Settings == b.Settings {
			t.row(f.From, "── "+f.To.String(), state(k.Up), f.Settings)
			continue
		}
		t.row(f.From, "─▶ "+f.To.String(), state(k.Up), f.Settings)
		t.row(b.From, "─▶ "+b.To.String(), "", b.Settings)
	}
	t.print(w, "")
}

// globalOnly leaves out addresses that every interface or machine has.
func globalOnly(addrs []string) (out []string) {
	for _, a := range addrs {
		if !strings.HasPrefix(a, "fe80:") && !strings.HasPrefix(a, "127.") && a != "::1/128" {
			out = append(out, a)
		}
	}
	return out
}

func state(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func showRoom(w io.Writer, r lab.RoomStatus) {
	fmt.Fprintf(w, "%s (%s)", r.Name, r.Kind)
	switch {
	case r.Kind == spec.Router && r.Forwarding:
		fmt.Fprint(w, ", forwarding")
	case r.Netns != "":
		fmt.Fprintf(w, ", %s", r.Netns)
	}
	fmt.Fprintln(w)
	if r.Error != "" {
		fmt.Fprintln(w, "  "+r.Error)
	}
	for _, i := range r.Interfaces {
		fmt.Fprintf(w, "\n%d: %s  mtu %d  %s", i.Index, i.Name, i.MTU, state(i.Up))
		if i.MAC != "" {
			fmt.Fprintf(w, "  %s", i.MAC)
		}
		if i.Link != "" && !strings.Contains(i.Link, ":") {
			fmt.Fprintf(w, "  link %s", i.Link)
		}
		fmt.Fprintln(w)
		for _, a := range i.Addresses {
			fmt.Fprintf(w, "   %s\n", a)
		}
		if d := i.Device; d != nil {
			fmt.Fprintf(w, "   device %s, queues %d, offloads %s\n", d.Backend, d.Queues, d.Offloads)
		}
		c := i.Counters
		fmt.Fprintf(w, "   rx %d packets %s bytes %d dropped   tx %d packets %s bytes %d dropped\n",
			c.RxPackets, human(float64(c.RxBytes)), c.RxDrops, c.TxPackets, human(float64(c.TxBytes)), c.TxDrops)
	}
	showTables(w, r)
	showCounters(w, r)
}

func showTables(w io.Writer, r lab.RoomStatus) {
	if len(r.Routes) > 0 {
		fmt.Fprintln(w, "\nroutes")
		var t table
		for _, rt := range r.Routes {
			way := "dev " + rt.Dev
			if rt.Via != "" {
				way = "via " + rt.Via + " " + way
			}
			if rt.Kind != "" {
				way = rt.Kind
			}
			if rt.Metric != 0 {
				way += fmt.Sprint(" metric ", rt.Metric)
			}
			t.row(rt.To, way)
		}
		t.print(w, "   ")
	}
	if len(r.Neighbours) > 0 {
		fmt.Fprintln(w, "\nneighbours")
		var t table
		for _, n := range r.Neighbours {
			t.row(n.Address, n.Dev, n.MAC, n.State)
		}
		t.print(w, "   ")
	}
	if len(r.Hooks) > 0 {
		fmt.Fprintln(w, "\nhooks")
		var t table
		for _, h := range r.Hooks {
			t.row(h.Point, h.Name, h.Priority, verdicts(h.Verdicts))
		}
		t.print(w, "   ")
	}
	if len(r.Programs) > 0 {
		fmt.Fprintln(w, "\nprograms")
		var t table
		for _, p := range r.Programs {
			t.row(p.Name, pidOf(p), strings.Join(p.Command, " "))
		}
		t.print(w, "   ")
	}
}

func verdicts(m map[string]uint64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			out = append(out, fmt.Sprintf("%s %d", k, m[k]))
		}
	}
	return strings.Join(out, ", ")
}

func showCounters(w io.Writer, r lab.RoomStatus) {
	c := r.Counters
	if c == nil {
		return
	}
	fmt.Fprintln(w, "\ncounters")
	var t table
	for _, x := range []struct {
		name string
		n    uint64
	}{
		{"received", c.InReceives}, {"delivered here", c.InDelivers}, {"forwarded", c.Forwarded}, {"sent from here", c.OutRequests},
		{"fragments made", c.FragCreated}, {"reassembled", c.Reassembled}, {"icmp errors", c.ICMPErrors}, {"icmp errors held back", c.ICMPLimited},
	} {
		t.row(x.name, x.n)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Drops)) {
		t.row("dropped: "+k, c.Drops[k])
	}
	t.print(w, "   ")
}
