package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// servers are the programs of the host.
type servers struct {
	iperf *exec.Cmd
	l     net.Listener
	port  string
}

const iperfPort = "15201"

func startServers() (*servers, error) {
	s := &servers{iperf: exec.Command("iperf3", "-s", "-p", iperfPort)}
	if err := s.iperf.Start(); err != nil {
		return nil, err
	}
	var err error
	if s.l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	_, s.port, _ = net.SplitHostPort(s.l.Addr().String())
	go func() { // an echo server
		for {
			c, err := s.l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return s, nil
}

func (s *servers) stop() {
	_ = s.iperf.Process.Kill()
	_ = s.iperf.Wait()
	_ = s.l.Close()
}

// scene is a namespace being served.
type scene struct {
	holder  *exec.Cmd // keeps the namespace
	serving *exec.Cmd
	servers *servers
	took    time.Duration // from start to the first connection
}

func newScene(p peer, mtu int, servers *servers) (*scene, error) {
	s := &scene{servers: servers, holder: asNobody("unshare", "-Urn", "sleep", "1000")}
	if err := s.holder.Start(); err != nil {
		return nil, err
	}
	if err := s.awaitNamespace(); err != nil {
		s.close()
		return nil, err
	}
	start := time.Now()
	s.serving = asNobody(p.path, p.argv(strconv.Itoa(s.holder.Process.Pid), strconv.Itoa(mtu))...)
	if err := s.serving.Start(); err != nil {
		s.close()
		return nil, err
	}
	out, err := s.client("wait", servers.port)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("does not come up: %w %s", err, out)
	}
	at, _ := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	s.took = time.Unix(0, at).Sub(start)
	return s, nil
}

// asNobody runs a program as a user without privilege.
func asNobody(name string, args ...string) *exec.Cmd {
	c := exec.Command("setpriv", append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", "--", name}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// awaitNamespace waits until the holder is in a namespace of its own.
func (s *scene) awaitNamespace() error {
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		path := fmt.Sprintf("/proc/%d/", s.holder.Process.Pid)
		theirs, err := os.Readlink(path + "ns/net")
		maps, _ := os.ReadFile(path + "uid_map")
		if err == nil && theirs != ours && strings.HasPrefix(strings.TrimSpace(string(maps)), "0 ") && strings.Fields(string(maps))[1] == "65534" {
			return nil
		}
	}
	return errors.New("no namespace: are user namespaces allowed?")
}

func (s *scene) close() {
	for _, c := range []*exec.Cmd{s.serving, s.holder} {
		if c != nil && c.Process != nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
}

func (s *scene) inside(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-U", "-n", "-t", strconv.Itoa(s.holder.Process.Pid), "--", name}, args...)...)
}

// client runs a part of this program inside.
func (s *scene) client(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	out, err := s.inside(self, append([]string{"client"}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// cpu is what the serving process has used, in seconds.
func (s *scene) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.serving.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

func (s *scene) iperf(seconds int, args ...string) (gbit, cpuPerGB float64, err error) {
	before := s.cpu()
	out, err := s.inside("timeout", append([]string{strconv.Itoa(seconds + 10), "iperf3", "-J", "-c", gateway, "-p", iperfPort, "-t", strconv.Itoa(seconds)}, args...)...).Output()
	used := s.cpu() - before
	if err != nil {
		return 0, 0, err
	}
	type sum struct {
		Bits    float64 `json:"bits_per_second"`
		Bytes   float64
		Percent float64 `json:"lost_percent"`
	}
	var r struct {
		End struct {
			Received sum `json:"sum_received"`
			Sum      sum `json:"sum"`
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, 0, err
	}
	got := r.End.Received
	if r.End.Sum.Bytes > 0 { // UDP: what came
		got = r.End.Sum
		got.Bits *= 1 - got.Percent/100
		got.Bytes *= 1 - got.Percent/100
	}
	if got.Bytes == 0 {
		return 0, 0, errors.New("nothing came")
	}
	return got.Bits / 1e9, used / (got.Bytes / 1e9), nil
}

func (s *scene) number(args ...string) (float64, float64, error) {
	out, err := s.client(args...)
	if err != nil {
		return 0, 0, err
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	return v, 0, err
}

func (s *scene) roundTrips() (float64, float64, error) { return s.number("rr", s.servers.port) }

func (s *scene) connects(n int) (float64, float64, error) {
	return s.number("connect", s.servers.port, strconv.Itoa(n))
}

func (s *scene) startTime() (float64, float64, error) {
	return float64(s.took.Microseconds()) / 1000, 0, nil
}

// memory is the resident set in MB.
func (s *scene) memory() (float64, float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.serving.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024, 0, err
		}
	}
	return 0, 0, errors.New("no VmRSS")
}

// idle is the memory with n connections that do nothing.
func (s *scene) idle(n int) (float64, float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	c := s.inside(self, "client", "idle", s.servers.port, strconv.Itoa(n))
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	var b [1]byte
	if _, err := out.Read(b[:]); err != nil {
		return 0, 0, fmt.Errorf("cannot open %d connections: %w", n, err)
	}
	return s.memory()
}
