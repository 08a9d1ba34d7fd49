package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:               "logs ROOM [PROGRAM]",
			GroupID:           groupLook,
			Short:             "Print what the programs of a room printed last",
			Example:           "  taproom logs server\n  taproom logs server web",
			Args:              cobra.RangeArgs(1, 2),
			ValidArgsFunction: completeFirst(a, namespaceNames),
			RunE: func(c *cobra.Command, args []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				r, err := client.Room(c.Context(), args[0])
				if err != nil {
					return err
				}
				found := false
				for _, p := range r.Programs {
					if len(args) == 2 && p.Name != args[1] {
						continue
					}
					found = true
					if a.json {
						if err := printJSON(c.OutOrStdout(), p); err != nil {
							return err
						}
						continue
					}
					for _, line := range p.Output {
						if len(args) == 1 && len(r.Programs) > 1 {
							line = p.Name + ": " + line
						}
						fmt.Fprintln(c.OutOrStdout(), line)
					}
				}
				if !found {
					return fmt.Errorf("room %s has had no such program ('taproom ps' lists what runs; a file names programs under its room)", args[0])
				}
				return nil
			},
		}
	})
}
