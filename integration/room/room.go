// Package room gives integration tests and benchmarks their surroundings:
// network namespaces of a real kernel on both sides of a taproom node, and
// programs to run in them. It needs root, or user namespaces, and says which
// of them is missing.
package room

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"taproom/stack"
	"taproom/tap"
	"taproom/tap/netns"
)

// Need skips a test that lacks something, naming it; where it ought to be
// there (TAPROOM_REQUIRE lists it, or "all") the test fails.
func Need(t testing.TB, what ...string) {
	t.Helper()
	for _, w := range what {
		err := check(w)
		if err == nil {
			continue
		}
		for _, r := range strings.Split(os.Getenv("TAPROOM_REQUIRE"), ",") {
			if r == w || r == "all" {
				t.Fatalf("%s is required here: %v", w, err)
			}
		}
		t.Skipf("needs %s: %v", w, err)
	}
}

// check looks for "root", "tun", or a program.
func check(what string) error {
	switch what {
	case "root":
		if os.Geteuid() != 0 {
			return errors.New("this process is not root")
		}
		return nil
	case "tun":
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
	_, err := exec.LookPath(what)
	return err
}

// Room is a network namespace with one TAP, whose other end is a device here.
type Room struct {
	Name string
	Ns   *netns.Namespace
	Dev  *tap.TAP
}

// Config says how a room is connected.
type Config struct {
	Addrs    []string // of its interface, with prefix lengths
	Via      []string // default gateways
	MTU      int      // 0 is 1500
	Offloads *tap.Offloads
	Queues   int
	GRO      bool // join what its TAP delivers in single frames
	Sysctls  map[string]string
}

// New makes a room with an interface eth0.
func New(name string, c Config) (*Room, error) {
	ns, err := netns.New(netns.Options{})
	if err != nil {
		return nil, err
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	r := &Room{Name: name, Ns: ns}
	r.Dev, err = tap.Open(tap.Options{Name: "eth0", Namespace: ns, MTU: c.MTU, Up: true, Offloads: c.Offloads, Queues: c.Queues, GRO: c.GRO})
	if err != nil {
		_ = ns.Close()
		return nil, err
	}
	l := netns.Link{Name: "eth0", Up: true}
	for _, a := range c.Addrs {
		l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
	}
	cfg := netns.Config{Loopback: true, Sysctls: c.Sysctls, Links: []netns.Link{l}}
	for _, v := range c.Via {
		via := netip.MustParseAddr(v)
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		cfg.Routes = append(cfg.Routes, netns.Route{Dst: dst, Via: via, Dev: "eth0"})
	}
	if err := ns.Configure(cfg); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close ends the room. Its device may be closed already, by a node.
func (r *Room) Close() error {
	err := r.Dev.Close()
	if errors.Is(err, tap.ErrClosed) {
		err = nil
	}
	return errors.Join(err, r.Ns.Close())
}

// Command prepares a program that runs in the room.
func (r *Room) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + r.Ns.Path(), "--", name}, args...)...)
}

// Output runs a program in the room for at most half a minute and returns
// what it printed on both outputs.
func (r *Room) Output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var b bytes.Buffer
	c := r.Command(ctx, name, args...)
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%s: %s %s: %w\n%s", r.Name, name, strings.Join(args, " "), err, b.String())
	}
	return b.String(), err
}

// Run is Output for tests: an error is fatal.
func (r *Room) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := r.Output(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Join connects a room to a node, as an interface of the given name.
func (r *Room) Join(n *stack.Node, name string, addrs ...string) (*stack.Interface, error) {
	c := stack.InterfaceConfig{Name: name}
	for _, a := range addrs {
		c.Addresses = append(c.Addresses, netip.MustParsePrefix(a))
	}
	return n.AddInterface(r.Dev, c)
}

// Two is the usual scene: A - node - B, with routes, IPv4 and IPv6.
type Two struct {
	A, B *Room
	Node *stack.Node
}

// The addresses of Two.
const (
	A4, A6 = "10.1.0.2", "fd01::2"
	B4, B6 = "10.2.0.2", "fd02::2"
)

// NewTwo makes the scene. a and b may set MTU, offloads, queues and sysctls.
func NewTwo(a, b Config) (*Two, error) {
	t := new(Two)
	ok := false
	defer func() {
		if !ok {
			t.Close()
		}
	}()
	var err error
	a.Addrs, a.Via = []string{A4 + "/24", A6 + "/64"}, []string{"10.1.0.1", "fd01::1"}
	b.Addrs, b.Via = []string{B4 + "/24", B6 + "/64"}, []string{"10.2.0.1", "fd02::1"}
	if t.A, err = New("a", a); err != nil {
		return nil, err
	}
	if t.B, err = New("b", b); err != nil {
		return nil, err
	}
	if t.Node, err = stack.New(stack.Options{Name: "r"}); err != nil {
		return nil, err
	}
	if _, err = t.A.Join(t.Node, "eth0", "10.1.0.1/24", "fd01::1/64"); err != nil {
		return nil, err
	}
	if _, err = t.B.Join(t.Node, "eth1", "10.2.0.1/24", "fd02::1/64"); err != nil {
		return nil, err
	}
	ok = true
	return t, nil
}

// Close ends the scene.
func (t *Two) Close() {
	if t.Node != nil {
		t.Node.Close()
	}
	for _, r := range []*Room{t.A, t.B} {
		if r != nil {
			_ = r.Close()
		}
	}
}
