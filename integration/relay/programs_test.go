package relay

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"taproom/integration/room"
)

var built string // removed by TestMain

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "taproom")
	if err != nil {
		return "", err
	}
	built = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	c := exec.Command("go", "build", "-o", dir+"/taproom", "taproom/cmd/taproom")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	for _, l := range []string{"slirp4netns", "pasta"} {
		if err := os.Symlink("taproom", filepath.Join(dir, l)); err != nil {
			return "", err
		}
	}
	return dir, nil
})

// programs builds the command and returns the folder with it and its links.
func programs(t *testing.T) string {
	t.Helper()
	room.Need(t, "root", "tun", "go", "unshare", "nsenter")
	dir, err := build()
	must(t, err)
	return dir
}

// target is a process in a network namespace of its own.
func target(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "300")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

func in(c *exec.Cmd, name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-n", "-t", strconv.Itoa(c.Process.Pid), "--", name}, args...)...)
}

// ends waits for a program to end by itself.
func ends(t *testing.T, c *exec.Cmd) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		_ = c.Process.Kill()
		<-done
		return errors.New("it did not end")
	}
}

func TestRun(t *testing.T) {
	dir := programs(t)
	for _, tt := range []struct {
		script string
		code   int
	}{{"exit 3", 3}, {"kill -TERM $$", 128 + 15}, {"grep -q '^nameserver 10.0.2.3' /etc/resolv.conf", 0}, {"ip route get 8.8.8.8 | grep -q 'via 10.0.2.2'", 0}} {
		out, err := exec.Command(dir+"/taproom", "run", "--", "sh", "-c", tt.script).CombinedOutput()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else {
			must(t, err)
		}
		if code != tt.code {
			t.Errorf("%s: status %d: %s", tt.script, code, out)
		}
	}
}

func TestSlirp4netns(t *testing.T) {
	dir := programs(t)
	ns := target(t)
	ready, readyW, err := os.Pipe()
	must(t, err)
	exitR, exit, err := os.Pipe()
	must(t, err)
	api := filepath.Join(t.TempDir(), "api")
	c := exec.Command(dir+"/slirp4netns", "--mtu=1500", "--enable-sandbox", "--enable-seccomp", "-c", "-r", "3", "-e", "4", "--api-socket", api,
		"--netns-type=path", fmt.Sprintf("/proc/%d/ns/net", ns.Process.Pid), "tap0")
	c.ExtraFiles = []*os.File{readyW, exitR}
	must(t, c.Start())
	_ = readyW.Close()
	_ = exitR.Close()
	if b, err := io.ReadAll(ready); err != nil || string(b) != "1" {
		t.Fatalf("ready: %q %v", b, err)
	}
	if out, err := in(ns, "ip", "-o", "addr", "show", "tap0").Output(); err != nil || !strings.Contains(string(out), "10.0.2.100/24") {
		t.Errorf("%s %v", out, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	must(t, err)
	for _, want := range []string{"CapEff:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("not confined: no %q", want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	if got := ask(t, api, fmt.Sprintf(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"guest_addr":"","guest_port":80}}`, port)); got != `{"return":{"id":1}}` {
		t.Error(got)
	}
	if got := ask(t, api, fmt.Sprintf(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"guest_addr":"","guest_port":80}}`, port)); got != `{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed"}}` {
		t.Error(got)
	}
	host := fmt.Sprintf("127.0.0.1:%d", port)
	if _, err := net.Dial("tcp", host); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens inside, and yet: %v", err)
	}
	room.Need(t, "nc")
	srv := in(ns, "nc", "-l", "-N", "80")
	srv.Stdin = strings.NewReader("from inside")
	must(t, srv.Start())
	var b []byte
	for end := time.Now().Add(5 * time.Second); len(b) == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", host); err == nil {
			b, _ = io.ReadAll(conn)
			_ = conn.Close()
		}
	}
	_ = srv.Wait()
	if string(b) != "from inside" {
		t.Errorf("through the forward: %q", b)
	}
	if got := ask(t, api, `{"execute":"remove_hostfwd","arguments":{"id":1}}`); got != `{"return":{}}` {
		t.Error(got)
	}
	_ = exit.Close()
	if err := ends(t, c); err != nil {
		t.Errorf("the exit descriptor hung up: %v", err)
	}
}

func ask(t *testing.T, socket, q string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	must(t, err)
	defer c.Close()
	_, _ = c.Write([]byte(q + "\n"))
	_ = c.(*net.UnixConn).CloseWrite()
	b, err := io.ReadAll(c)
	must(t, err)
	return string(b)
}

// slirp4netns without an exit descriptor stays when the container is gone.
func TestLeavesWithTheContainer(t *testing.T) {
	dir := programs(t)
	for _, args := range [][]string{{"slirp4netns", "-c", "PID", "tap0"}, {"taproom", "attach", "PID"}, {"pasta", "-f", "--config-net", "-t", "none", "-u", "none", "PID"}} {
		ns := target(t)
		for k := range args {
			args[k] = strings.ReplaceAll(args[k], "PID", strconv.Itoa(ns.Process.Pid))
		}
		c := exec.Command(dir+"/"+args[0], args[1:]...)
		must(t, c.Start())
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if out, _ := in(ns, "ip", "-o", "-4", "addr").Output(); strings.Count(string(out), "\n") >= 2 || time.Now().After(end) {
				break
			}
		}
		_ = ns.Process.Kill()
		if err := ends(t, c); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// The way Podman runs pasta: it returns when ready, closes its outputs, and
// leaves when the namespace's file is removed.
func TestPastaInTheBackground(t *testing.T) {
	dir := programs(t)
	ns := target(t)
	path := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, syscall.Mount(fmt.Sprintf("/proc/%d/ns/net", ns.Process.Pid), path, "", syscall.MS_BIND, ""))
	unmount := sync.OnceFunc(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH); _ = os.Remove(path) })
	defer unmount()
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, dir+"/pasta", "--config-net", "-a", "10.0.9.2", "-n", "24", "-g", "10.0.9.1", "-I", "eth0", "--dns-forward", "169.254.1.1",
		"-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw", "--quiet", "--netns", path, "--map-guest-addr", "169.254.1.2", "--pid", pidFile)
	out, err := c.CombinedOutput() // until the outputs are closed
	if err != nil || len(out) > 0 {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := in(ns, "ip", "-o", "addr", "show", "eth0").Output(); err != nil || !strings.Contains(string(out), "10.0.9.2/24") {
		t.Errorf("%s %v", out, err)
	}
	b, err := os.ReadFile(pidFile)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	must(t, err)
	unmount()
	for end := time.Now().Add(5 * time.Second); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("it stays when the namespace is gone")
		}
	}
}

// running reports whether a process lives; a zombie does not.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// Ports of "auto" follow what listens inside.
func TestAutoForward(t *testing.T) {
	dir := programs(t)
	room.Need(t, "nc")
	ns := target(t)
	c := exec.Command(dir+"/taproom", "attach", "-j", "-t", "auto", strconv.Itoa(ns.Process.Pid))
	stdout, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	defer func() { _ = c.Process.Signal(syscall.SIGTERM); _ = c.Wait() }()
	var said map[string]any
	must(t, json.NewDecoder(bufio.NewReader(stdout)).Decode(&said))
	l, err := net.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	srv := in(ns, "nc", "-l", "-N", port)
	srv.Stdin = strings.NewReader("auto")
	must(t, srv.Start())
	var b []byte
	for end := time.Now().Add(8 * time.Second); len(b) == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			b, _ = io.ReadAll(conn)
			_ = conn.Close()
		}
	}
	_ = srv.Wait()
	if string(b) != "auto" {
		t.Errorf("got %q", b)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			break
		}
		_ = conn.Close()
		if time.Now().After(end) {
			t.Fatal("nobody listens inside any more, and the port is still open")
		}
	}
}
