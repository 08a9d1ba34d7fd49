package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab"
	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
)

func init() {
	register(func(a *app) *cobra.Command {
		var detach, verbose bool
		c := &cobra.Command{
			Use:     "up FILE",
			GroupID: groupLab,
			Short:   "Bring a lab up",
			Long: `Bring the lab of a file up. In the foreground it stays until Ctrl-C, a signal
or 'taproom down'; with -d it goes on in the background. If any step fails,
those before it are taken back.

Nothing is left behind, however taproom ends: namespaces and devices belong to
its process, and what a killed one could not clean is removed by the next up.`,
			Example: `  taproom up examples/two-rooms.yaml
  taproom up -d examples/two-rooms.yaml && taproom show`,
			Args: cobra.ExactArgs(1),
			ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
			},
			RunE: func(c *cobra.Command, args []string) error {
				if detach {
					return upDetached(c.Context(), args[0], announcer(a, c, "'taproom down'"))
				}
				return upForeground(c.Context(), args[0], verbose, c.OutOrStdout(), announcer(a, c, "Ctrl-C"))
			},
		}
		c.Flags().BoolVarP(&detach, "detach", "d", false, "go on in the background")
		c.Flags().BoolVarP(&verbose, "verbose", "v", false, "print each step")
		return c
	})
}

// announcer returns what says that a lab is up, and how it comes down.
func announcer(a *app, c *cobra.Command, end string) func(*spec.Lab) {
	return func(file *spec.Lab) {
		if a.json {
			_ = printJSON(c.OutOrStdout(), briefOf(file))
			return
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is up: %s, %s. %s takes it down.\n", file.Name, plural(len(file.Rooms), "room"), plural(len(file.Links), "link"), end)
	}
}

// errInterrupted ends an up that was told to stop before the lab was up.
var errInterrupted = errors.New("interrupted: what was up of the lab is taken back")

// running is a lab with its claim and server.
type running struct {
	lab    *lab.Lab
	claim  *control.Claim
	server *control.Server
	served chan error
}

// start claims the name of a lab, brings it up and serves it.
func start(ctx context.Context, file *spec.Lab, log func(string, ...any), report func(plan.Step)) (r *running, err error) {
	r = &running{served: make(chan error, 1)}
	if r.claim, err = control.NewClaim(file.Name); err != nil {
		return nil, err
	}
	r.lab, err = lab.New(lab.Options{Log: log, Env: []string{"TAPROOM_INSTANCE=" + r.claim.Instance}})
	if err == nil {
		if err = r.lab.Apply(ctx, file, report); err != nil {
			_ = r.lab.Close()
		}
	}
	if err != nil {
		r.claim.Release()
		return nil, err
	}
	l, err := r.claim.Listen()
	if err != nil {
		_ = r.lab.Close()
		r.claim.Release()
		return nil, err
	}
	r.server = control.NewServer(r.lab)
	go func() { r.served <- r.server.Serve(l) }()
	return r, nil
}

// wait returns when ctx ends or a client takes the lab down, and takes down
// what is left.
func (r *running) wait(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case <-r.server.Down():
	case err = <-r.served:
	}
	return r.stop(err)
}

func (r *running) stop(err error) error {
	if e := r.lab.Close(); err == nil {
		err = e
	}
	r.server.Close()
	r.claim.Release()
	return err
}

func upForeground(ctx context.Context, path string, verbose bool, w io.Writer, announce func(*spec.Lab)) error {
	ready := takeReady()
	file, err := spec.ParseFile(path)
	if err != nil {
		return err
	}
	report := func(s plan.Step) {
		if verbose {
			fmt.Fprintln(w, s)
		}
	}
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "taproom: "+format+"\n", args...) }
	r, err := start(ctx, file, log, report)
	if ctx.Err() != nil && err != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	announce(file)
	ready()
	return r.wait(ctx)
}
