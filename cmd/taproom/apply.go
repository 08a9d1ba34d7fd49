package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab/spec"
)

func init() {
	register(func(a *app) *cobra.Command {
		var dry bool
		c := &cobra.Command{
			Use:     "apply FILE",
			GroupID: groupLab,
			Short:   "Change a running lab to what its file says now",
			Long: `Change a running lab to what its file says now. The plan is printed first: lines
with + come, with - go, with ~ change in place. Only the difference is touched;
if a step fails, those before it are taken back.`,
			Example: "  taproom apply --dry-run lab.yaml\n  taproom apply lab.yaml",
			Args:    cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				request, name, err := readApply(args[0])
				if err != nil {
					return err
				}
				if a.lab == "" {
					a.lab = name
				}
				client, err := a.client()
				if err != nil {
					return err
				}
				p, err := client.Plan(c.Context(), request)
				if err != nil {
					return err
				}
				if a.json {
					if err := printJSON(c.OutOrStdout(), p); err != nil {
						return err
					}
				} else {
					for _, s := range p.Steps {
						fmt.Fprintln(c.OutOrStdout(), s)
					}
					if len(p.Steps) == 0 {
						fmt.Fprintln(c.OutOrStdout(), "nothing to change")
					}
				}
				if dry || len(p.Steps) == 0 {
					return nil
				}
				return client.Apply(c.Context(), request, func(string) {})
			},
		}
		c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only print the plan")
		return c
	})
}

// readApply reads a lab file for the server, and checks it here first.
func readApply(path string) (control.Apply, string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return control.Apply{}, "", err
	}
	file, err := spec.Parse(path, text)
	if err != nil {
		return control.Apply{}, "", err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	return control.Apply{File: path, Dir: dir, Text: string(text)}, file.Name, err
}
