package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
)

func init() {
	register(func(a *app) *cobra.Command {
		var all bool
		c := &cobra.Command{
			Use:     "down [LAB]",
			GroupID: groupLab,
			Short:   "Take a lab down, with everything it made",
			Example: "  taproom down\n  taproom down two-rooms\n  taproom down --all",
			Args:    cobra.MaximumNArgs(1),
			ValidArgsFunction: func(c *cobra.Command, args []string, s string) ([]string, cobra.ShellCompDirective) {
				return completeLabs(c, args, s)
			},
			RunE: func(c *cobra.Command, args []string) error {
				if len(args) == 1 {
					a.lab = args[0]
				}
				if !all {
					client, err := a.client()
					if err != nil {
						return err
					}
					return takeDown(c.Context(), client)
				}
				labs, err := control.List()
				if err != nil {
					return err
				}
				for _, l := range labs {
					if err := takeDown(c.Context(), control.NewClient(l.Socket)); err != nil {
						return fmt.Errorf("%s: %w", l.Name, err)
					}
				}
				return nil
			},
		}
		c.Flags().BoolVarP(&all, "all", "a", false, "all labs of this user")
		return c
	})
}

// takeDown returns when the lab's process has let go of its name.
func takeDown(ctx context.Context, c *control.Client) error {
	if err := c.Down(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		gone := true
		labs, err := control.List()
		if err != nil {
			return err
		}
		for _, l := range labs {
			gone = gone && l.Name != c.Name
		}
		if gone {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("everything of %s is down, but its process does not end", c.Name)
}
