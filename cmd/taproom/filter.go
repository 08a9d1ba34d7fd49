package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/filter"
	"taproom/stack/lab"
	"taproom/stack/lab/filters"
)

// tcRequest asks a router for one command line of tc.
type tcRequest struct {
	Args []string `json:"args"`
}

type textAnswer struct {
	Text string `json:"text"`
}

func init() {
	control.Register("POST /v1/tc/{room}", func(l *lab.Lab, r *http.Request) (any, error) {
		var q tcRequest
		if err := control.Body(r, &q); err != nil {
			return nil, err
		}
		p, err := filters.Of(l, r.PathValue("room"))
		if err != nil {
			return nil, err
		}
		out, err := p.Command().Run(q.Args...)
		return textAnswer{out}, err
	})
	control.RegisterStream("GET /v1/trace/{room}", traceFilters)
	for _, object := range []string{"filter", "qdisc", "class"} {
		register(func(a *app) *cobra.Command { return tcCommand(a, object) })
	}
}

var tcHelp = map[string]struct{ short, long, example string }{
	"filter": {
		"Classifiers on a router's interfaces, in the words of tc filter",
		`Add, replace, change, delete or show BPF classifiers on an interface, written
ROOM:IF. The words are those of tc-filter(8) and tc-bpf(8); what is printed is
what tc prints. An interface without a clsact qdisc is given one.`,
		`  taproom filter add dev r1:eth0 ingress prio 10 bpf da obj firewall.o sec tc
  taproom filter add dev r1:eth0 egress bpf bytecode '4,40 0 0 12,21 0 1 2048,6 0 0 65535,6 0 0 0' flowid 1:10
  taproom filter show dev r1:eth0 ingress
  taproom filter del dev r1:eth0 ingress prio 10`,
	},
	"qdisc": {
		"Queueing disciplines of a router's interfaces, in the words of tc qdisc",
		"Give an interface, written ROOM:IF, a clsact or ingress qdisc or an HTB, or take it away.",
		`  taproom qdisc add dev r1:eth0 clsact
  taproom qdisc add dev r1:eth1 root handle 1: htb default 30
  taproom qdisc show dev r1:eth1`,
	},
	"class": {
		"Classes of an HTB, in the words of tc class",
		"Add, delete or show the classes of an interface's HTB.",
		`  taproom class add dev r1:eth1 parent 1: classid 1:10 htb rate 10mbit ceil 20mbit
  taproom -j class show dev r1:eth1
  taproom class show -s dev r1:eth1`,
	},
}

func tcCommand(a *app, object string) *cobra.Command {
	h := tcHelp[object]
	c := &cobra.Command{
		Use: object + " COMMAND dev ROOM:IF ...", GroupID: groupLook, Short: h.short, Long: h.long, Example: h.example,
		DisableFlagParsing: true, // -s and the like are tc's
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
				return c.Help()
			}
			return runTC(a, c, object, args)
		},
	}
	if object == "filter" {
		c.AddCommand(filterTrace(a))
	}
	return c
}

// runTC sends a command line to the router that it names.
func runTC(a *app, c *cobra.Command, object string, args []string) error {
	var flags, words []string
	for k := 0; k < len(args); k++ {
		switch w := args[k]; {
		case w == "-j" || w == "--json" || w == "-json":
			flags = append(flags, "-j")
		case w == "-l" || w == "--lab":
			if k++; k < len(args) {
				a.lab = args[k]
			}
		case strings.HasPrefix(w, "-") && !strings.ContainsAny(w[1:], "0123456789"):
			flags = append(flags, w)
		default:
			words = append(words, w)
		}
	}
	if a.json {
		flags = append(flags, "-j")
	}
	room, err := splitRoom(words)
	if err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	run := func(args ...string) (string, error) {
		var out textAnswer
		err := client.Call(c.Context(), "POST", "/v1/tc/"+room, tcRequest{args}, &out)
		return out.Text, err
	}
	if object == "filter" && len(words) > 0 && (words[0] == "add" || words[0] == "replace") && (slices.Contains(words, "ingress") || slices.Contains(words, "egress")) {
		// As a courtesy: Linux answers "Parent Qdisc doesn't exists".
		dev := words[slices.Index(words, "dev")+1]
		if out, err := run("qdisc", "show", "dev", dev); err == nil && !strings.Contains(out, "clsact") && !strings.Contains(out, "qdisc ingress") {
			if _, err := run("qdisc", "add", "dev", dev, "clsact"); err != nil {
				return err
			}
		}
	}
	out, err := run(append(append(flags, object), words...)...)
	if err != nil {
		return err
	}
	fmt.Fprint(c.OutOrStdout(), out)
	if out != "" && !strings.HasSuffix(out, "\n") {
		fmt.Fprintln(c.OutOrStdout())
	}
	return nil
}

// splitRoom takes the room out of "dev ROOM:IF" and makes file names absolute,
// for the lab that reads them in another directory.
func splitRoom(words []string) (string, error) {
	room := ""
	for k := 0; k+1 < len(words); k++ {
		switch words[k] {
		case "dev":
			r, iface, ok := strings.Cut(words[k+1], ":")
			if !ok {
				return "", fmt.Errorf("dev %s: write ROOM:IF", words[k+1])
			}
			if room == "" {
				room = r
			} else if r != room {
				return "", fmt.Errorf("dev %s: all interfaces of one command are of one room, %s", words[k+1], room)
			}
			words[k+1] = iface
		case "obj", "object", "object-file", "object-pinned", "pinned", "bytecode-file":
			abs, err := filepath.Abs(words[k+1])
			if err != nil {
				return "", err
			}
			words[k+1] = abs
		}
	}
	if room == "" {
		return "", fmt.Errorf("dev ROOM:IF is missing")
	}
	return room, nil
}

// traceLine is one program that ran on one packet.
type traceLine struct {
	Interface string `json:"dev"`
	filter.TraceEvent
}

// traceFilters streams what programs do on a router. Events that come faster
// than the client reads are lost, and said to be.
func traceFilters(l *lab.Lab, r *http.Request, send func(any) error) error {
	p, err := filters.Of(l, r.PathValue("room"))
	if err != nil {
		return err
	}
	names := make(map[int]string)
	for _, d := range p.Devices() {
		names[d.Index()] = d.Name()
	}
	only := r.URL.Query().Get("dev")
	events := make(chan filter.TraceEvent, 4096)
	p.SetTracer(func(e filter.TraceEvent) {
		select {
		case events <- e:
		default:
		}
	})
	defer p.SetTracer(nil)
	for {
		select {
		case <-r.Context().Done():
			return nil
		case e := <-events:
			if only != "" && names[e.Ifindex] != only {
				continue
			}
			if err := send(traceLine{names[e.Ifindex], e}); err != nil {
				return nil
			}
		}
	}
}

func filterTrace(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "trace ROOM[:IF]",
		Short: "Show packet by packet which programs ran and what they returned",
		Long: `Show each BPF program that runs on a packet, with its verdict, until stopped.
If packets come faster than they can be shown, some are left out.`,
		Example: "  taproom filter trace r1:eth0\n  taproom -j filter trace r1 | jq .return",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			room, dev, _ := strings.Cut(args[0], ":")
			client, err := a.client()
			if err != nil {
				return err
			}
			return client.Lines(c.Context(), "/v1/trace/"+room+"?dev="+dev, func(line []byte) error {
				if a.json {
					_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", line)
					return err
				}
				var e traceLine
				if err := json.Unmarshal(line, &e); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "%-8s %-4s %-16s len %-5d returned %d  %s\n", e.Interface, e.Point, e.Program, e.Len, e.Return, e.Key)
				return err
			})
		},
	}
}
