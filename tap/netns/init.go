package netns

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// marker is the environment variable by which a started copy of this program
// knows that it is an agent: its mode and the process number of its parent.
const marker = "TAPROOM_NETNS_AGENT"

const (
	modeServe    = "serve" // work
	modeAwaitMap = "map"   // wait until the identities are mapped, start again, work
)

// self is this program, for starting it again.
const self = "/proc/self/exe"

// Init must be the first thing that main and TestMain do: if this process was
// started as an agent, it becomes one and never returns.
func Init() {
	mode, parent, ok := strings.Cut(os.Getenv(marker), ":")
	if !ok {
		return
	}
	parent, descriptors, _ := strings.Cut(parent, ":")
	if err := life(mode, parent, descriptors); err != nil {
		fmt.Fprintln(os.Stderr, "taproom agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func life(mode, parent, descriptors string) error {
	if mode == modeExec {
		return guard(descriptors)
	}
	// Die with the parent. It may have died before this took effect, so look.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("netns: prctl(PR_SET_PDEATHSIG): %w", err)
	}
	if ppid := os.Getppid(); strconv.Itoa(ppid) != parent {
		return nil
	}
	if mode == modeAwaitMap {
		// exec as nobody dropped the capabilities; exec as the root that we
		// are once the maps are written brings them back.
		var b [1]byte
		if n, _ := syscall.Read(controlFD, b[:]); n != 1 {
			return nil
		}
		return os.NewSyscallError("execve", syscall.Exec(self, os.Args, agentEnvFor(parent)))
	}
	f := os.NewFile(controlFD, "agent")
	c, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("netns: agent without a socket: %w", err)
	}
	f.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("netns: agent without a unix socket")
	}
	return serve(u)
}

// agentEnvFor is this process's environment with the mode set to work.
func agentEnvFor(parent string) []string {
	env := os.Environ()
	for i, e := range env {
		if strings.HasPrefix(e, marker+"=") {
			env[i] = marker + "=" + modeServe + ":" + parent
		}
	}
	return env
}
