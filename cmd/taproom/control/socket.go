package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the folder of the sockets.
func Dir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "taproom")
	}
	if os.Geteuid() == 0 {
		return "/run/taproom"
	}
	return filepath.Join(os.TempDir(), "taproom-"+strconv.Itoa(os.Geteuid()))
}

// makeDir makes Dir, and refuses one that others could have made.
func makeDir() (string, error) {
	d := Dir()
	if err := os.MkdirAll(d, 0o700); err != nil {
		return "", fmt.Errorf("control: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(d, &st); err != nil {
		return "", fmt.Errorf("control: %s: %w", d, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return "", fmt.Errorf("control: %s is not a folder of this user: remove it", d)
	}
	return d, os.Chmod(d, 0o700)
}

// OpenLog opens the log of a lab in the background, to be appended to.
func OpenLog(name string) (*os.File, error) {
	d, err := makeDir()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d, name+".log"), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control: log: %w", err)
	}
	return f, nil
}

// ErrRunning is returned by Claim when the lab is up already.
var ErrRunning = errors.New("control: lab is up already")

// Claim is the right to run a lab of a name.
type Claim struct {
	Name, Socket, Log string
	Instance          string // identifies this run; programs carry it in TAPROOM_INSTANCE
	pid               *os.File
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// NewClaim claims a name, and removes what a killed owner left: its socket and
// the programs that outlived it.
func NewClaim(name string) (*Claim, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("control: %q is no name of a lab", name)
	}
	d, err := makeDir()
	if err != nil {
		return nil, err
	}
	c := &Claim{Name: name, Socket: filepath.Join(d, name+".sock"), Log: filepath.Join(d, name+".log")}
	if c.pid, err = lockPid(filepath.Join(d, name+".pid"), c.Socket); err != nil {
		if errors.Is(err, ErrRunning) {
			err = fmt.Errorf("%w: %s (taproom down --lab %s)", ErrRunning, name, name)
		}
		return nil, err
	}
	b := make([]byte, 256)
	n, _ := c.pid.ReadAt(b, 0)
	if _, stale, ok := strings.Cut(strings.TrimSpace(string(b[:n])), " "); ok {
		killInstance(stale)
	}
	_ = os.Remove(c.Socket)
	c.Instance = fmt.Sprintf("%s-%d-%d", name, os.Getpid(), startTime())
	_ = c.pid.Truncate(0)
	if _, err := c.pid.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), c.Instance), 0); err != nil {
		c.Release()
		return nil, fmt.Errorf("control: %w", err)
	}
	return c, nil
}

// leaving is how long a claim waits for an owner that does not answer: a killed
// process holds its locks until the kernel has taken its devices down.
const leaving = 3 * time.Second

// lockPid opens and locks a pid file. Release removes the file, so a lock counts
// only if the name still leads to what was locked.
func lockPid(path, socket string) (*os.File, error) {
	for end := time.Now().Add(leaving); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
		locked := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		if locked {
			mine, err := f.Stat()
			if there, e := os.Lstat(path); err == nil && e == nil && os.SameFile(mine, there) {
				return f, nil
			}
		}
		running := !locked && answers(f, socket)
		f.Close()
		if running || time.Now().After(end) {
			return nil, ErrRunning
		}
	}
}

// answers reports whether the process that wrote a pid file is not about to end
// and listens.
func answers(f *os.File, socket string) bool {
	b := make([]byte, 256)
	n, _ := f.ReadAt(b, 0)
	pid, _, _ := strings.Cut(string(b[:n]), " ")
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return false
	}
	// The state follows the name in brackets: Z and X are dead (proc_pid_stat).
	if _, state, _ := strings.Cut(string(stat), ") "); state == "" || strings.ContainsAny(state[:1], "ZX") {
		return false
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// Release removes the claim's files and the claim.
func (c *Claim) Release() {
	_ = os.Remove(c.Socket)
	_ = os.Remove(c.Log)
	_ = os.Remove(c.pid.Name())
	c.pid.Close()
}

// startTime is when this process started, in clock ticks since boot
// (proc_pid_stat, field 22): with the number it is unique.
func startTime() uint64 {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > 19 {
		n, _ := strconv.ParseUint(f[19], 10, 64)
		return n
	}
	return 0
}

// killInstance ends programs of a daemon that was killed. The kernel ended
// those it had started itself; this finds their children by environment.
func killInstance(instance string) {
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || instance == "" {
		return
	}
	want := "TAPROOM_INSTANCE=" + instance
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !slices.Contains(strings.Split(string(b), "\x00"), want) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// Listen opens the socket.
func (c *Claim) Listen() (net.Listener, error) {
	// Nobody else may connect between bind and chmod: the folder is closed.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if err := os.Chmod(c.Socket, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	return ownerOnly{l}, nil
}

// ownerOnly hangs up on peers of other users.
type ownerOnly struct{ *net.UnixListener }

func (l ownerOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUser(c); err == nil && (uid == os.Geteuid() || uid == 0) {
			return c, nil
		}
		c.Close()
	}
}

func peerUser(c *net.UnixConn) (int, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := rc.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return -1, err
	}
	if credErr != nil {
		return -1, credErr
	}
	return int(cred.Uid), nil
}

// Instance is a lab that is up, as List finds it.
type Instance struct {
	Name   string `json:"name"`
	Pid    int    `json:"pid"`
	Socket string `json:"socket"`
}

// List finds the labs of this user that are up.
func List() ([]Instance, error) {
	files, err := filepath.Glob(filepath.Join(Dir(), "*.pid"))
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	var out []Instance
	for _, f := range files {
		if alive, pid := holder(f); alive {
			base := strings.TrimSuffix(f, ".pid")
			out = append(out, Instance{Name: filepath.Base(base), Pid: pid, Socket: base + ".sock"})
		}
	}
	return out, nil
}

// holder reports whether somebody holds the lock on a pid file, and who says
// so.
func holder(path string) (alive bool, pid int) {
	f, err := os.Open(path)
	if err != nil {
		return false, 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return false, 0
	}
	b := make([]byte, 64)
	n, _ := f.Read(b)
	first, _, _ := strings.Cut(string(b[:n]), " ")
	pid, _ = strconv.Atoi(strings.TrimSpace(first))
	return true, pid
}
