package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/rdma"
	"taproom/stack/lab"
	"taproom/stack/lab/verbs"
)

// rdmaDevice is a device as the rdma commands show it.
type rdmaDevice struct {
	Room      string         `json:"room"`
	Interface string         `json:"netdev"`
	Name      string         `json:"ifname"`
	State     string         `json:"state"`
	MTU       int            `json:"active_mtu"`
	GUID      string         `json:"node_guid"`
	GIDs      []string       `json:"gids"`
	Default   int            `json:"default_gid"`
	Counters  rdma.Counters  `json:"counters"`
	Resources rdma.Resources `json:"resources"`
}

func init() {
	control.Register("GET /v1/rdma/{room}", func(l *lab.Lab, r *http.Request) (any, error) {
		p, err := verbs.Of(l, r.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return describeDevices(r.PathValue("room"), p), nil
	})
	control.Register("POST /v1/rdma/{room}/{iface}", func(l *lab.Lab, r *http.Request) (any, error) {
		p, err := verbs.Of(l, r.PathValue("room"))
		if err != nil {
			return nil, err
		}
		if _, err := p.Device(r.PathValue("iface")); err != nil {
			return nil, err
		}
		return describeDevices(r.PathValue("room"), p), nil
	})
	register(func(a *app) *cobra.Command {
		c := &cobra.Command{
			Use: "rdma", GroupID: groupLook, Short: "RDMA devices on routers: list, count, benchmark",
			Long: `RDMA devices (RoCEv2, compatible with Linux rdma_rxe) on the interfaces of
routers. A device is made when it is first named.`,
		}
		c.AddCommand(rdmaShow(a, "link", "Show the ports of a router's devices", printRDMALinks),
			rdmaShow(a, "dev", "Show a router's devices", printRDMADevs),
			rdmaResource(a), rdmaShow(a, "statistic", "Show the counters of a router's devices", printRDMAStats),
			rdmaBench(a))
		return c
	})
}

func describeDevices(room string, p *verbs.Part) []rdmaDevice {
	out := []rdmaDevice{}
	for _, d := range p.Devices() {
		port := d.QueryPort()
		g := d.GUID()
		r := rdmaDevice{
			Room: room, Interface: d.Interface, Name: d.Name(), State: fmt.Sprint(port.State), MTU: port.ActiveMTU.Bytes(),
			GUID:    fmt.Sprintf("%02x%02x:%02x%02x:%02x%02x:%02x%02x", g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]),
			Default: d.DefaultGID(), Counters: d.Counters(), Resources: d.Resources(),
		}
		for _, gid := range d.GIDs() {
			r.GIDs = append(r.GIDs, gid.Addr().String())
		}
		out = append(out, r)
	}
	return out
}

// rdmaShow is "rdma OBJECT [show] ROOM[:IF]".
func rdmaShow(a *app, object, short string, print func(io.Writer, []rdmaDevice)) *cobra.Command {
	return &cobra.Command{
		Use: object + " [show] ROOM[:IF]", Short: short, Args: cobra.RangeArgs(1, 2),
		Example: "  taproom rdma " + object + " show r1:eth1",
		RunE: func(c *cobra.Command, args []string) error {
			devs, err := rdmaDevices(a, c, args[len(args)-1])
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), devs)
			}
			print(c.OutOrStdout(), devs)
			return nil
		},
	}
}

// rdmaDevices asks for a router's devices; naming an interface makes its one.
func rdmaDevices(a *app, c *cobra.Command, at string) ([]rdmaDevice, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	room, iface, named := strings.Cut(at, ":")
	var devs []rdmaDevice
	if named {
		err = client.Call(c.Context(), http.MethodPost, "/v1/rdma/"+url.PathEscape(room)+"/"+url.PathEscape(iface), nil, &devs)
		kept := devs[:0]
		for _, d := range devs {
			if d.Interface == iface {
				kept = append(kept, d)
			}
		}
		return kept, err
	}
	err = client.Call(c.Context(), http.MethodGet, "/v1/rdma/"+url.PathEscape(room), nil, &devs)
	return devs, err
}

func printRDMALinks(w io.Writer, devs []rdmaDevice) {
	for _, d := range devs {
		fmt.Fprintf(w, "link %s/1 state %s netdev %s active_mtu %d\n", d.Name, d.State, d.Interface, d.MTU)
		for k, g := range d.GIDs {
			mark := ""
			if k == d.Default {
				mark = "  (default)"
			}
			fmt.Fprintf(w, "    gid %d: %s%s\n", k, g, mark)
		}
	}
}

func printRDMADevs(w io.Writer, devs []rdmaDevice) {
	for k, d := range devs {
		fmt.Fprintf(w, "%d: %s: node_type ca protocol roce node_guid %s\n", k, d.Name, d.GUID)
	}
}

func printRDMAStats(w io.Writer, devs []rdmaDevice) {
	for _, d := range devs {
		fmt.Fprintf(w, "link %s/1", d.Name)
		b, _ := json.Marshal(d.Counters)
		in := json.NewDecoder(strings.NewReader(string(b)))
		for key := ""; in.More() || key == ""; {
			t, err := in.Token()
			if err != nil {
				break
			}
			switch t := t.(type) {
			case string:
				key = t
			case float64:
				fmt.Fprintf(w, " %s %.0f", key, t)
			}
		}
		fmt.Fprintln(w)
	}
}

func rdmaResource(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "resource show [qp|cq|mr|pd|srq] ROOM[:IF]", Short: "Show queue pairs, completion queues, regions and domains",
		Example: "  taproom rdma resource show qp r1:eth1\n  taproom -j rdma resource show r1 | jq .",
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "show" {
				return fmt.Errorf("rdma resource: %q is unknown (show)", args[0])
			}
			devs, err := rdmaDevices(a, c, args[len(args)-1])
			if err != nil {
				return err
			}
			kind := ""
			if len(args) == 3 {
				kind = args[1]
			}
			out := c.OutOrStdout()
			for _, d := range devs {
				r := d.Resources
				lists := map[string]any{"qp": r.QP, "cq": r.CQ, "mr": r.MR, "pd": r.PD, "srq": r.SRQ}
				switch {
				case kind == "" && a.json:
					err = printJSON(out, r)
				case kind == "":
					_, err = fmt.Fprintf(out, "%s: qp %d cq %d mr %d pd %d srq %d\n", d.Name, len(r.QP), len(r.CQ), len(r.MR), len(r.PD), len(r.SRQ))
				case lists[kind] == nil:
					return fmt.Errorf("rdma resource show: %q is unknown (qp, cq, mr, pd, srq)", kind)
				case a.json:
					err = printJSON(out, lists[kind])
				default:
					err = printObjects(out, kind, lists[kind])
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// printObjects prints objects a line each, "key value" in the order of their
// JSON, as rdma does.
func printObjects(w io.Writer, kind string, list any) error {
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	var objects []json.RawMessage
	if err := json.Unmarshal(b, &objects); err != nil {
		return err
	}
	for _, o := range objects {
		in := json.NewDecoder(strings.NewReader(string(o)))
		in.UseNumber()
		line := kind
		for {
			t, err := in.Token()
			if err != nil {
				break
			}
			if _, brace := t.(json.Delim); !brace {
				line += " " + cmp.Or(fmt.Sprint(t), "-")
			}
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
