package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab"
)

func init() {
	register(func(a *app) *cobra.Command {
		var tty bool
		var env []string
		var dir string
		c := &cobra.Command{
			Use:     "exec ROOM -- COMMAND [ARG...]",
			GroupID: groupLook,
			Short:   "Run a program in a room",
			Long: `Run a program in a namespace. Input, output, signals and exit status are the
program's. It gets a terminal if this has one for input and output (-t=false
for none).`,
			Example: `  taproom exec alice -- ping -c 3 10.0.2.2
  taproom exec bob -- iperf3 -s -D
  echo hello | taproom exec alice -- nc -u -w1 10.0.2.2 7`,
			Args:              cobra.MinimumNArgs(2),
			ValidArgsFunction: completeFirst(a, namespaceNames),
			RunE: func(c *cobra.Command, args []string) error {
				if args[1] == "--" {
					if args = slices.Delete(args, 1, 2); len(args) < 2 {
						return errors.New("no command after --")
					}
				}
				if !c.Flags().Changed("tty") {
					tty = isTerminal(os.Stdin) && isTerminal(os.Stdout)
				}
				return a.exec(c, args[0], lab.Command{Argv: args[1:], Env: env, Dir: dir, TTY: tty})
			},
		}
		c.Flags().SetInterspersed(false) // what follows the room belongs to the program
		c.Flags().BoolVarP(&tty, "tty", "t", false, "give the program a terminal")
		c.Flags().StringArrayVarP(&env, "env", "e", nil, "set a variable, as NAME=value")
		c.Flags().StringVarP(&dir, "workdir", "w", "", "directory to run it in")
		return c
	})
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:               "shell ROOM",
			GroupID:           groupLook,
			Short:             "Open a shell in a room",
			Example:           "  taproom shell alice",
			Args:              cobra.ExactArgs(1),
			ValidArgsFunction: completeFirst(a, namespaceNames),
			RunE: func(c *cobra.Command, args []string) error {
				shell := os.Getenv("SHELL")
				if shell == "" {
					shell = "/bin/sh"
				}
				tty := isTerminal(os.Stdin) && isTerminal(os.Stdout)
				return a.exec(c, args[0], lab.Command{Argv: []string{shell}, TTY: tty})
			},
		}
	})
}

func (a *app) exec(c *cobra.Command, room string, cmd lab.Command) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if cmd.Dir == "" {
		if cmd.Dir, err = os.Getwd(); err != nil {
			cmd.Dir = "/"
		}
	}
	std := control.Stdio{In: os.Stdin, Out: c.OutOrStdout(), Err: c.ErrOrStderr()}
	ctx := c.Context()
	signals, stop := forwardSignals()
	defer stop()
	std.Signals = signals
	if cmd.TTY {
		cmd.Env = append(cmd.Env, "TERM="+os.Getenv("TERM"))
	}
	if cmd.TTY && isTerminal(os.Stdin) {
		sizes, restore, err := rawTerminal(&cmd.Size)
		if err != nil {
			return err
		}
		defer restore()
		std.Sizes = sizes
	}
	exit, err := client.Exec(ctx, room, cmd, std)
	if err != nil {
		if errors.Is(err, io.ErrClosedPipe) || ctx.Err() != nil {
			return exitError(130)
		}
		return err
	}
	if exit.Code != 0 {
		return exitError(exit.Code & 0xff)
	}
	return nil
}

// forwardSignals takes the signals that a user or a supervisor sends, for the
// program in the room.
func forwardSignals() (<-chan byte, func()) {
	in := make(chan os.Signal, 8)
	out := make(chan byte, 8)
	// Asking for a signal by its own channel does not keep the context of main
	// from ending with it, so that is reset first.
	signal.Reset(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-in:
				if n, ok := s.(syscall.Signal); ok {
					out <- byte(n)
				}
			case <-done:
				return
			}
		}
	}()
	return out, func() { signal.Stop(in); close(done) }
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// rawTerminal lets all keys through to the program in the room, whose terminal
// does the rest, and follows the window's size.
func rawTerminal(size *lab.WindowSize) (<-chan lab.WindowSize, func(), error) {
	fd := int(os.Stdin.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, nil, err
	}
	raw := *old // cfmakeraw(3)
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, nil, err
	}
	now := func() lab.WindowSize {
		w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err != nil {
			return lab.WindowSize{}
		}
		return lab.WindowSize{Rows: w.Row, Cols: w.Col}
	}
	*size = now()
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH)
	sizes := make(chan lab.WindowSize, 1)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-winch:
				select {
				case sizes <- now():
				default:
				}
			case <-done:
				return
			}
		}
	}()
	return sizes, func() {
		signal.Stop(winch)
		close(done)
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, old)
	}, nil
}
