package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Init()
	goleak.VerifyTestMain(m)
}

// mustNew makes a namespace or skips, saying what is missing.
func mustNew(t testing.TB, o Options) *Namespace {
	t.Helper()
	n, err := New(o)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("needs to make namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func inode(t *testing.T, n *Namespace) uint64 {
	t.Helper()
	i, err := n.Inode()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
	}{
		{"thread or agent", Options{}},
		{"user namespace", Options{User: true}},
		{"user namespace with further identities", Options{User: true, SubIDs: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here := inode(t, nil)
			n := mustNew(t, tt.o)
			if inode(t, n) == here {
				t.Error("the new namespace is the old one")
			}
			err := n.Configure(Config{
				Loopback: true,
				Sysctls:  map[string]string{"net.ipv4.ip_forward": "1"},
				Links: []Link{{Name: "lo", MTU: 9000, Addrs: []netip.Prefix{
					netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}}},
				Routes: []Route{
					{Dst: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("192.0.2.7")},
					{Dst: netip.MustParsePrefix("2001:db8:1::/48"), Dev: "lo", Metric: 7},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			l, err := n.Link("lo")
			if err != nil || !l.Up || l.MTU != 9000 {
				t.Errorf("lo is %+v, %v; want up, MTU 9000", l, err)
			}
			if inode(t, nil) != here {
				t.Error("this process changed its namespace")
			}
		})
	}
}

func TestErrorsKeepErrno(t *testing.T) {
	for _, o := range []Options{{}, {User: true}} {
		n := mustNew(t, o)
		err := n.Configure(Config{Sysctls: map[string]string{"net.ipv4.nothing": "1"}})
		if !errors.Is(err, unix.ENOENT) {
			t.Errorf("%+v: unknown sysctl: %v, want ENOENT", o, err)
		}
		err = n.Configure(Config{Sysctls: map[string]string{"../../etc/passwd": "1"}})
		if err == nil {
			t.Errorf("%+v: a path was taken for a sysctl", o)
		}
	}
}

// TestForeignNamespace works in the namespace of another process by its
// number, through the user namespace that owns it if need be.
func TestForeignNamespace(t *testing.T) {
	owner := mustNew(t, Options{User: true})
	n, err := Open(owner.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if os.Geteuid() == 0 {
		// Root could enter with a thread; take the way of ordinary users.
		if n.agent, err = enterWithAgent(n); err != nil {
			t.Fatal(err)
		}
		n.probe = true
	}
	if err := n.Configure(Config{Loopback: true}); err != nil {
		t.Fatal(err)
	}
	if l, err := owner.Link("lo"); err != nil || !l.Up {
		t.Errorf("lo is %+v, %v; want up", l, err)
	}
}

func TestNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: binds a namespace in " + Dir)
	}
	const name = "taproom-netns-test"
	n := mustNew(t, Options{Name: name})
	if _, err := New(Options{Name: name}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("second %s: %v, want EEXIST", name, err)
	}
	again, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if inode(t, again) != inode(t, n) {
		t.Error("opened another namespace than the one made")
	}
	again.Close()
	if err := Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(name); !errors.Is(err, unix.ENOENT) {
		t.Errorf("after Remove: %v, want ENOENT", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, path := range []string{"/proc/self/ns/user", "/dev/null", "/nowhere/ns", "", "..", "no-such-namespace"} {
		if n, err := Open(path); err == nil {
			n.Close()
			t.Errorf("Open(%q) succeeded", path)
		}
	}
}

func TestNoDescriptorsLeft(t *testing.T) {
	mustNew(t, Options{}) // the poller and the like
	before := descriptors(t)
	for range 5 {
		for _, o := range []Options{{}, {User: true}} {
			n, err := New(o)
			if err != nil {
				t.Skipf("needs to make namespaces: %v", err)
			}
			if err := n.Configure(Config{Loopback: true}); err != nil {
				t.Error(err)
			}
			n.Close()
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc/self/fd: ", err)
	}
	return len(d)
}

const opTestPID = "test.pid"

func init() {
	Register(opTestPID, func(json.RawMessage) (any, []*os.File, error) {
		fmt.Fprintln(os.Stderr, "agent", os.Getpid())
		return nil, nil, nil
	})
}
