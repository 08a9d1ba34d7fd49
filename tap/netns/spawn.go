package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Agents ask the kernel to kill them when their parent dies
// (PR_SET_PDEATHSIG), and there the parent is the thread that forked, not the
// process. So all forks are done by one thread that lives as long as any of
// its children.
var spawner spawnThread

type spawnThread struct {
	mu       sync.Mutex
	children int
	jobs     chan func() // nil while there is no thread
}

// onSpawner runs f on the spawning thread, and keeps that thread if f
// succeeds: then spawnerDone is to be called once the child has been reaped.
func onSpawner(f func() error) error {
	s := &spawner
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs == nil {
		s.jobs = make(chan func())
		go func(jobs chan func()) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for f := range jobs {
				f()
			}
		}(s.jobs)
	}
	done := make(chan error, 1)
	s.jobs <- func() { done <- f() }
	err := <-done
	s.children++
	if err != nil {
		s.releaseLocked()
	}
	return err
}

func spawnerDone() {
	spawner.mu.Lock()
	defer spawner.mu.Unlock()
	spawner.releaseLocked()
}

func (s *spawnThread) releaseLocked() {
	if s.children--; s.children == 0 {
		close(s.jobs)
		s.jobs = nil
	}
}

// agentEnv is the environment of an agent: the marker, and one processor
// because it waits all its life.
func agentEnv(mode string) []string {
	env := os.Environ()
	out := env[:0:0]
	for _, e := range env {
		if !strings.HasPrefix(e, marker+"=") && !strings.HasPrefix(e, "GOMAXPROCS=") {
			out = append(out, e)
		}
	}
	return append(out, marker+"="+mode+":"+fmt.Sprint(os.Getpid()), "GOMAXPROCS=1")
}

// enterWithAgent starts an agent in an existing namespace and the user
// namespace that owns it.
func enterWithAgent(n *Namespace) (*agent, error) {
	user, err := ownerOf(n)
	if err != nil {
		return nil, err
	}
	defer unix.Close(user)
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	argv0, _ := syscall.BytePtrFromString(self)
	argv, _ := syscall.SlicePtrFromStrings([]string{"taproom-agent"})
	env, err := syscall.SlicePtrFromStrings(agentEnv(modeServe))
	if err != nil {
		return nil, fmt.Errorf("netns: environment: %w", err)
	}
	ctl := int(theirs.Fd())
	c := &inside{user: user, net: int(n.file.Fd()), ctl: ctl, report: ctl, argv0: argv0, argv: &argv[0], env: &env[0]}
	var pid int
	err = onSpawner(func() error {
		p, errno := fork(c)
		if errno != 0 {
			return fmt.Errorf("netns: fork: %w", errno)
		}
		pid = p
		return nil
	})
	runtime.KeepAlive(argv)
	runtime.KeepAlive(env)
	if err != nil {
		conn.Close()
		return nil, err
	}
	a := &agent{conn: conn, wait: func() {
		var status syscall.WaitStatus
		for {
			if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		spawnerDone()
	}}
	theirs.Close()
	ns, err := a.hello()
	if err != nil {
		a.close()
		return nil, fmt.Errorf("netns: cannot enter %s: %w", n, err)
	}
	ns.Close()
	return a, nil
}

// ownerOf opens the user namespace that owns n.
func ownerOf(n *Namespace) (int, error) {
	fd, err := unix.IoctlRetInt(int(n.file.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return -1, fmt.Errorf("netns: %s belongs to a user namespace out of reach (run as its owner or as root): %w", n, err)
	}
	unix.CloseOnExec(fd)
	return fd, nil
}

// newWithUser starts an agent in a new user and network namespace.
func newWithUser(o Options) (*Namespace, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	uid, gid := os.Geteuid(), os.Getegid()
	cmd := &exec.Cmd{
		Path: self, Args: []string{"taproom-agent"}, Env: agentEnv(modeServe), Stderr: os.Stderr,
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET},
	}
	maps := o.SubIDs && haveSubIDs()
	if maps {
		cmd.Env = agentEnv(modeAwaitMap)
	} else {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	if err := onSpawner(cmd.Start); err != nil {
		conn.Close()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w (are user namespaces allowed? see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)", err)
		}
		return nil, fmt.Errorf("netns: cannot make a user and network namespace: %w", err)
	}
	a := &agent{conn: conn, wait: func() { cmd.Wait(); spawnerDone() }}
	theirs.Close()
	if maps {
		err = mapSubIDs(cmd.Process.Pid, uid, gid)
		if err == nil {
			_, err = conn.Write([]byte{'m'})
		}
	}
	var f *os.File
	if err == nil {
		f, err = a.hello()
	}
	if err != nil {
		a.close()
		return nil, err
	}
	n := &Namespace{file: f, agent: a, probe: true}
	if ino, err := n.Inode(); err == nil {
		n.name = fmt.Sprintf("net:[%d]", ino)
	}
	return n, nil
}
