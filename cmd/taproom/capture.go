package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
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
				if (file == "" || file == "-") && isTerminal(os.Stdout) {
					return errors.New("the standard output is a terminal: pipe it into wireshark -k -i - or tcpdump -r -, or give -w FILE")
				}
				client, err := a.client()
				if err != nil {
					return err
				}
				w, err := openCapture(file)
				if err != nil {
					return err
				}
				counted := &countingWriter{w: w}
				err = client.Capture(c.Context(), args, o, counted)
				err = captureError(c.Context(), err, file)
				if e := w.Close(); err == nil && e != nil {
					err = captureError(c.Context(), e, file)
				}
				if file != "" && file != "-" {
					fmt.Fprintf(c.ErrOrStderr(), "%s: %s bytes\n", file, human(float64(counted.n)))
				}
				return err
			},
		}
		c.Flags().StringVarP(&file, "write", "w", "-", "file to write to")
		c.Flags().IntVarP(&o.Count, "count", "c", 0, "stop after that many frames")
		c.Flags().IntVarP(&o.Snap, "snap", "s", 0, "keep at most that many bytes of each frame")
		return c
	})
}

func openCapture(file string) (io.WriteCloser, error) {
	if file == "" || file == "-" {
		return os.Stdout, nil
	}
	return os.Create(file)
}

// captureError says what ended a capture, if it was not the user or the
// reader of our output.
func captureError(ctx context.Context, err error, file string) error {
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, syscall.EPIPE):
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("capture ended: no space left for %s", strings.TrimPrefix(file, "-"))
	}
	return fmt.Errorf("capture ended: %w", err)
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
