package netns

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoThreadLeftBehind works in several namespaces from many goroutines and
// then looks where every thread of this process is.
func TestNoThreadLeftBehind(t *testing.T) {
	rooms := []*Namespace{mustNew(t, Options{}), mustNew(t, Options{}), mustNew(t, Options{User: true})}
	failure := errors.New("on purpose")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			n := rooms[i%len(rooms)]
			if i%2 == 0 {
				if err := n.Configure(Config{Loopback: true}); err != nil {
					t.Error(err)
				}
				return
			}
			err := n.Do(func() error {
				var a, b unix.Stat_t
				if err := errors.Join(unix.Stat("/proc/thread-self/ns/net", &a), unix.Fstat(int(n.file.Fd()), &b)); err != nil {
					return err
				}
				if a.Ino != b.Ino {
					t.Error("Do runs in another namespace")
				}
				return failure
			})
			if err != failure && !errors.Is(err, ErrThreadOnly) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal("no threads: ", err)
	}
	for _, path := range threads {
		if l, err := os.Readlink(path); err == nil && l != home {
			t.Errorf("%s is %s, this process is in %s", path, l, home)
		}
	}
}

func TestOpenPID(t *testing.T) {
	n := mustNew(t, Options{})
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if n.agent != nil {
		t.Skip("needs root: the process is the guardian outside")
	}
	m, err := OpenPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if inode(t, m) != inode(t, n) {
		t.Error("another namespace than that of the process")
	}
}
