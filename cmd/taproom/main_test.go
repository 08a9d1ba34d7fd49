package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
	"taproom/tap/netns"
)

var update = flag.Bool("update", false, "write golden files")

// asProgram makes the test binary be taproom: tests start it as users do.
const asProgram = "TAPROOM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	netns.Init()
	os.Exit(m.Run())
}

// shell runs taproom with sockets of its own.
type shell struct {
	*testing.T
	dir string
}

func newShell(t *testing.T) *shell {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir()) // for this process's client too
	t.Setenv(asProgram, "")
	s := &shell{t, t.TempDir()}
	t.Cleanup(func() { s.try("down", "--all") })
	return s
}

func (s *shell) command(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Dir = s.dir
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

func (s *shell) try(args ...string) (string, error) {
	s.Helper()
	c := s.command(args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

func (s *shell) run(args ...string) string {
	s.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.Fatalf("taproom %v: %v\n%s", args, err, out)
	}
	return out
}

func (s *shell) file(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

func (s *shell) contains(out string, wants ...string) {
	s.Helper()
	for _, w := range wants {
		if !strings.Contains(out, w) {
			s.Errorf("no %q in:\n%s", w, out)
		}
	}
}

const routersOnly = `
version: 1
name: small
rooms: {a: router, b: router}
links:
  - ends: [a:e0, b:e0]
`

// Without any privilege: a lab of routers in the background, through every
// subcommand that does not need a namespace.
func TestRouters(t *testing.T) {
	s := newShell(t)
	path := s.file("lab.yaml", routersOnly)
	s.contains(s.run("check", path), "2 rooms, 1 link, 0 expectations: fine")
	s.contains(s.run("check", "--plan", path), "+ link a:e0 -- b:e0", "+ a:e0 address 10.77.0.1/24")
	s.contains(s.run("up", "-d", path), "small is up: 2 rooms, 1 link")
	s.contains(s.run("ps"), "small", "router")
	s.contains(s.run("show"), "10.77.0.1/24", "plain")
	s.contains(s.run("show", "a"), "e0  mtu 1500  up", "forwarded")
	s.contains(s.run("link", "set", "a:e0", "delay", "5ms", "loss=1%"), "a:e0  delay 5ms loss 1%", "b:e0  plain")
	s.contains(s.run("link", "show"), "delay 5ms loss 1%")
	s.contains(s.run("graph"), "flowchart LR", "n_a ---", "→ delay 5ms loss 1%")
	s.contains(s.run("graph", "-f", "dot", path), "n_a -- n_b")
	s.contains(s.run("top", "-n", "1", "-i", "100ms"), "INTERFACE", "a:e0")
	var room lab.RoomStatus
	if err := json.Unmarshal([]byte(s.run("show", "-j", "a")), &room); err != nil || room.Name != "a" || room.Counters == nil {
		t.Errorf("show -j: %+v, %v", room, err)
	}
	changed := s.file("lab.yaml", routersOnly+"    delay: 5ms\n")
	s.contains(s.run("apply", "--dry-run", changed), "~ a:e0 → b:e0: delay 5ms", "~ b:e0 → a:e0: delay 5ms")
	s.run("apply", changed)
	s.contains(s.run("apply", changed), "nothing to change")
	for want, args := range map[string][]string{
		"small (taproom down":   {"up", "-d", path},
		`do you mean "delay"`:   {"link", "set", "a:e0", "dealy", "1ms"},
		"neither a link nor":    {"link", "set", "a:e7", "delay", "1ms"},
		`room "z"`:              {"show", "z"},
		"programs run in names": {"exec", "a", "--", "true"},
		"no lab is up by the":   {"-l", "other", "show"},
	} {
		out, err := s.try(args...)
		if err == nil {
			t.Errorf("taproom %v succeeded", args)
		}
		s.contains(out, want)
	}
	s.run("down")
	out, err := s.try("show")
	if err == nil {
		t.Error("show of no lab succeeded")
	}
	s.contains(out, "no lab is up")
	left, _ := filepath.Glob(filepath.Join(control.Dir(), "*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBadFile(t *testing.T) {
	s := newShell(t)
	path := s.file("bad.yaml", strings.Replace(routersOnly, "b: router", "b: ruter", 1))
	for _, args := range [][]string{{"check", path}, {"up", path}, {"up", "-d", path}, {"test", path}} {
		out, err := s.try(args...)
		if err == nil {
			t.Errorf("taproom %v succeeded", args)
		}
		s.contains(out, `bad.yaml:4:20: rooms.b: unknown value "ruter", do you mean "router"?`)
	}
	// A step that fails in the background is told in the foreground.
	path = s.file("pid.yaml", "version: 1\nname: pid\nrooms: {a: {kind: namespace, path: /nonexistent}}\n")
	out, err := s.try("up", "-d", path)
	if err == nil {
		t.Error("a room without a namespace came up")
	}
	s.contains(out, "room a (namespace /nonexistent)", "no such file")
}

// needRooms skips where namespaces cannot be made.
func needRooms(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
	f.Close()
	ns, err := netns.New(netns.Options{})
	if err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	ns.Close()
}

const withRooms = `
version: 1
name: rooms
rooms:
  a: {kind: namespace, run: [{name: two, command: "echo started; sleep 1001 & echo $! > kid; sleep 1000", ready: {command: "test -s kid"}}]}
  b: namespace
links: [{name: cable, ends: ["a:e0", "b:e0"]}]
expect: [{ping: {from: a, to: b}}, {exec: {room: b, command: [cat, /proc/self/net/dev], output: e0}}]
`

func TestRooms(t *testing.T) {
	needRooms(t)
	s := newShell(t)
	path := s.file("lab.yaml", withRooms)
	s.run("up", "-d", path)
	s.contains(s.run("expect"), "2 passed, 0 failed")
	if out := s.run("exec", "a", "--", "sh", "-c", "echo $TAPROOM_ROOM; pwd"); out != "a\n"+s.dir+"\n" {
		t.Errorf("exec: %q", out)
	}
	s.contains(s.run("logs", "a"), "started")
	s.contains(s.run("ps"), "two")
	c := s.command("exec", "b", "cat")
	c.Stdin = strings.NewReader("in and out")
	if out, err := c.Output(); err != nil || string(out) != "in and out" {
		t.Errorf("cat: %q, %v", out, err)
	}
	_, err := s.try("exec", "b", "--", "sh", "-c", "exit 7")
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 7 {
		t.Errorf("exit status: %v", err)
	}
	s.contains(s.run("exec", "-t", "b", "--", "sh", "-c", "test -t 0 && stty size && echo tty"), "tty")
	capture := filepath.Join(s.dir, "x.pcapng")
	c = s.command("capture", "cable", "-c", "2", "-w", capture)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.run("exec", "a", "--", "ping", "-c", "3", "-i", "0.3", "10.77.0.2")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	f, err := os.Open(capture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ng, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if face, _ := ng.Interface(0); face.Name != "cable" {
		t.Errorf("captured interface %q", face.Name)
	}
	s.run("down")
	s.contains(s.run("test", path), "ok    ping a → b", "2 passed, 0 failed")
}

// Every example is a test of its own.
func TestExamples(t *testing.T) {
	needRooms(t)
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, tool := range []string{"ping", "traceroute", "nc", "clang", "dnsmasq", "dig", "python3"} {
				if _, err := exec.LookPath(tool); err != nil && bytes.Contains(text, []byte(tool)) {
					t.Skipf("needs %s: %v", tool, err)
				}
			}
			if _, err := os.Stat("/usr/include/bpf/bpf_helpers.h"); err != nil && bytes.Contains(text, []byte("bpf/")) {
				t.Skipf("needs the headers of libbpf: %v", err)
			}
			abs, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			s := newShell(t)
			s.contains(s.run("test", abs), ", 0 failed")
		})
	}
}

// A full disk ends a capture with an error, and nothing else.
func TestCaptureOnFullDisk(t *testing.T) {
	needRooms(t)
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skipf("needs /dev/full: %v", err)
	}
	s := newShell(t)
	s.run("up", "-d", s.file("lab.yaml", withRooms))
	out, err := s.try("capture", "a:e0", "-w", "/dev/full")
	if err == nil {
		t.Error("a capture on a full disk succeeded")
	}
	s.contains(out, "no space left for /dev/full")
	s.contains(s.run("expect"), "2 passed")
}

// After kill -9 the next up works, and nothing of the first is left.
func TestKilled(t *testing.T) {
	needRooms(t)
	s := newShell(t)
	path := s.file("lab.yaml", withRooms)
	s.run("up", "-d", path)
	kid, err := os.ReadFile(filepath.Join(s.dir, "kid"))
	if err != nil {
		t.Fatal(err)
	}
	labs, err := control.List()
	if err != nil || len(labs) != 1 {
		t.Fatalf("%v, %v", labs, err)
	}
	if err := syscall.Kill(labs[0].Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the lock is free", func() bool { l, _ := control.List(); return len(l) == 0 })
	out, err := s.try("show")
	if err == nil {
		t.Errorf("a killed lab shows: %s", out)
	}
	s.file("kid", "") // so that the second run's readiness is its own
	s.run("up", "-d", path)
	until(t, "the child of the first run is gone", func() bool {
		env, err := os.ReadFile("/proc/" + strings.TrimSpace(string(kid)) + "/stat")
		return err != nil || bytes.Contains(env, []byte(") Z "))
	})
	s.contains(s.run("expect"), "2 passed")
	s.run("down")
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// The published schema is what this program reads, with the sections of all
// subsystems. Run with -update after a change.
func TestSchemaIsCurrent(t *testing.T) {
	const path = "../../examples/lab.schema.json"
	got := spec.Schema()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not current, run go test -update (-file +types):\n%s", path, diff)
	}
}

// Every subcommand says what it does, with an example.
func TestHelp(t *testing.T) {
	for _, c := range newRoot().Commands() {
		if c.Hidden || c.DisableFlagParsing || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || c.Example == "" && !c.HasSubCommands() {
			t.Errorf("taproom %s has no summary or example", c.Name())
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len([]rune(line)) > 100 && !strings.HasPrefix(line, "Settings:") {
				t.Errorf("taproom %s: a line of its help has %d columns: %s", c.Name(), len([]rune(line)), line)
			}
		}
	}
}
