package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:     "expect",
			GroupID: groupLab,
			Short:   "Check the expectations of the lab that is up",
			Example: "  taproom expect",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				r := reporter{w: c.OutOrStdout(), json: a.json}
				if err := client.Expect(c.Context(), r.report); err != nil {
					return err
				}
				return r.verdict()
			},
		}
	})
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:     "test FILE...",
			GroupID: groupLab,
			Short:   "Bring labs up, check their expectations, take them down",
			Long: `Bring each lab up, check the expectations of its file in order, and take it
down. The exit status is 1 if any is not met: a lab file is a test.`,
			Example: "  taproom test examples/*.yaml",
			Args:    cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				r := reporter{w: c.OutOrStdout(), json: a.json}
				for _, path := range args {
					if err := testLab(c.Context(), path, &r); err != nil {
						return err
					}
				}
				return r.verdict()
			},
		}
	})
}

func testLab(ctx context.Context, path string, r *reporter) (err error) {
	file, err := spec.ParseFile(path)
	if err != nil {
		return err
	}
	if len(file.Expect) == 0 {
		return fmt.Errorf("%s expects nothing: add an expect section", path)
	}
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "taproom: "+format+"\n", args...) }
	up, err := start(ctx, file, log, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.stop(nil)) }()
	up.lab.Expect(ctx, r.report)
	return ctx.Err()
}

// reporter prints results as they come and counts them.
type reporter struct {
	w        io.Writer
	json     bool
	ok, fail int
}

func (r *reporter) report(x lab.Result) {
	if x.OK {
		r.ok++
	} else {
		r.fail++
	}
	switch {
	case r.json:
		_ = printJSON(r.w, x)
	case x.OK:
		fmt.Fprintf(r.w, "ok    %s (%v)\n", x.Name, x.Took.Round(time.Millisecond))
	default:
		fmt.Fprintf(r.w, "FAIL  %s: %s\n", x.Name, x.Error)
	}
}

func (r *reporter) verdict() error {
	if !r.json {
		fmt.Fprintf(r.w, "%d passed, %d failed\n", r.ok, r.fail)
	}
	if r.fail > 0 {
		return exitError(1)
	}
	return nil
}
