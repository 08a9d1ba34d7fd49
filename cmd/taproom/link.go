package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

func init() {
	register(func(a *app) *cobra.Command {
		c := &cobra.Command{Use: "link", GroupID: groupLook, Short: "Show links, and change them while they are up"}
		c.AddCommand(linkSet(a), linkShow(a))
		return c
	})
}

func linkSet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "set LINK|ROOM:IF SETTING VALUE...",
		Short: "Change delay, loss, rate and the like of a link",
		Long: `Change the settings of a link that is up: of the direction that leaves an
interface, or of both directions of a link given by its name. What is not
mentioned stays as it is; a value of 0 turns a setting off. down takes the
carrier away at both ends, up brings it back.

Settings: ` + strings.Join(spec.Keys(), ", ") + `.`,
		Example: `  taproom link set r1:eth1 delay 20ms jitter 2ms distribution normal
  taproom link set r1:eth1 loss 1% rate 10mbit queue 100
  taproom link set r1:eth1 burst 1%/30%
  taproom link set r1:eth1 down`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(c *cobra.Command, args []string, s string) ([]string, cobra.ShellCompDirective) {
			if len(args)%2 == 1 {
				return append(spec.Keys(), "up", "down"), cobra.ShellCompDirectiveNoFileComp
			}
			return completeFirst(a, placeNames)(c, args, s)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := spec.ParseWords(args[1:]); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			now, err := client.Impair(c.Context(), control.Impair{What: args[0], Settings: args[1:]})
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), now)
			}
			var t table
			for _, at := range slices.Sorted(maps.Keys(now)) {
				t.row(at, now[at].Settings)
			}
			t.print(c.OutOrStdout(), "")
			return nil
		},
	}
}

func linkShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show [LINK|ROOM:IF]",
		Short:             "Show settings and books of links",
		Example:           "  taproom link show\n  taproom link show r1:eth1",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFirst(a, placeNames),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			links := slices.DeleteFunc(s.Links, func(k lab.LinkStatus) bool {
				return len(args) == 1 && args[0] != k.Name && args[0] != k.Ends[0].String() && args[0] != k.Ends[1].String()
			})
			if len(args) == 1 && len(links) == 0 {
				return fmt.Errorf("no link or interface (room:interface) is named %q ('taproom link show' lists them)", args[0])
			}
			if a.json {
				return printJSON(c.OutOrStdout(), links)
			}
			for _, k := range links {
				fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", k.Name, state(k.Up))
				var t table
				for _, d := range k.Directions {
					t.row(d.From, "─▶ "+d.To.String(), d.Settings)
					t.row("", "", books(d))
				}
				t.print(c.OutOrStdout(), "   ")
			}
			return nil
		},
	}
}

// books is what happened to the frames of a direction.
func books(d lab.DirectionStatus) string {
	w := d.Wire
	if w == nil {
		return "never impaired: see the interface's counters"
	}
	out := []string{fmt.Sprintf("%d sent, %d arrived", w.Offered.Packets, w.Delivered.Packets)}
	drops := w.Dropped.Map()
	for _, k := range slices.Sorted(maps.Keys(drops)) {
		out = append(out, fmt.Sprintf("%d %s", drops[k], k))
	}
	for _, x := range []struct {
		n    uint64
		what string
	}{{w.Duplicated, "duplicated"}, {w.Reordered, "reordered"}, {w.Corrupted, "corrupted"}, {w.Marked, "marked"}} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if w.InFlight.Packets > 0 {
		out = append(out, fmt.Sprintf("%d under way", w.InFlight.Packets))
	}
	return strings.Join(out, ", ")
}
