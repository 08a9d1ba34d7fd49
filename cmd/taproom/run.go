package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"taproom/stack/relay/guest"
	"taproom/tap/netns"
)

func init() {
	register(func(a *app) *cobra.Command {
		f := &guestFlags{readyFD: -1, exit: -1}
		var subIDs bool
		c := &cobra.Command{
			Use:   "run [flags] -- COMMAND [ARG...]",
			Short: "Run a program in a network of its own",
			Long: `Run a program in a new user and network namespace, as its root, and carry its
TCP, UDP and echo requests through sockets of this host. No root is needed.
Exit status, input, output and signals are the program's.`,
			Example: `  taproom run -- curl -s https://example.org
  taproom run -t 8080:80 -- python3 -m http.server 80`,
			Args: cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return a.run(c, f, subIDs, args) },
		}
		f.add(c)
		c.Flags().BoolVar(&subIDs, "subids", false, "map this user's ranges of /etc/subuid and /etc/subgid too")
		c.Flags().SetInterspersed(false)
		return c
	})
	register(func(*app) *cobra.Command {
		return &cobra.Command{
			Use: insideCommand, Hidden: true, DisableFlagParsing: true, Args: cobra.MinimumNArgs(2),
			RunE: func(_ *cobra.Command, args []string) error { return execInside(args[0], args[1:]) },
		}
	})
}

// run serves a new namespace while a program runs in it.
func (a *app) run(cmd *cobra.Command, f *guestFlags, subIDs bool, argv []string) error {
	// Signals are the program's, and this ends with it.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := f.config()
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "taproom:", err)
		return exitError(127)
	}
	if c.Namespace, err = netns.New(netns.Options{User: true, SubIDs: subIDs}); err != nil {
		return err
	}
	defer c.Namespace.Close()
	g, err := guest.Open(c)
	if err != nil {
		return err
	}
	defer g.Close()
	auto, err := f.forwards(g, c.Networks)
	if err != nil {
		return err
	}
	control, err := serveFlows(g)
	if err != nil {
		return err
	}
	defer control.Close()
	go g.Run(ctx, auto)
	return runInside(ctx, c, argv)
}

// runInside runs a program in the namespace and waits for it.
func runInside(ctx context.Context, c guest.Config, argv []string) error {
	dns := ""
	for _, n := range c.Networks {
		if n.DNS.IsValid() {
			dns = n.DNS.String()
			break
		}
	}
	p := exec.Command("/proc/self/exe", append([]string{insideCommand, "nameserver " + dns}, argv...)...)
	p.Args[0] = "taproom"
	p.Stdin, p.Stdout, p.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 16)
	signal.Reset()
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := c.Namespace.Start(p); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = p.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	err := p.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return exitError(128 + int(s.Signal()))
		}
		return exitError(exit.ExitCode())
	}
	return err
}

// insideCommand is this program's own part inside, between the namespace and
// the user's program.
const insideCommand = "run-inside"

// execInside gives the program a mount namespace in which /etc/resolv.conf
// names the resolver, and becomes the program.
func execInside(resolver string, argv []string) error {
	runtime.LockOSThread() // the thread that calls exec decides what it takes along
	if err := privateResolver(resolver); err != nil {
		fmt.Fprintln(os.Stderr, "taproom: names may not be resolved inside:", err)
	}
	path, err := exec.LookPath(argv[0])
	if err == nil {
		err = syscall.Exec(path, argv, os.Environ())
	}
	fmt.Fprintf(os.Stderr, "taproom: %s: %v\n", argv[0], err)
	return exitError(126)
}

func privateResolver(line string) error {
	if line == "nameserver " {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	f, err := os.CreateTemp("", "resolv.conf")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return unix.Mount(f.Name(), "/etc/resolv.conf", "", unix.MS_BIND, "")
}
