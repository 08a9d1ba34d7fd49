// Command taproom brings up labs of network namespaces and user-space routers,
// and speaks to those that are up.
//
//	taproom up -d examples/two-rooms.yaml
//	taproom exec alice -- ping bob
//	taproom down
//
// Each subcommand is a file of this folder that registers itself; a new one
// needs no change elsewhere. All but up, test, check, doctor and the like are
// clients of the control socket (package control). No packet passes through
// here.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"taproom/cmd/taproom/control"
	"taproom/tap/netns"
)

// app is what subcommands share.
type app struct {
	lab  string // --lab
	json bool   // --json
}

// The groups of subcommands in the help.
const (
	groupLab   = "lab"
	groupLook  = "look"
	groupOther = "other"
)

var commands []func(*app) *cobra.Command

// register adds a subcommand; for init functions.
func register(f func(*app) *cobra.Command) { commands = append(commands, f) }

// exitError ends the program with a status and without a message.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	netns.Init() // this process may be an agent in a namespace
	if status, ok := impersonate(); ok {
		os.Exit(status)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := newRoot().ExecuteContext(ctx)
	stop()
	var code exitError
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "taproom:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "taproom",
		Short: "Networks in user space: namespaces, routers, wires",
		Long: `taproom makes network namespaces and user-space routers, and the wires between
them, out of one file. It needs no kernel module, and no root where user
namespaces are allowed.

Start with:

  taproom doctor                          what this machine lacks
  taproom up -d examples/two-rooms.yaml   bring a lab up, in the background
  taproom show                            what is there
  taproom exec alice -- ping 10.0.2.2     run a program in a room
  taproom down                            take it down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&a.lab, "lab", "l", "", "lab to speak to, if several are up")
	root.PersistentFlags().BoolVarP(&a.json, "json", "j", false, "print JSON")
	root.AddGroup(
		&cobra.Group{ID: groupLab, Title: "Labs:"},
		&cobra.Group{ID: groupLook, Title: "Look and change:"},
		&cobra.Group{ID: groupOther, Title: "More:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	_ = root.RegisterFlagCompletionFunc("lab", completeLabs)
	for _, f := range commands {
		c := f(a)
		if c.GroupID == "" {
			c.GroupID = groupOther
		}
		root.AddCommand(c)
	}
	explain(root)
	return root
}

// client is a client of the lab that was chosen.
func (a *app) client() (*control.Client, error) { return control.Find(a.lab) }
