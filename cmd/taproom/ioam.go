package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/ioam/cli"
	"taproom/stack/lab"
	"taproom/stack/lab/tracing"
)

// ioamLine is a part of what a command prints, or how it ended.
type ioamLine struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"`
}

func init() {
	control.RegisterStream("GET /v1/ioam", runIOAM)
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use: "ioam [ROOM] COMMAND ...", GroupID: groupLook, Short: "IPv6 tracing: namespaces, routes, events, paths, in the words of ip ioam",
			Long: `In-situ OAM of the routers that a lab file lists under "ioam".

` + tracing.Usage,
			Example: `  taproom ioam r1 namespace show
  taproom ioam r1 route add fd00:b::/64 encap ioam6 mode inline trace prealloc type 0x800000 ns 1 size 12
  taproom ioam monitor
  taproom ioam paths graph mermaid
  taproom ioam r1 probe fd00:b::1`,
			DisableFlagParsing: true, // the words are ip's
			RunE: func(c *cobra.Command, args []string) error {
				args, help := a.takeFlags(args)
				if help || len(args) == 0 {
					return c.Help()
				}
				client, err := a.client()
				if err != nil {
					return err
				}
				q := url.Values{"w": args}
				if a.json {
					q.Set("json", "1")
				}
				return client.Lines(c.Context(), "/v1/ioam?"+q.Encode(), func(line []byte) error {
					var l ioamLine
					if err := unmarshal(line, &l); err != nil {
						return err
					}
					if _, err := fmt.Fprint(c.OutOrStdout(), l.Text); err != nil {
						return err
					}
					if l.Error != "" {
						fmt.Fprintln(c.ErrOrStderr(), l.Error)
						return exitError(max(l.Code, 1))
					}
					return nil
				})
			},
		}
	})
}

// takeFlags takes taproom's own flags out of words that are somebody else's.
func (a *app) takeFlags(args []string) (rest []string, help bool) {
	for k := 0; k < len(args); k++ {
		switch w := args[k]; {
		case w == "-j" || w == "--json":
			a.json = true
		case w == "-h" || w == "--help" || w == "help" && k == 0:
			help = true
		case (w == "-l" || w == "--lab") && k+1 < len(args):
			k++
			a.lab = args[k]
		case strings.HasPrefix(w, "--lab="):
			a.lab = strings.TrimPrefix(w, "--lab=")
		default:
			rest = append(rest, w)
		}
	}
	return rest, help
}

// runIOAM carries out one command and streams what it prints.
func runIOAM(l *lab.Lab, r *http.Request, send func(any) error) error {
	x := tracing.Of(l)
	if x == nil {
		return errors.New("the lab file has no section ioam: add one, as in examples/ioam-path.yaml, then taproom apply FILE")
	}
	q := r.URL.Query()
	err := x.Run(r.Context(), slices.Clone(q["w"]), tracing.Options{JSON: q.Get("json") != ""}, sender(send))
	var e *cli.Error
	switch {
	case err == nil || r.Context().Err() != nil:
		return nil
	case errors.As(err, &e):
		return send(ioamLine{Error: e.Text, Code: e.Code})
	}
	return send(ioamLine{Error: err.Error(), Code: 1})
}

type sender func(any) error

func (s sender) Write(b []byte) (int, error) { return len(b), s(ioamLine{Text: string(b)}) }
