package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// A personality is another program's command line. It is put on by calling
// this program by that name, through a link, or as a subcommand.
type personality func(args []string) (status int)

var personalities = map[string]personality{}

// registerPersonality makes one known; for init functions.
func registerPersonality(name, short string, p personality) {
	personalities[name] = p
	register(func(*app) *cobra.Command {
		return &cobra.Command{
			Use: name + " [OPTION]...", Short: short, DisableFlagParsing: true,
			RunE: func(_ *cobra.Command, args []string) error {
				// Signals do what they do to the program that is stood in for.
				signal.Reset(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
				if status := p(args); status != 0 {
					return exitError(status)
				}
				return nil
			},
		}
	})
}

// impersonate runs the personality that this program was called by, if any.
func impersonate() (status int, ok bool) {
	p, ok := personalities[filepath.Base(os.Args[0])]
	if !ok {
		return 0, false
	}
	return p(os.Args[1:]), true
}
