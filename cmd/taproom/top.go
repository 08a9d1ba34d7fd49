package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack"
	"taproom/stack/lab"
)

func init() {
	register(func(a *app) *cobra.Command {
		var every time.Duration
		var rounds int
		c := &cobra.Command{
			Use:     "top",
			GroupID: groupLook,
			Short:   "Watch the traffic of all interfaces",
			Long: `Watch the traffic of all interfaces, the busiest first, until Ctrl-C. Where the
output is no terminal, or with -n, the tables follow each other.`,
			Example: "  taproom top\n  taproom top -n 1 -i 5s",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				if every < 100*time.Millisecond {
					return fmt.Errorf("interval %v: at least 100ms", every)
				}
				client, err := a.client()
				if err != nil {
					return err
				}
				return a.top(c.Context(), client, c.OutOrStdout(), every, rounds)
			},
		}
		c.Flags().DurationVarP(&every, "interval", "i", time.Second, "time between two looks")
		c.Flags().IntVarP(&rounds, "rounds", "n", 0, "stop after that many tables")
		return c
	})
}

func (a *app) top(ctx context.Context, client *control.Client, w io.Writer, every time.Duration, rounds int) error {
	clear := isTerminal(os.Stdout) && rounds == 0 && !a.json
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, err := client.Status(ctx)
	at := time.Now()
	for n := 1; err == nil; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var now lab.Status
		if now, err = client.Status(ctx); err != nil {
			break
		}
		t := time.Now()
		rows := rates(last, now, t.Sub(at).Seconds())
		last, at = now, t
		if a.json {
			err = printJSON(w, rows)
		} else {
			if clear {
				fmt.Fprint(w, "\x1b[H\x1b[2J")
			}
			printRates(w, now, rows)
		}
		if n == rounds {
			break
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// rate is one interface's traffic in a second.
type rate struct {
	Interface string  `json:"interface"`
	RxBits    float64 `json:"rx_bits"`
	RxPackets float64 `json:"rx_packets"`
	TxBits    float64 `json:"tx_bits"`
	TxPackets float64 `json:"tx_packets"`
	Drops     float64 `json:"drops"`
}

func rates(before, now lab.Status, seconds float64) []rate {
	old := map[string]stack.InterfaceCounters{}
	for _, r := range before.Rooms {
		for _, i := range r.Interfaces {
			old[r.Name+":"+i.Name] = i.Counters
		}
	}
	var out []rate
	for _, r := range now.Rooms {
		for _, i := range r.Interfaces {
			name := r.Name + ":" + i.Name
			o, known := old[name]
			if i.Name == "lo" || !known {
				continue
			}
			per := func(a, b uint64) float64 { return float64(b-min(a, b)) / seconds }
			c := i.Counters
			out = append(out, rate{name, 8 * per(o.RxBytes, c.RxBytes), per(o.RxPackets, c.RxPackets),
				8 * per(o.TxBytes, c.TxBytes), per(o.TxPackets, c.TxPackets), per(o.RxDrops+o.TxDrops, c.RxDrops+c.TxDrops)})
		}
	}
	slices.SortStableFunc(out, func(a, b rate) int {
		switch x, y := a.RxBits+a.TxBits, b.RxBits+b.TxBits; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a.Interface, b.Interface)
	})
	return out
}

func printRates(w io.Writer, s lab.Status, rows []rate) {
	fmt.Fprintf(w, "%s  %s  up for %s\n\n", s.Name, time.Now().Format("15:04:05"), age(s.Since))
	var t table
	t.row("INTERFACE", "RX bit/s", "RX pkt/s", "TX bit/s", "TX pkt/s", "DROP/s")
	for _, r := range rows {
		t.row(r.Interface, human(r.RxBits), human(r.RxPackets), human(r.TxBits), human(r.TxPackets), human(r.Drops))
	}
	t.print(w, "")
}
