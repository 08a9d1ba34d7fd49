package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack/relay"
	"taproom/stack/relay/guest"
)

// A process that serves a namespace tells of its flows on a socket beside
// those of labs: whoever connects gets one JSON document.

// flowReport is that document.
type flowReport struct {
	PID      int             `json:"pid"`
	Stats    relay.Stats     `json:"stats"`
	Flows    []relay.Flow    `json:"flows"`
	Forwards []relay.Forward `json:"forwards"`
}

const flowsSuffix = ".flows"

// serveFlows listens for taproom flows. It goes without where there is no
// place for a socket.
func serveFlows(g *guest.Guest) (io.Closer, error) {
	dir := control.Dir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return io.NopCloser(nil), nil
	}
	path := filepath.Join(dir, strconv.Itoa(os.Getpid())+flowsSuffix)
	_ = os.Remove(path) // of a process that had this number before
	l, err := net.Listen("unix", path)
	if err != nil {
		return io.NopCloser(nil), nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_ = json.NewEncoder(c).Encode(flowReport{os.Getpid(), g.Relay.Stats(), g.Relay.Flows(), g.Relay.Forwards()})
			_ = c.Close()
		}
	}()
	return l, nil
}

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:     "flows [PID]",
			GroupID: groupLook,
			Short:   "Show the flows of namespaces that attach, run and the like serve",
			Example: "  taproom flows -j",
			Args:    cobra.MaximumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				all, err := collectFlows(args)
				if err != nil {
					return err
				}
				if a.json {
					return printJSON(c.OutOrStdout(), all)
				}
				return printFlows(c.OutOrStdout(), all)
			},
		}
	})
}

func collectFlows(args []string) ([]flowReport, error) {
	pattern := "*"
	if len(args) == 1 {
		if _, err := strconv.Atoi(args[0]); err != nil {
			return nil, fmt.Errorf("%s is no process number", args[0])
		}
		pattern = args[0]
	}
	paths, err := filepath.Glob(filepath.Join(control.Dir(), pattern+flowsSuffix))
	if err != nil {
		return nil, err
	}
	out := []flowReport{}
	for _, p := range paths {
		r, err := readFlows(p)
		if err != nil {
			pid, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(p), flowsSuffix))
			if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); errors.Is(err, os.ErrNotExist) {
				_ = os.Remove(p) // it was killed
			}
			continue
		}
		out = append(out, r)
	}
	if len(args) == 1 && len(out) == 0 {
		return nil, fmt.Errorf("process %s serves no namespace", args[0])
	}
	return out, nil
}

func readFlows(path string) (r flowReport, err error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return r, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return r, json.NewDecoder(c).Decode(&r)
}

func printFlows(w io.Writer, all []flowReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PID\tPROTO\tINSIDE\tOUTSIDE\tSENT\tRECEIVED\tAGE")
	for _, r := range all {
		sort.Slice(r.Flows, func(a, b int) bool { return r.Flows[a].Since.Before(r.Flows[b].Since) })
		for _, f := range r.Flows {
			fmt.Fprintf(t, "%d\t%s\t%v\t%v\t%d\t%d\t%v\n", r.PID, f.Proto, f.Inside, f.Outside, f.Sent, f.Received, time.Since(f.Since).Round(time.Second))
		}
	}
	return t.Flush()
}
