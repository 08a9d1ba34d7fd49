package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir is where named network namespaces are, as for ip-netns(8).
const Dir = "/run/netns"

// ErrNotNetns is returned for a path that is no network namespace.
var ErrNotNetns = errors.New("netns: not a network namespace")

// ErrThreadOnly is returned by Do for a namespace that only an agent can
// enter; Call works there.
var ErrThreadOnly = errors.New("netns: this process may not enter the namespace itself")

// Namespace is an open network namespace.
type Namespace struct {
	file *os.File
	name string // for messages

	mu    sync.Mutex
	agent *agent // if the namespace can only be worked in from inside
	probe bool   // whether agent has been decided
}

// Open opens the namespace at path: a file in /proc/PID/ns, one bound by
// ip-netns(8), or just the name of the latter.
func Open(path string) (*Namespace, error) {
	if !strings.ContainsRune(path, '/') {
		if err := checkName(path); err != nil {
			return nil, err
		}
		path = filepath.Join(Dir, path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("netns: cannot open namespace: %w", err)
	}
	n, err := fromFile(f, path)
	if err != nil {
		f.Close()
	}
	return n, err
}

// OpenPID opens the network namespace of a process.
func OpenPID(pid int) (*Namespace, error) {
	return Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
}

// FromFile makes a Namespace of an open namespace file, which it takes over
// if it succeeds.
func FromFile(f *os.File) (*Namespace, error) { return fromFile(f, f.Name()) }

func fromFile(f *os.File, name string) (*Namespace, error) {
	t, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || t != unix.CLONE_NEWNET {
		return nil, fmt.Errorf("%w: %s", ErrNotNetns, name)
	}
	return &Namespace{file: f, name: name}, nil
}

// String is the path, name or number by which the namespace is known.
func (n *Namespace) String() string {
	if n == nil {
		return ""
	}
	return n.name
}

// Path is a path at which other processes of the same user can open the
// namespace while it is open here.
func (n *Namespace) Path() string {
	if n == nil {
		return "/proc/" + strconv.Itoa(os.Getpid()) + "/ns/net"
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// File is the open namespace; it stays the Namespace's.
func (n *Namespace) File() *os.File { return n.file }

// Inode identifies the namespace on this machine: the number in
// "net:[4026531840]".
func (n *Namespace) Inode() (uint64, error) {
	var st unix.Stat_t
	if n == nil {
		if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
			return 0, fmt.Errorf("netns: stat /proc/self/ns/net: %w", err)
		}
		return st.Ino, nil
	}
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return 0, fmt.Errorf("netns: stat %s: %w", n, err)
	}
	return st.Ino, nil
}

// Close lets go of the namespace and ends its agent. The namespace itself goes
// when nobody uses it any more.
func (n *Namespace) Close() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	a := n.agent
	n.agent, n.probe = nil, true
	n.mu.Unlock()
	if a != nil {
		a.close()
	}
	return n.file.Close()
}

// Do runs f on a thread that is in the namespace. Goroutines that f starts are
// not. It fails with ErrThreadOnly where only an agent can work.
func (n *Namespace) Do(f func() error) error {
	if n == nil {
		return f()
	}
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			if err == unix.EPERM {
				return fmt.Errorf("%w: %s: %w", ErrThreadOnly, n, err)
			}
			return fmt.Errorf("netns: cannot enter %s: %w", n, err)
		}
		return f()
	})
}

// onThread runs f on a thread that may change its network namespace, and
// brings it back afterwards. The thread is f's alone, so that it can die if it
// cannot be brought back: its goroutine then ends while locked to it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("netns: cannot open this thread's namespace: %w", err)
			return
		}
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil || unchanged(home) {
			runtime.UnlockOSThread()
		}
		unix.Close(home)
		done <- err
	}()
	return <-done
}

// unchanged reports whether the thread is in the namespace home. A process
// without privilege cannot enter even the one it is in.
func unchanged(home int) bool {
	var a, b unix.Stat_t
	return unix.Fstat(home, &a) == nil && unix.Stat("/proc/thread-self/ns/net", &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// checkName accepts what ip-netns(8) does: one path element.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return fmt.Errorf("netns: invalid namespace name %q", name)
	}
	return nil
}
