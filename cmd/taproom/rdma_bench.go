package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/rdma"
	"taproom/rdma/perftest"
	"taproom/rdma/roce"
	"taproom/stack/lab"
	"taproom/stack/lab/verbs"
)

// benchRequest describes a benchmark to the lab.
type benchRequest struct {
	From, To   string // ROOM:IF; To may be an address, or empty for a server
	Port       uint16
	Kind       string
	Latency    bool
	Type       string
	Sizes      []int
	Iterations int
	QPs, Depth int
	MTU        int
}

// benchLine is a part of the answer: text as perftest prints it, or results.
type benchLine struct {
	Text    string            `json:"text,omitempty"`
	Results []perftest.Result `json:"results,omitempty"`
	Error   string            `json:"error,omitempty"`
}

func init() { control.RegisterStream("GET /v1/rdma-bench", runBench) }

var benchKinds = map[string]perftest.Kind{"send": perftest.Send, "write": perftest.Write, "read": perftest.Read, "atomic": perftest.Atomic}

func (q *benchRequest) test(out func(string)) (perftest.Test, error) {
	t := perftest.Test{Latency: q.Latency, Sizes: q.Sizes, Iterations: q.Iterations, QPs: q.QPs, Depth: q.Depth, GIDIndex: -1, Out: textWriter(out)}
	var ok bool
	if t.Kind, ok = benchKinds[q.Kind]; !ok {
		return t, fmt.Errorf("rdma bench: %q is unknown (send, write, read, atomic)", q.Kind)
	}
	switch strings.ToLower(q.Type) {
	case "", "rc":
		t.Type = rdma.RC
	case "uc":
		t.Type = rdma.UC
	case "ud":
		t.Type = rdma.UD
	default:
		return t, fmt.Errorf("rdma bench: connection %q is unknown (rc, uc, ud)", q.Type)
	}
	if q.MTU != 0 {
		for m := roce.MTU256; m <= roce.MTU4096; m++ {
			if m.Bytes() == q.MTU {
				t.MTU = m
			}
		}
		if t.MTU == 0 {
			return t, fmt.Errorf("rdma bench: path MTU %d is not 256, 512, 1024, 2048 or 4096", q.MTU)
		}
	}
	return t, nil
}

type textWriter func(string)

func (f textWriter) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

// runBench runs a benchmark inside the lab.
func runBench(l *lab.Lab, r *http.Request, send func(any) error) error {
	var q benchRequest
	if err := json.Unmarshal([]byte(r.URL.Query().Get("q")), &q); err != nil {
		return fmt.Errorf("control: benchmark: %w", err)
	}
	t, err := q.test(func(s string) { _ = send(benchLine{Text: s}) })
	if err != nil {
		return err
	}
	room, iface, ok := strings.Cut(q.From, ":")
	if !ok {
		return fmt.Errorf("rdma bench: %q is not ROOM:IF", q.From)
	}
	p, err := verbs.Of(l, room)
	if err != nil {
		return err
	}
	var res []perftest.Result
	toRoom, toIface, between := strings.Cut(q.To, ":")
	addr, aerr := netip.ParseAddr(q.To)
	switch {
	case q.To == "":
		res, err = p.Serve(r.Context(), iface, q.Port, t)
	case aerr == nil:
		res, err = p.Run(r.Context(), iface, netip.AddrPortFrom(addr, q.Port), t)
	case between:
		var to *verbs.Part
		if to, err = verbs.Of(l, toRoom); err == nil {
			res, err = p.Between(r.Context(), iface, to, toIface, q.Port, t)
		}
	default:
		return fmt.Errorf("rdma bench: %q is neither ROOM:IF nor an address", q.To)
	}
	if err != nil {
		return send(benchLine{Error: err.Error()})
	}
	return send(benchLine{Results: res})
}

func rdmaBench(a *app) *cobra.Command {
	var q benchRequest
	var size int
	var all, uc, ud bool
	c := &cobra.Command{
		Use:   "bench send|write|read|atomic ROOM:IF [ROOM:IF|ADDRESS]",
		Short: "Measure bandwidth or latency, with perftest's table",
		Long: `Measure bandwidth, or with --latency the latency, of RDMA operations from a
router's device: to another router of the lab, or to an address where perftest
(ib_write_bw and its sisters) waits with the same options. With one interface
only, wait there for such a client.`,
		Example: `  taproom rdma bench write r1:eth1 r2:eth1
  taproom rdma bench send r1:eth1 r2:eth1 --latency -s 64 -n 10000
  taproom rdma bench read r1:eth0 192.0.2.7      # ib_read_bw runs there`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(c *cobra.Command, args []string) error {
			q.Kind, q.From = args[0], args[1]
			if len(args) == 3 {
				q.To = args[2]
			}
			switch {
			case uc:
				q.Type = "uc"
			case ud:
				q.Type = "ud"
			}
			if size > 0 {
				q.Sizes = []int{size}
			}
			if all {
				q.Sizes = nil
				for n := 2; n <= 8<<20; n *= 2 {
					q.Sizes = append(q.Sizes, n)
				}
			}
			if _, err := q.test(func(string) {}); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			b, err := json.Marshal(q)
			if err != nil {
				return err
			}
			return client.Lines(c.Context(), "/v1/rdma-bench?q="+url.QueryEscape(string(b)), func(line []byte) error {
				var l benchLine
				if err := json.Unmarshal(line, &l); err != nil {
					return err
				}
				switch {
				case l.Error != "":
					return errors.New(l.Error)
				case a.json && l.Results != nil:
					return printJSON(c.OutOrStdout(), l.Results)
				case !a.json:
					_, err := fmt.Fprint(c.OutOrStdout(), l.Text)
					return err
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.IntVarP(&size, "size", "s", 0, "bytes of a message (65536; for latency 2)")
	f.BoolVarP(&all, "all", "a", false, "all sizes from 2 bytes to 8 MiB")
	f.IntVarP(&q.Iterations, "iters", "n", 0, "iterations")
	f.IntVarP(&q.QPs, "qp", "q", 0, "queue pairs")
	f.IntVarP(&q.Depth, "tx-depth", "t", 0, "work requests under way")
	f.IntVarP(&q.MTU, "mtu", "m", 0, "path MTU in bytes; as large as fits if not given")
	f.Uint16VarP(&q.Port, "port", "p", perftest.DefaultPort, "TCP port of the exchange")
	f.BoolVar(&q.Latency, "latency", false, "measure latency instead of bandwidth")
	f.BoolVar(&uc, "uc", false, "over an unreliable connection")
	f.BoolVar(&ud, "ud", false, "over unreliable datagrams")
	return c
}
