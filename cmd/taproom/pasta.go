package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"taproom/cmd/taproom/control"
	"taproom/stack/relay/guest"
	"taproom/tap/netns"
)

// The personality of pasta: a namespace that looks like the host, with its
// addresses and routes, for Podman, RootlessKit and people.

func init() {
	registerPersonality("pasta", "Be pasta: the same options, a namespace that looks like the host", pasta)
}

// pastaOptions are the options as they were given.
type pastaOptions struct {
	foreground, quiet, help, version   bool
	configNet, noMapGW, noNetnsQuit    bool
	only4, only6                       bool
	noDHCP, noDHCP6, noRA              bool
	mtu                                int
	ifname, hostIf, pidFile, netnsPath string
	mask                               string
	addrs, gateways, outbound          []netip.Addr
	dns, mapHost, mapGuest, dnsForward []netip.Addr
	outIf4, outIf6                     string
	search                             []string
	mac                                net.HardwareAddr
	tcp, udp                           []string
	command                            []string
	pid                                int
	logFile                            string
}

// pastaChildEnv names the descriptor on which the process in the background
// says that it is ready.
const pastaChildEnv = "TAPROOM_PASTA_READY"

func pasta(args []string) int {
	o, err := parsePasta(args)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, usage.msg)
		fmt.Fprint(os.Stderr, pastaHelp)
		return 1
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case o.help:
		fmt.Print(pastaHelp)
		return 0
	case o.version:
		fmt.Printf("pasta 2025_01_21 (taproom %s)\n", control.Version)
		return 0
	}
	ready := os.Getenv(pastaChildEnv)
	if ready == "" && !o.foreground && o.pid+len(o.netnsPath) > 0 {
		return pastaBackground(args)
	}
	status, err := o.serve(ready)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// pastaBackground starts this program again and returns when that one is
// ready, or has failed. A Go program cannot fork in two.
func pastaBackground(args []string) int {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c := exec.Command("/proc/self/exe", args...)
	c.Args[0] = "pasta"
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.ExtraFiles = []*os.File{w}
	c.Env = append(os.Environ(), pastaChildEnv+"=3")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = w.Close()
	var b [1]byte
	if n, _ := r.Read(b[:]); n == 1 {
		return 0
	}
	_ = c.Wait()
	if s := c.ProcessState.ExitCode(); s > 0 {
		return s
	}
	return 1
}

func (o *pastaOptions) serve(ready string) (int, error) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGQUIT)
	defer cancel()
	os.Unsetenv(pastaChildEnv)
	c, err := o.config()
	if err != nil {
		return 1, err
	}
	gone, err := o.namespace(ctx, &c)
	if err != nil {
		return 1, err
	}
	g, err := guest.Open(c)
	if err != nil {
		_ = c.Namespace.Close()
		return 1, err
	}
	defer g.Close()
	auto, err := openForwards(g, c.Networks, o.tcp, o.udp)
	if err != nil {
		_ = c.Namespace.Close()
		return 1, pastaPortError(err)
	}
	if o.pidFile != "" {
		if err := os.WriteFile(o.pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return 1, err
		}
		defer os.Remove(o.pidFile)
	}
	if o.command != nil {
		defer c.Namespace.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go g.Run(ctx, auto)
		err := runInside(ctx, guest.Config{Namespace: c.Namespace}, o.command)
		var status exitError
		if errors.As(err, &status) {
			return int(status), nil
		}
		return 0, err
	}
	_ = c.Namespace.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 1, err
	}
	defer null.Close()
	if o.pidFile == "" {
		confine(true)
	} else { // the file is removed in the end
		_ = guest.Confine(guest.Confinement{BindPorts: true, Seccomp: true})
	}
	if err := detach(ready, null); err != nil {
		return 1, err
	}
	go g.Run(ctx, auto)
	select {
	case <-ctx.Done():
	case <-gone:
	}
	return 0, nil
}

func pastaPortError(err error) error {
	if errors.Is(err, guest.ErrPortSpec) {
		s := err.Error()
		return errors.New(strings.ToUpper(s[:1]) + s[1:])
	}
	return fmt.Errorf("failed to bind port: %w", err)
}

// namespace opens or makes the namespace; gone is closed when it has gone.
func (o *pastaOptions) namespace(ctx context.Context, c *guest.Config) (gone <-chan struct{}, err error) {
	switch {
	case o.command != nil:
		c.Namespace, err = netns.New(netns.Options{User: true})
		return nil, err
	case o.pid != 0:
		if c.Namespace, err = netns.OpenPID(o.pid); err != nil {
			return nil, fmt.Errorf("Couldn't open network namespace /proc/%d/ns/net: %w", o.pid, err) // their words
		}
		return guest.WatchPID(ctx, o.pid)
	}
	if c.Namespace, err = netns.Open(o.netnsPath); err != nil {
		return nil, fmt.Errorf("Couldn't open network namespace %s: %w", o.netnsPath, err) // their words
	}
	if o.noNetnsQuit {
		return nil, nil
	}
	path := o.netnsPath
	if !strings.ContainsRune(path, '/') {
		path = netns.Dir + "/" + path
	}
	return watchPath(ctx, path)
}

// detach tells the process in front that this one is ready, and lets go of its
// outputs: whoever reads them waits for their end.
func detach(ready string, null *os.File) error {
	if ready == "" {
		return nil
	}
	fd, err := strconv.Atoi(ready)
	if err != nil {
		return err
	}
	for k := range 3 {
		if err := unix.Dup3(int(null.Fd()), k, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	_, err = unix.Write(fd, []byte{'1'})
	_ = unix.Close(fd)
	return err
}
