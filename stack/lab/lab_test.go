package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"go.uber.org/goleak"

	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
	"taproom/stack/packet"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
		if n := packet.Live(); n != 0 {
			println("packets not released:", n)
			code = 1
		}
	}
	os.Exit(code)
}

// needTUN skips where no namespace or TAP can be made, naming which.
func needTUN(t *testing.T) {
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

func parse(t *testing.T, text string) *spec.Lab {
	t.Helper()
	file, err := spec.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func up(t *testing.T, text string) *Lab {
	t.Helper()
	l, err := New(Options{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Apply(context.Background(), parse(t, text), nil); err != nil {
		t.Fatal(err)
	}
	return l
}

func expectAll(t *testing.T, l *Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l.Expect(ctx, func(r Result) {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Error)
		}
	})
}

func TestExampleTwoRooms(t *testing.T) {
	needTUN(t)
	text, err := os.ReadFile("../../examples/two-rooms.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := up(t, string(text))
	expectAll(t, l)
	for _, r := range l.Status().Rooms {
		if r.Error != "" {
			t.Errorf("%s: %s", r.Name, r.Error)
		}
	}
}

func TestRoutersAlone(t *testing.T) {
	l := up(t, `
version: 1
name: routers
rooms: {a: router, b: router, c: {kind: router, addresses: [192.0.2.1/32]}}
links:
  - ends: [a:e0, b:e0]
  - {ends: [b:e1, c:e0], delay: 1ms}
expect:
  - ping: {from: a, to: c, count: 2, size: 3000}
  - path: {from: a, to: 192.0.2.1, hops: [b, c]}
  - ping: {from: c, to: 203.0.113.9, fails: true}
  - counter: {at: b, name: forwarded, min: 4}
  - counter: {at: "b:e0", name: rx_packets, min: 4}
  - counter: {at: b, name: drops.no-route, max: 0}
`)
	expectAll(t, l)
	n, err := l.Node("a")
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := n.Lookup(l.Resolved().Room("c")[0].Addr()); !ok || r.Interface != "e0" {
		t.Errorf("route %v %v", r, ok)
	}
	if _, err := l.Impair(context.Background(), "b:e1", mustWords(t, "loss", "1%")); err != nil {
		t.Fatal(err)
	}
	for _, k := range l.Status().Links {
		if k.Name == "b:e1--c:e0" && (k.Directions[0].Settings != "delay 1ms loss 1%" || k.Directions[1].Settings != "delay 1ms") {
			t.Errorf("settings %q, %q", k.Directions[0].Settings, k.Directions[1].Settings)
		}
	}
	for _, c := range []struct{ at, word string }{{"b:e1", "down"}, {"c:e0", "up"}} {
		now, err := l.Impair(context.Background(), c.at, mustWords(t, c.word))
		if down := c.word == "down"; err != nil || now["b:e1"].Down != down || now["c:e0"].Down != down {
			t.Errorf("%s %s: %+v, %v", c.at, c.word, now, err)
		}
	}
	var file bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Capture(ctx, []string{"b"}, &file, CaptureOptions{}); err != nil || file.Len() == 0 {
		t.Errorf("capture: %d bytes, %v", file.Len(), err)
	}
}

func mustWords(t *testing.T, words ...string) spec.Impair {
	t.Helper()
	i, err := spec.ParseWords(words)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestApplyChangesOnlyTheDifference(t *testing.T) {
	const before = `
version: 1
name: x
rooms: {a: router, b: router}
links:
  - ends: [a:e0, b:e0]
`
	l := up(t, before)
	node, err := l.Node("a")
	if err != nil {
		t.Fatal(err)
	}
	apply := func(text string) (steps []string, err error) {
		err = l.Apply(context.Background(), parse(t, text), func(s plan.Step) { steps = append(steps, s.String()) })
		return steps, err
	}
	if steps, err := apply(before); err != nil || len(steps) != 0 {
		t.Errorf("the same file: %v, %v", steps, err)
	}
	steps, err := apply(strings.Replace(before, "]\n", "]\n    delay: 5ms\n", 1))
	if err != nil || len(steps) != 2 || steps[0] != "~ a:e0 → b:e0: delay 5ms" {
		t.Errorf("a delay: %q, %v", steps, err)
	}
	if _, err := apply(before + "  - {ends: [a:e1, b:e1], loss: 1%}\n"); err != nil {
		t.Fatal(err)
	}
	if again, _ := l.Node("a"); again != node || node.InterfaceByName("e1") == nil {
		t.Error("the node was replaced, or has no second interface")
	}
	// A step that fails takes back those before it: /proc/1/x is no namespace.
	had := len(node.InterfaceList())
	_, err = apply(strings.Replace(before, "b: router", "b: router, c: router, d: {kind: namespace, path: /nonexistent/ns}", 1))
	if err == nil || !strings.Contains(err.Error(), "room d") {
		t.Errorf("error %v", err)
	}
	if _, err := l.Node("c"); err == nil || len(node.InterfaceList()) != had {
		t.Error("what was made is still there, or what was removed is not back")
	}
}

func TestPrograms(t *testing.T) {
	needTUN(t)
	l := up(t, `
version: 1
name: programs
rooms:
  a:
    kind: namespace
    run:
      - {name: talk, command: "echo hello; sleep 1000", ready: {output: hel+o}}
      - {name: env, command: "echo room $TAPROOM_ROOM $X; exit 3", env: {X: 7}}
expect:
  - exec: {room: a, command: [cat, /proc/self/net/dev], output: "lo:"}
  - exec: {room: a, command: "exit 4", exit: 4}
`)
	expectAll(t, l)
	p, err := l.Start("a", Command{Argv: []string{"cat"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Stdin.WriteString("to and fro")
	p.Stdin.Close()
	out, _ := io.ReadAll(p.Stdout)
	if string(out) != "to and fro" || p.Exit().Code != 0 {
		t.Errorf("cat said %q, %v", out, p.Exit())
	}
	p.Close()
	if _, err := l.Start("a", Command{Argv: []string{"no-such-program"}}); !strings.Contains(fmt.Sprint(err), "not found") {
		t.Errorf("missing program: %v", err)
	}
	err = l.Apply(context.Background(), parse(t, `
version: 1
name: programs
rooms: {a: {kind: namespace, run: [{command: "echo sorry >&2; exit 1", ready: {tcp: 1}}]}}
`), nil)
	if err == nil || !strings.Contains(err.Error(), "sorry") {
		t.Errorf("a program that fails: %v", err)
	}
	r, err := l.Room("a")
	if err != nil || len(r.Programs) != 2 || r.Programs[1].Pid == 0 {
		t.Errorf("programs after a failed apply: %+v, %v", r.Programs, err)
	}
}

func TestCapture(t *testing.T) {
	needTUN(t)
	l := up(t, `
version: 1
name: capture
rooms: {a: namespace, b: namespace}
links: [{name: cable, ends: ["a:e0", "b:e0"]}]
expect: [{ping: {from: a, to: b}}]
`)
	r, w := io.Pipe()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, err := l.Capture(ctx, []string{"a:e0", "b:e0"}, w, CaptureOptions{Count: 4})
		w.Close()
		done <- err
	}()
	ng, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	pinged := make(chan struct{})
	go func() { defer close(pinged); expectAll(t, l) }()
	seen := map[int]int{}
	for {
		_, info, err := ng.ReadPacketData()
		if err != nil {
			break
		}
		seen[info.InterfaceIndex]++
	}
	<-pinged
	if err := <-done; err != nil || seen[0]+seen[1] != 4 || seen[0] == 0 || seen[1] == 0 {
		t.Errorf("captured %v, %v", seen, err)
	}
	if face, _ := ng.Interface(1); face.Name != "b:e0" {
		t.Errorf("interface %q", face.Name)
	}
	if _, err := l.Capture(ctx, []string{"a:e0"}, full{}, CaptureOptions{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
}

// full is a disk that is.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A wire of a diamond is cut: routes lead round it, and come back.
func TestDiamond(t *testing.T) {
	needTUN(t)
	l := up(t, `
version: 1
name: diamond
rooms: {west: namespace, a: router, b: router, c: router, d: router, east: namespace}
links:
  - ends: [west:e0, a:west]
  - {name: upper, ends: [a:b, b:a]}
  - ends: [b:d, d:b]
  - {ends: [a:c, c:a], cost: 5}
  - {ends: [c:d, d:c], cost: 5}
  - ends: [d:east, east:e0]
expect:
  - path: {from: west, to: east, hops: [a, b, d, east]}
`)
	expectAll(t, l)
	steps := func(words ...string) {
		t.Helper()
		if _, err := l.Impair(context.Background(), "upper", mustWords(t, words...)); err != nil {
			t.Fatal(err)
		}
	}
	steps("down")
	x := &spec.Expectation{Path: &spec.PathExpect{From: "west", To: "east", Hops: []string{"a", "c", "d", "east"}}}
	if err := l.expect(t.Context(), x); err != nil {
		t.Errorf("cut: %v", err)
	}
	steps("up")
	expectAll(t, l)
}

// The far end of a TAP is removed under our feet.
func TestDeviceRemoved(t *testing.T) {
	needTUN(t)
	l := up(t, `
version: 1
name: removed
rooms: {a: namespace, b: router}
links: [{name: k, ends: ["a:e0", "b:e0"]}]
`)
	if err := l.expect(t.Context(), &spec.Expectation{Exec: &spec.ExecExpect{Room: "a", Command: spec.Command{"ip", "link", "del", "e0"}}}); err != nil {
		t.Skipf("needs ip: %v", err)
	}
	n, _ := l.Node("b")
	gone := make(chan struct{})
	var once sync.Once
	defer n.OnChange(func() {
		if ifc := n.InterfaceByName("e0"); ifc != nil && !ifc.Up() {
			once.Do(func() { close(gone) })
		}
	})()
	if n.InterfaceByName("e0").Up() {
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("the router's end stayed up")
		}
	}
	if s := l.Status().Links[0]; s.Up || s.Error == "" {
		t.Errorf("link %+v", s)
	}
}

func TestTwoHundredRooms(t *testing.T) {
	needTUN(t)
	if testing.Short() {
		t.Skip("needs a while")
	}
	// A hundred routers in a ring, each with a namespace.
	const n = 100
	var b strings.Builder
	b.WriteString("version: 1\nname: many\nrooms:\n")
	for i := range n {
		fmt.Fprintf(&b, "  h%d: namespace\n  r%d: router\n", i, i)
	}
	b.WriteString("links:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - ends: [h%d:e0, r%d:host]\n  - ends: [r%d:next, r%d:prev]\n", i, i, i, (i+1)%n)
	}
	start := time.Now()
	l := up(t, b.String())
	t.Logf("up in %v", time.Since(start))
	x := &spec.Expectation{Ping: &spec.PingExpect{From: "h0", To: "h50"}}
	if err := l.expect(t.Context(), x); err != nil {
		t.Error(err)
	}
	start = time.Now()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("down in %v", time.Since(start))
}
