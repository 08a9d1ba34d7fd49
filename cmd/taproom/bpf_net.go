package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/filter"
	"taproom/stack/lab"
	"taproom/stack/lab/filters"
)

// The commands that attach programs to the routers of a lab, as bpftool net
// and bpftool link do.

type detachRequest struct {
	Dev    string `json:"dev,omitempty"`
	Egress bool   `json:"egress,omitempty"`
	Link   uint32 `json:"link,omitempty"`
}

func init() {
	of := func(f func(*filters.Part, *http.Request) (any, error)) control.Handler {
		return func(l *lab.Lab, r *http.Request) (any, error) {
			p, err := filters.Of(l, r.PathValue("room"))
			if err != nil {
				return nil, err
			}
			return f(p, r)
		}
	}
	control.Register("GET /v1/bpfnet/{room}", of(func(p *filters.Part, _ *http.Request) (any, error) {
		return textAnswer{filter.ShowNet(p.Filters, filter.NetOptions{})}, nil
	}))
	control.Register("GET /v1/bpflink/{room}", of(func(p *filters.Part, _ *http.Request) (any, error) { return p.Links(), nil }))
	control.Register("POST /v1/bpfnet/{room}/attach", of(func(p *filters.Part, r *http.Request) (any, error) {
		var q filters.Request
		if err := control.Body(r, &q); err != nil {
			return nil, err
		}
		return textAnswer{}, p.AttachProgram(q)
	}))
	control.Register("POST /v1/bpfnet/{room}/detach", of(func(p *filters.Part, r *http.Request) (any, error) {
		var q detachRequest
		if err := control.Body(r, &q); err != nil {
			return nil, err
		}
		if q.Dev == "" {
			return textAnswer{}, p.DetachLink(q.Link)
		}
		return textAnswer{}, p.DetachProgram(q.Dev, q.Egress)
	}))
	control.RegisterStream("GET /v1/bpfnet/{room}/hold", hold)
}

// hold attaches a program with a link that goes with the client.
func hold(l *lab.Lab, r *http.Request, send func(any) error) error {
	p, err := filters.Of(l, r.PathValue("room"))
	if err != nil {
		return err
	}
	var q filters.Request
	if err := json.Unmarshal([]byte(r.URL.Query().Get("q")), &q); err != nil {
		return err
	}
	var k io.Closer
	if k, err = p.Attach(q); err != nil {
		return err
	}
	defer k.Close()
	if err := send(textAnswer{"attached"}); err != nil {
		return nil
	}
	<-r.Context().Done()
	return nil
}

func bpfNet(a *app) *cobra.Command {
	show := func(c *cobra.Command, args []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		var out textAnswer
		if err := client.Call(c.Context(), "GET", "/v1/bpfnet/"+args[0], nil, &out); err != nil {
			return err
		}
		if a.json {
			return printJSON(c.OutOrStdout(), out)
		}
		_, err = fmt.Fprint(c.OutOrStdout(), out.Text)
		return err
	}
	c := &cobra.Command{
		Use: "net ROOM", Short: "What is attached on a router, as bpftool net does",
		Example: "  taproom bpf net r1\n  taproom bpf net attach tcx_ingress firewall.o inside dev r1:eth0",
		Args:    cobra.ExactArgs(1), RunE: show,
	}
	c.AddCommand(&cobra.Command{Use: "list ROOM", Short: "List it", Args: cobra.ExactArgs(1), RunE: show}, bpfNetAttach(a), bpfNetDetach(a))
	return c
}

// tcxType reads tcx_ingress or tcx_egress.
func tcxType(s string) (egress, ok bool) {
	return s == "tcx_egress", s == "tcx_egress" || s == "tcx_ingress"
}

func bpfNetAttach(a *app) *cobra.Command {
	var keep bool
	n := new(filters.Netfilter)
	c := &cobra.Command{
		Use:   "attach {tcx_ingress|tcx_egress|netfilter} OBJECT [PROGRAM] dev ROOM[:IF]",
		Short: "Attach a program of an object file",
		Long: `Attach a program of an object file to the end of an interface's tcx list, or
at a netfilter hook of a router. It stays until it is detached, or with --hold
until this command ends.`,
		Example: "  taproom bpf net attach tcx_ingress firewall.o inside dev r1:eth0\n" +
			"  taproom bpf net attach netfilter nf.o drop_ssh dev r1 --hook forward --family ipv4 --priority -100",
		Args: cobra.RangeArgs(4, 5),
		RunE: func(c *cobra.Command, args []string) error {
			q, room, err := attachRequest(args, n)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			if !keep {
				return client.Call(c.Context(), "POST", "/v1/bpfnet/"+room+"/attach", q, new(textAnswer))
			}
			b, err := json.Marshal(q)
			if err != nil {
				return err
			}
			return client.Lines(c.Context(), "/v1/bpfnet/"+room+"/hold?q="+url.QueryEscape(string(b)), func([]byte) error {
				_, err := fmt.Fprintln(c.OutOrStdout(), "attached; it goes when this ends")
				return err
			})
		},
	}
	c.Flags().BoolVar(&keep, "hold", false, "hold the link, and let it go at the end")
	c.Flags().StringVar(&n.Hook, "hook", "", "netfilter: prerouting, input, forward, output or postrouting")
	c.Flags().StringVar(&n.Family, "family", "ipv4", "netfilter: ipv4 or ipv6")
	c.Flags().IntVar(&n.Priority, "priority", 0, "netfilter: smaller runs first")
	c.Flags().BoolVar(&n.Defrag, "defrag", false, "netfilter: the program sees whole packets")
	return c
}

// attachRequest reads the words of attach.
func attachRequest(args []string, n *filters.Netfilter) (q filters.Request, room string, err error) {
	kind, dev := args[0], args[len(args)-1]
	if args[len(args)-2] != "dev" {
		return q, "", fmt.Errorf("%q where \"dev\" is expected", args[len(args)-2])
	}
	if q.File, err = filepath.Abs(args[1]); err != nil {
		return q, "", err
	}
	if len(args) == 5 {
		q.Program = args[2]
	}
	room, iface, _ := strings.Cut(dev, ":")
	egress, tcx := tcxType(kind)
	switch {
	case tcx && iface == "":
		return q, "", fmt.Errorf("dev %s: write ROOM:IF", dev)
	case tcx:
		q.Dev, q.Egress = iface, egress
	case kind != "netfilter":
		return q, "", fmt.Errorf("%q is not tcx_ingress, tcx_egress or netfilter", kind)
	case iface != "":
		return q, "", fmt.Errorf("dev %s: netfilter hooks belong to a router, not to an interface", dev)
	default:
		q.Netfilter = n
	}
	return q, room, nil
}

func bpfNetDetach(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "detach {tcx_ingress|tcx_egress} dev ROOM:IF", Short: "Detach the last program that has no link",
		Example: "  taproom bpf net detach tcx_ingress dev r1:eth0",
		Args:    cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			room, iface, ok := strings.Cut(args[2], ":")
			egress, tcx := tcxType(args[0])
			if !tcx || args[1] != "dev" || !ok {
				return fmt.Errorf("write tcx_ingress or tcx_egress, then dev ROOM:IF; netfilter links go by 'bpf link detach'")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			return client.Call(c.Context(), "POST", "/v1/bpfnet/"+room+"/detach", detachRequest{Dev: iface, Egress: egress}, new(textAnswer))
		},
	}
}

func bpfLink(a *app) *cobra.Command {
	c := &cobra.Command{Use: "link", Short: "BPF links on the routers of a lab"}
	c.AddCommand(&cobra.Command{
		Use: "list ROOM", Aliases: []string{"show"}, Short: "List a router's links",
		Example: "  taproom bpf link list r1\n  taproom -j bpf link list r1 | jq .[].prog_name",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			links := []filter.LinkInfo{}
			if err := client.Call(c.Context(), "GET", "/v1/bpflink/"+args[0], nil, &links); err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), links)
			}
			for _, l := range links {
				fmt.Fprintln(c.OutOrStdout(), l)
			}
			return nil
		},
	}, &cobra.Command{
		Use: "detach ROOM id ID", Short: "Detach a link, whoever holds it",
		Example: "  taproom bpf link detach r1 id 3",
		Args:    cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[2], 0, 32)
			if err != nil || args[1] != "id" {
				return fmt.Errorf("write: detach ROOM id NUMBER")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			return client.Call(c.Context(), "POST", "/v1/bpfnet/"+args[0]+"/detach", detachRequest{Link: uint32(id)}, new(textAnswer))
		},
	})
	return c
}
