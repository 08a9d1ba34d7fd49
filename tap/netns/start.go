package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// modeExec is the mode of a copy of this program that starts another one
// inside: it stays outside, passes signals on and ends with its status.
const modeExec = "exec"

// Start starts cmd in the namespace, and in the user namespace that owns it if
// this process cannot enter the network namespace alone. It replaces
// cmd.Start: cmd.Wait, cmd.Process and the rest are used as always, but in the
// second case cmd.Process is a guardian, which dies with the program and takes
// the program with it; of the signals it cannot pass on SIGKILL and SIGSTOP.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if n == nil {
		return cmd.Start()
	}
	a, err := n.agentIfNeeded()
	if err != nil {
		return err
	}
	if a == nil {
		return n.Do(cmd.Start)
	}
	if cmd.Err != nil {
		return cmd.Err
	}
	user, err := ownerOf(n)
	if err != nil {
		return err
	}
	userFile := os.NewFile(uintptr(user), "user")
	defer userFile.Close()
	env := cmd.Env
	if env == nil {
		env = os.Environ()
	}
	first := controlFD + len(cmd.ExtraFiles)
	cmd.Args = append([]string{"taproom-agent", cmd.Path}, cmd.Args...)
	cmd.Path = self
	cmd.ExtraFiles = append(cmd.ExtraFiles[:len(cmd.ExtraFiles):len(cmd.ExtraFiles)], userFile, n.file)
	cmd.Env = append(env[:len(env):len(env)], fmt.Sprintf("%s=%s:%d:%d", marker, modeExec, os.Getpid(), first))
	return cmd.Start()
}

// guard is the guardian's life. The descriptors from first on are the user and
// the network namespace; the arguments are a path and the argument vector.
func guard(first string) error {
	fd, err := strconv.Atoi(first)
	if err != nil || len(os.Args) < 3 {
		return errors.New("netns: a guardian needs a program")
	}
	unix.CloseOnExec(fd)
	unix.CloseOnExec(fd + 1)
	var report [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("netns: pipe: %w", err)
	}
	env := os.Environ()
	kept := env[:0]
	for _, e := range env {
		if !strings.HasPrefix(e, marker+"=") {
			kept = append(kept, e)
		}
	}
	argv0, err := syscall.BytePtrFromString(os.Args[1])
	if err != nil {
		return fmt.Errorf("netns: program: %w", err)
	}
	argv, err := syscall.SlicePtrFromStrings(os.Args[2:])
	if err != nil {
		return fmt.Errorf("netns: arguments: %w", err)
	}
	envp, err := syscall.SlicePtrFromStrings(kept)
	if err != nil {
		return fmt.Errorf("netns: environment: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	runtime.LockOSThread() // the program's parent is this thread: see spawner
	pid, errno := fork(&inside{user: fd, net: fd + 1, ctl: -1, report: report[1],
		argv0: argv0, argv: &argv[0], env: &envp[0], leash: true})
	if errno != 0 {
		return fmt.Errorf("netns: fork: %w", errno)
	}
	unix.Close(report[1])
	var failure [2]byte
	if k, _ := syscall.Read(report[0], failure[:]); k == 2 {
		return childFailure(failure[:], os.Args[1])
	}
	go func() {
		for s := range signals {
			if s, ok := s.(syscall.Signal); ok && s != syscall.SIGURG && s != syscall.SIGCHLD {
				syscall.Kill(pid, s)
			}
		}
	}()
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if status.Signaled() {
		// To this thread, so that it has happened when the call returns.
		signal.Reset(status.Signal())
		unix.Tgkill(os.Getpid(), unix.Gettid(), status.Signal())
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(status.ExitStatus())
	return nil
}
