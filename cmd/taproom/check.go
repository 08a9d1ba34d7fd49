package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
)

// checkedFile is a file that is fine.
type checkedFile struct {
	File string `json:"file"`
	brief
	Expectations int      `json:"expectations"`
	Plan         []string `json:"plan,omitempty"`
}

// brief is the size of a lab.
type brief struct {
	Name  string `json:"name"`
	Rooms int    `json:"rooms"`
	Links int    `json:"links"`
}

func briefOf(file *spec.Lab) brief {
	return brief{file.Name, len(file.Rooms), len(file.Links)}
}

func init() {
	register(func(a *app) *cobra.Command {
		var steps bool
		c := &cobra.Command{
			Use:     "check FILE...",
			GroupID: groupLab,
			Short:   "Check lab files without touching anything",
			Example: "  taproom check examples/*.yaml\n  taproom check --plan lab.yaml",
			Args:    cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				all := []checkedFile{}
				for _, path := range args {
					file, err := spec.ParseFile(path)
					if err != nil {
						return err
					}
					r, err := plan.Resolve(file, nil)
					if err != nil {
						return fmt.Errorf("%s: %w", path, err)
					}
					k := checkedFile{File: path, brief: briefOf(file), Expectations: len(file.Expect)}
					if steps {
						for _, s := range plan.Diff(nil, r.Resources) {
							k.Plan = append(k.Plan, s.String())
						}
					}
					if all = append(all, k); a.json {
						continue
					}
					if steps {
						fmt.Fprintln(c.OutOrStdout(), strings.Join(k.Plan, "\n"))
						continue
					}
					fmt.Fprintf(c.OutOrStdout(), "%s: %s, %s, %s: fine\n", path,
						plural(len(file.Rooms), "room"), plural(len(file.Links), "link"), plural(len(file.Expect), "expectation"))
				}
				if a.json {
					return printJSON(c.OutOrStdout(), all)
				}
				return nil
			},
		}
		c.Flags().BoolVarP(&steps, "plan", "p", false, "print what up would do")
		return c
	})
	register(func(*app) *cobra.Command {
		return &cobra.Command{
			Use:     "schema",
			Short:   "Print the JSON Schema of lab files",
			Example: "  taproom schema > lab.schema.json",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				_, err := c.OutOrStdout().Write(spec.Schema())
				return err
			},
		}
	})
}
