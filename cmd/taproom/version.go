package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
)

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:     "version",
			Short:   "Print the version",
			Example: "  taproom version -j",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				v := struct {
					Version  string `json:"version"`
					Revision string `json:"revision,omitempty"`
					Modified bool   `json:"modified"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
					GVisor   string `json:"gvisor,omitempty"`
				}{Version: control.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
				if b, ok := debug.ReadBuildInfo(); ok {
					for _, s := range b.Settings {
						switch s.Key {
						case "vcs.revision":
							v.Revision = s.Value
						case "vcs.modified":
							v.Modified = s.Value == "true"
						}
					}
					for _, d := range b.Deps {
						if d.Path == "gvisor.dev/gvisor" {
							v.GVisor = d.Version
						}
					}
				}
				if a.json {
					return printJSON(c.OutOrStdout(), v)
				}
				fmt.Fprintf(c.OutOrStdout(), "taproom %s", v.Version)
				if v.Revision != "" {
					fmt.Fprintf(c.OutOrStdout(), " (%.12s)", v.Revision)
				}
				fmt.Fprintf(c.OutOrStdout(), ", %s, %s\n", v.Go, v.Platform)
				return nil
			},
		}
	})
}
