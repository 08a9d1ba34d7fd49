package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Options say what namespace New makes. The zero value is an anonymous one in
// the user namespace of this process, which needs CAP_SYS_ADMIN.
type Options struct {
	// Name binds the namespace to /run/netns/NAME (needs privilege over the
	// mount namespace). Such a namespace stays until Remove.
	Name string
	// User makes a new user namespace too, which needs no privilege. An agent
	// then lives in it until Close. It is done by itself where this process
	// has no CAP_SYS_ADMIN and Name is empty.
	User bool
	// SubIDs maps the user's ranges from /etc/subuid and /etc/subgid with
	// newuidmap and newgidmap, for programs that need several users. Without
	// it, or if those tools are missing, only root is mapped, to this user.
	SubIDs bool
}

// New makes a network namespace, with its loopback down as Linux makes it.
func New(o Options) (*Namespace, error) {
	if o.Name != "" {
		if err := checkName(o.Name); err != nil {
			return nil, err
		}
		if o.User {
			return nil, errors.New("netns: a namespace with its own user namespace cannot have a name")
		}
	}
	if o.User {
		return newWithUser(o)
	}
	n, err := newOnThread(o.Name)
	if errors.Is(err, unix.EPERM) && o.Name == "" {
		return newWithUser(o)
	}
	return n, err
}

// newOnThread lets a thread unshare, takes hold of the new namespace and lets
// the thread go back.
func newOnThread(name string) (n *Namespace, err error) {
	err = onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netns: cannot make a network namespace: %w", err)
		}
		n, err = hold(name)
		return err
	})
	return n, err
}

// hold opens the calling thread's namespace and binds it to its name.
func hold(name string) (*Namespace, error) {
	f, err := os.OpenFile("/proc/thread-self/ns/net", os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("netns: cannot open the new namespace: %w", err)
	}
	n := &Namespace{file: f, name: name, probe: true}
	if name == "" {
		if ino, err := n.Inode(); err == nil {
			n.name = fmt.Sprintf("net:[%d]", ino)
		}
		return n, nil
	}
	if err := bind(name); err != nil {
		f.Close()
		return nil, err
	}
	return n, nil
}

func bind(name string) error {
	if err := shareDir(); err != nil {
		return err
	}
	path := filepath.Join(Dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("netns: a namespace named %q exists (remove it with `ip netns del %s`): %w", name, name, err)
	} else if err != nil {
		return fmt.Errorf("netns: cannot name namespace %q: %w", name, err)
	}
	f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("netns: cannot bind namespace %q: %w", name, err)
	}
	return nil
}

// shareDir makes Dir a shared mount, so that removing a name here frees the
// namespace in other mount namespaces as well (as ip-netns does).
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	for range 2 {
		err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		if err == nil {
			return nil
		}
		if err != unix.EINVAL { // EINVAL: not a mount point yet
			return fmt.Errorf("netns: cannot share %s: %w", Dir, err)
		}
		if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("netns: cannot make %s a mount: %w", Dir, err)
		}
	}
	return nil
}

// Remove takes the name of a named namespace away.
func Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := filepath.Join(Dir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return fmt.Errorf("netns: cannot unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	return nil
}
