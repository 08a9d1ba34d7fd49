package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// explain makes the errors of a command line, here and in all subcommands, say
// how it is written. It is to be called when the tree is complete.
func explain(root *cobra.Command) {
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w ('%s --help' lists the options)", err, c.CommandPath())
	})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	explainTree(root)
}

func explainTree(c *cobra.Command) {
	switch {
	case !c.Runnable() && c.HasSubCommands():
		// Left to itself, cobra answers a wrong subcommand with help and success.
		c.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noCommand(c, args[0])
			}
			return nil
		}
		c.DisableFlagsInUseLine = true
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	case c.Name() == "help":
		c.Run, c.RunE = nil, help
	case c.Args != nil:
		fits := c.Args
		c.Args = func(c *cobra.Command, args []string) error {
			if fits(c, args) == nil {
				return nil
			}
			return fmt.Errorf("%s: too few or too many words, write: %s", c.Name(), c.UseLine())
		}
	}
	for _, sub := range c.Commands() {
		explainTree(sub)
	}
}

// help is 'taproom help COMMAND'.
func help(c *cobra.Command, args []string) error {
	about, rest, err := c.Root().Find(args)
	if err != nil {
		return err
	}
	if about.HasSubCommands() {
		if err := about.ValidateArgs(rest); err != nil {
			return err
		}
	}
	about.InitDefaultHelpFlag()
	return about.Help()
}

func noCommand(c *cobra.Command, name string) error {
	hint := fmt.Sprintf("'%s --help' lists them", c.CommandPath())
	c.SuggestionsMinimumDistance = 2 // letters; cobra's default only without Args
	if like := c.SuggestionsFor(name); len(like) > 0 {
		hint = "do you mean " + strings.Join(like, " or ") + "?"
	}
	return fmt.Errorf("%s has no command %q (%s)", c.CommandPath(), name, hint)
}
