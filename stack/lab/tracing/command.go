package tracing

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"taproom/ioam"
	"taproom/ioam/cli"
	"taproom/ioam/export"
	"taproom/ioam/option"
	"taproom/ioam/probe"
)

// Usage is what a command line prints for help.
const Usage = `Usage: taproom ioam ROOM namespace { show | add ID [ data DATA32 ] [ wide DATA64 ] | del ID | set ID schema { ID | none } }
       taproom ioam ROOM schema { show | add ID DATA | del ID }
       taproom ioam ROOM route { show | add PREFIX encap ioam6 ... | del PREFIX }
       taproom ioam ROOM probe ADDRESS [ count N ] [ interval TIME ] [ ns ID ] [ type TYPE ] [ loopback ]
       taproom ioam ROOM sysctl NAME[=VALUE]
       taproom ioam monitor [ ROOM ... ]
       taproom ioam paths [ graph { mermaid | dot } ]
       taproom ioam stats [ ROOM ... ]
`

// Options change a command's output.
type Options struct{ JSON bool }

// Run carries out one command, given by the words behind "ioam". monitor runs
// until ctx ends. Errors of cli keep ip's texts and exit codes.
func (x *Lab) Run(ctx context.Context, args []string, o Options, out io.Writer) error {
	if len(args) == 0 || args[0] == "help" {
		return &cli.Error{Text: strings.TrimSuffix(Usage, "\n"), Code: 255}
	}
	switch args[0] {
	case "monitor":
		return x.monitor(ctx, args[1:], o, out)
	case "paths":
		return x.paths(args[1:], o, out)
	case "stats":
		return x.stats(args[1:], o, out)
	}
	n := x.Nodes[args[0]]
	if n == nil {
		return fmt.Errorf("tracing: no room %s takes part (there are %s)", args[0], strings.Join(x.rooms(), ", "))
	}
	if len(args) < 2 {
		return &cli.Error{Text: strings.TrimSuffix(Usage, "\n"), Code: 255}
	}
	switch rest := args[2:]; args[1] {
	case "route":
		return route(n, rest, o, out)
	case "probe":
		return x.probe(ctx, args[0], rest, o, out)
	case "sysctl":
		return sysctl(n, rest, out)
	}
	return cli.Run(n, args[1:], cli.Options{JSON: o.JSON, Program: "taproom"}, out)
}

func (x *Lab) rooms() []string { return slices.Sorted(maps.Keys(x.Nodes)) }

// selected are the nodes of the rooms that are named, all if none is.
func (x *Lab) selected(rooms []string) (map[string]*ioam.Node, error) {
	if len(rooms) == 0 {
		return x.Nodes, nil
	}
	m := make(map[string]*ioam.Node)
	for _, r := range rooms {
		if m[r] = x.Nodes[r]; m[r] == nil {
			return nil, fmt.Errorf("tracing: room %s takes no part", r)
		}
	}
	return m, nil
}

// monitor prints events as they come: ip's lines, with the room in front if
// several are watched, or JSON.
func (x *Lab) monitor(ctx context.Context, rooms []string, o Options, out io.Writer) error {
	nodes, err := x.selected(rooms)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type event struct {
		room string
		ioam.Event
	}
	all := make(chan event)
	for room, n := range nodes {
		sub := n.Subscribe(eventsPerNode)
		go func() {
			defer sub.Close()
			for {
				select {
				case e := <-sub.C:
					select {
					case all <- event{room, e}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-all:
			if err := printEvent(out, e.room, &e.Event, o, len(nodes) > 1); err != nil {
				return err
			}
		}
	}
}

func printEvent(out io.Writer, room string, e *ioam.Event, o Options, several bool) error {
	if o.JSON {
		return json.NewEncoder(out).Encode(struct {
			Room string `json:"room"`
			export.Event
		}{room, export.NewEvent(e)})
	}
	if several {
		fmt.Fprintf(out, "%s: ", room)
	}
	return export.WriteText(out, e)
}

func (x *Lab) paths(args []string, o Options, out io.Writer) error {
	r := x.Paths.Report()
	var text string
	switch {
	case len(args) == 2 && args[0] == "graph" && args[1] == "mermaid":
		text = r.Mermaid()
	case len(args) == 2 && args[0] == "graph" && args[1] == "dot":
		text = r.DOT()
	case len(args) > 0:
		return fmt.Errorf("tracing: paths: %q is not understood", strings.Join(args, " "))
	case o.JSON:
		return printJSON(out, r)
	default:
		text = r.String()
	}
	_, err := io.WriteString(out, text)
	return err
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// stats prints the counters that are not zero, and why anything was refused.
func (x *Lab) stats(rooms []string, o Options, out io.Writer) error {
	nodes, err := x.selected(rooms)
	if err != nil {
		return err
	}
	if o.JSON {
		m := make(map[string]map[string]uint64)
		for room, n := range nodes {
			m[room] = n.Counters()
		}
		return printJSON(out, m)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, room := range slices.Sorted(maps.Keys(nodes)) {
		c, why := nodes[room].Counters(), nodes[room].Refused()
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if c[k] == 0 {
				continue
			}
			_, reason, _ := strings.Cut(why[k], ": ")
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", room, k, c[k], reason)
		}
	}
	return w.Flush()
}

func route(n *ioam.Node, args []string, o Options, out io.Writer) error {
	switch {
	case len(args) == 0 || args[0] == "show":
		lines := []string{}
		for _, t := range n.Tunnels() {
			lines = append(lines, cli.FormatRoute(t))
		}
		if o.JSON {
			return printJSON(out, lines)
		}
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
		return nil
	case args[0] == "add":
		t, err := cli.ParseRoute(args[1:])
		if err != nil {
			return err
		}
		return n.AddTunnel(t)
	case args[0] == "del" && len(args) == 2:
		p, err := netip.ParsePrefix(args[1])
		if err != nil {
			return fmt.Errorf("tracing: route: %w", err)
		}
		return n.DelTunnel(p)
	}
	return fmt.Errorf("tracing: route: %q is not understood", strings.Join(args, " "))
}

func sysctl(n *ioam.Node, args []string, out io.Writer) error {
	for _, a := range args {
		key, value, write := strings.Cut(a, "=")
		if write {
			if err := n.SetSysctl(key, value); err != nil {
				return err
			}
		}
		v, err := n.Sysctl(key)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s = %s\n", key, v)
	}
	return nil
}

func (x *Lab) probe(ctx context.Context, room string, args []string, o Options, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("tracing: probe: to which address?")
	}
	dst, err := netip.ParseAddr(args[0])
	if err != nil {
		return fmt.Errorf("tracing: probe: %w", err)
	}
	po := probe.Options{Names: x.Names}
	if list := x.Nodes[room].Namespaces(); len(list) > 0 {
		po.Namespace = list[0].ID
	}
	for args = args[1:]; len(args) > 0; args = args[1:] {
		if args[0] == "loopback" {
			po.Loopback = true
			continue
		}
		if len(args) < 2 {
			return fmt.Errorf("tracing: probe: %s needs a value", args[0])
		}
		if err := probeOption(&po, args[0], args[1]); err != nil {
			return err
		}
		args = args[1:]
	}
	p, err := x.Prober(room)
	if err != nil {
		return err
	}
	r, err := p.Run(ctx, dst, po)
	if r == nil {
		return err
	}
	if o.JSON {
		return printJSON(out, r)
	}
	fmt.Fprint(out, r)
	return err
}

func probeOption(o *probe.Options, key, val string) (err error) {
	switch key {
	case "count":
		o.Count, err = strconv.Atoi(val)
	case "interval":
		o.Interval, err = time.ParseDuration(val)
	case "ns":
		var v uint64
		v, err = strconv.ParseUint(val, 0, 16)
		o.Namespace = uint16(v)
	case "type":
		o.Type, err = option.ParseType(val)
	default:
		err = fmt.Errorf("no such option")
	}
	if err != nil {
		return fmt.Errorf("tracing: probe: %s %s: %w", key, val, err)
	}
	return nil
}
