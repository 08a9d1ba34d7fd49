package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

// completion is what cobra asks for candidates.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

func completeLabs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if all, err := control.List(); err == nil {
		for _, i := range all {
			out = append(out, i.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeFirst offers candidates for the first argument, from the lab's
// status.
func completeFirst(a *app, candidates func(lab.Status) []string) completion {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		client, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := client.Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return candidates(s), cobra.ShellCompDirectiveNoFileComp
	}
}

func roomNames(s lab.Status) (out []string) {
	for _, r := range s.Rooms {
		out = append(out, r.Name)
	}
	return out
}

func namespaceNames(s lab.Status) (out []string) {
	for _, r := range s.Rooms {
		if r.Kind == spec.Namespace {
			out = append(out, r.Name)
		}
	}
	return out
}

// placeNames are interfaces and links.
func placeNames(s lab.Status) (out []string) {
	for _, k := range s.Links {
		out = append(out, k.Ends[0].String(), k.Ends[1].String())
		if !strings.Contains(k.Name, ":") {
			out = append(out, k.Name)
		}
	}
	return out
}
