package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab"
)

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:     "ps",
			GroupID: groupLook,
			Short:   "List labs, their rooms and what runs in them",
			Example: "  taproom ps\n  taproom ps -j | jq '.[].rooms[].name'",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				labs, err := control.List()
				if err != nil {
					return err
				}
				all := []lab.Status{}
				for _, l := range labs {
					s, err := control.NewClient(l.Socket).Status(c.Context())
					if err != nil {
						s = lab.Status{Name: l.Name, Pid: l.Pid} // coming up, or going down
					}
					all = append(all, s)
				}
				if a.json {
					return printJSON(c.OutOrStdout(), all)
				}
				var t table
				t.row("LAB", "ROOM", "KIND", "PROGRAM", "PID", "AGE")
				for _, s := range all {
					t.row(s.Name, "", "", "", s.Pid, age(s.Since))
					for _, r := range s.Rooms {
						t.row("", r.Name, r.Kind, "", "", "")
						for _, p := range r.Programs {
							t.row("", "", "", p.Name, pidOf(p), "")
						}
					}
				}
				t.print(c.OutOrStdout(), "")
				return nil
			},
		}
	})
}

func pidOf(p lab.ProgramStatus) string {
	switch {
	case p.Pid != 0:
		return strconv.Itoa(p.Pid)
	case p.Exit != nil:
		return p.Exit.String()
	}
	return "-"
}
