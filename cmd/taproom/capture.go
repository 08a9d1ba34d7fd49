package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"taproom/stack/lab"
)

func init() {
	register(func(a *app) *cobra.Command {
		var file string
		var o lab.CaptureOptions
		c := &cobra.Command{
			Use:     "capture ROOM:IF|ROOM|LINK...",
			GroupID: groupLook,
			Short:   "Write what passes an interface as pcapng",
			Long: `Write what passes at interfaces, all interfaces of rooms, or links as pcapng,
each with its name, until Ctrl-C. Without -w it goes to the standard output,
which must not be a terminal then.`,
			Example: `  taproom capture r1:eth0 | wireshark -k -i -
  taproom capture r1 r2 -w both.pcapng
  taproom capture alice:eth0 -c 100 | tcpdump -n -r -`,
			Args: cobra.MinimumNArgs(1),
			ValidArgsFunction: func(c *cobra.Command, _ []string, s string) ([]string, cobra.ShellCompDirective) {
				return completeFirst(a, func(s lab.Status) []string { return append(placeNames(s), roomNames(s)...) })(c, nil, s)
			},
			RunE: func(c *cobra.Command, args []string) error {
				if file == "" {
					file = "-"
				}
				if o.Count < 0 || o.Snap < 0 {
					return errors.New("capture: --count and --snap are numbers from 0, which is no limit")
				}
				if file == "-" && isTerminal(os.Stdout) {
					return errors.New("the standard output is a terminal: pipe it into wireshark -k -i - or tcpdump -r -, or give -w FILE")
				}
				client, err := a.client()
				if err != nil {
					return err
				}
				w := &captureFile{name: file}
				err = client.Capture(c.Context(), args, o, w)
				if e := w.Close(); err == nil {
					err = e
				}
				if w.n > 0 && w.name != "-" {
					fmt.Fprintf(c.ErrOrStderr(), "%s: %s bytes\n", w.name, human(float64(w.n)))
				}
				return captureError(c.Context(), err, w.n > 0, file)
			},
		}
		c.Flags().StringVarP(&file, "write", "w", "-", "file to write to")
		c.Flags().IntVarP(&o.Count, "count", "c", 0, "stop after that many frames")
		c.Flags().IntVarP(&o.Snap, "snap", "s", 0, "keep at most that many bytes of each frame")
		return c
	})
}

// captureError says what ended a capture, if it was not the user or the
// reader of our output.
func captureError(ctx context.Context, err error, begun bool, file string) error {
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, syscall.EPIPE):
		return nil
	case errors.Is(err, syscall.ENOSPC):
		if file == "-" {
			file = "the standard output"
		}
		return fmt.Errorf("capture ended: no space left for %s", file)
	case begun:
		return fmt.Errorf("capture ended: %w", err)
	}
	return err
}

// captureFile is a file, "-" for the standard output, that is made when the
// first bytes come: a mistyped room must not empty the capture of yesterday.
type captureFile struct {
	name string
	f    *os.File
	n    int64
}

func (c *captureFile) Write(b []byte) (n int, err error) {
	if c.f == nil {
		if c.name == "-" {
			c.f = os.Stdout
		} else if c.f, err = os.Create(c.name); err != nil {
			return 0, err
		}
	}
	n, err = c.f.Write(b)
	c.n += int64(n)
	return n, err
}

func (c *captureFile) Close() error {
	if c.f == nil {
		return nil
	}
	return c.f.Close()
}
