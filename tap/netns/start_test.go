package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// viaAgent makes n be worked in from inside, even if this process is root.
func viaAgent(t *testing.T, n *Namespace) *Namespace {
	t.Helper()
	m, err := Open(n.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if m.agent, err = enterWithAgent(m); err != nil {
		t.Fatal(err)
	}
	m.probe = true
	return m
}

func TestStart(t *testing.T) {
	owner := mustNew(t, Options{User: true})
	for name, n := range map[string]*Namespace{
		"here": nil, "by thread or agent": mustNew(t, Options{}), "maker": owner, "foreign": viaAgent(t, owner),
	} {
		cmd := exec.Command("sh", "-c", `readlink /proc/self/ns/net; echo "$0 $X"; id -u; exit 7`, "zero")
		cmd.Env = append(os.Environ(), "X=y")
		var out strings.Builder
		cmd.Stdout = &out
		if err := n.Start(cmd); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		err := cmd.Wait()
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != 7 {
			t.Errorf("%s: %v, want status 7", name, err)
		}
		uid := os.Getuid()
		if n != nil && n.agent != nil {
			uid = 0
		}
		want := fmt.Sprintf("net:[%d]\nzero y\n%d\n", inode(t, n), uid)
		if out.String() != want {
			t.Errorf("%s: it said %q, want %q", name, out.String(), want)
		}
	}
}

func TestStartErrors(t *testing.T) {
	n := mustNew(t, Options{User: true})
	if err := n.Start(exec.Command("no-such-program-anywhere")); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("unknown program: %v", err)
	}
	cmd := exec.Command("/dev/null")
	var said strings.Builder
	cmd.Stderr = &said
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "/dev/null: permission denied") {
		t.Errorf("/dev/null: %v, said %q", err, said.String())
	}
}

// TestStartSignals: signals reach the program, and SIGKILL takes it along.
func TestStartSignals(t *testing.T) {
	n := mustNew(t, Options{User: true})
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		cmd := exec.Command("sh", "-c", `echo $$; exec sleep 100`)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(cmd); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(line))
		cmd.Process.Signal(s)
		// The pipe closes when the program is gone, too.
		io.Copy(io.Discard, out)
		var status *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &status) || status.Sys().(syscall.WaitStatus).Signal() != s {
			t.Errorf("%v: %v", s, err)
		}
		if err := gone(pid); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
}

// gone waits until a process has ended.
func gone(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("process %d lives on", pid)
		default:
			return nil
		}
	}
}

// TestKilled kills the owner of namespaces; nothing may be left of them.
func TestKilled(t *testing.T) {
	if os.Getenv("TAPROOM_NETNS_TEST_OWNER") != "" {
		n := mustNew(t, Options{User: true})
		m := viaAgent(t, n)
		for _, n := range []*Namespace{n, m} {
			ids, err := n.Call(opTestPID, nil, nil)
			if len(ids) != 0 || err != nil {
				t.Fatal(err)
			}
		}
		io.Copy(io.Discard, os.Stdin) // until killed
		return
	}
	mustNew(t, Options{User: true}) // or skip
	cmd := exec.Command(self, "-test.run=^TestKilled$", "-test.v")
	cmd.Env = append(os.Environ(), "TAPROOM_NETNS_TEST_OWNER=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var agents []int
	for sc := bufio.NewScanner(r); len(agents) < 2 && sc.Scan(); {
		if s, ok := strings.CutPrefix(sc.Text(), "agent "); ok {
			pid, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			agents = append(agents, pid)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if len(agents) != 2 {
		t.Fatalf("%d agents, want 2", len(agents))
	}
	for _, pid := range agents {
		if err := gone(pid); err != nil {
			t.Error(err)
		}
	}
}
