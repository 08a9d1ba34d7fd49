package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"taproom/tap/netns"
)

const opStart = "lab.start"

// startArgs travel to the thread or agent that starts a program in a room.
type startArgs struct {
	Argv, Env []string
	Dir       string
	TTY       bool
	Size      WindowSize
}

func init() {
	netns.Register(opStart, func(raw json.RawMessage) (any, []*os.File, error) {
		var a startArgs
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, nil, fmt.Errorf("lab: start: %w", err)
		}
		return startHere(a)
	})
}

// startHere starts a program in the namespaces of the calling thread. The
// files are our ends of its standard input, output and error (or of its
// terminal), and of a pipe that tells how it ended.
func startHere(a startArgs) (any, []*os.File, error) {
	path, err := lookPath(a.Argv[0], a.Env)
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: a.Argv, Env: a.Env, Dir: a.Dir}
	// A session of its own, so that all of it can be signalled, and an end
	// with us if we are killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	var ours, theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	if a.TTY {
		ptmx, tty, err := openPTY(a.Size)
		if err != nil {
			return nil, nil, err
		}
		ours, theirs = []*os.File{ptmx}, []*os.File{tty}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		cmd.SysProcAttr.Setctty = true
	} else {
		for i := range 3 {
			r, w, err := os.Pipe()
			if err != nil {
				closeFiles(ours)
				return nil, nil, fmt.Errorf("lab: pipe: %w", err)
			}
			if i == 0 {
				cmd.Stdin = r
				r, w = w, r
			} else {
				*[]*io.Writer{&cmd.Stdout, &cmd.Stderr}[i-1] = w
			}
			ours, theirs = append(ours, r), append(theirs, w)
		}
	}
	status, report, err := os.Pipe()
	if err != nil {
		closeFiles(ours)
		return nil, nil, fmt.Errorf("lab: pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		closeFiles(append(ours, status, report))
		return nil, nil, fmt.Errorf("lab: start %s: %w", a.Argv[0], err)
	}
	go func() {
		defer report.Close()
		_ = cmd.Wait()
		_ = json.NewEncoder(report).Encode(exitOf(cmd.ProcessState))
	}()
	return cmd.Process.Pid, append(ours, status), nil
}

// lookPath finds a program by the PATH of the environment it will have, with
// the directories of system tools, which ordinary users often lack.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := os.Getenv("PATH")
	for _, e := range env {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			path = p
		}
	}
	for dir := range strings.SplitSeq(path+":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", ":") {
		if dir == "" {
			continue
		}
		full := dir + "/" + name
		if st, err := os.Stat(full); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", fmt.Errorf("lab: %q: %w", name, exec.ErrNotFound)
}

// Exit is how a program ended. Signal is 0 if it exited by itself; Code is
// then its status, else 128 and the signal, as shells say.
type Exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return "killed by " + unix.SignalName(syscall.Signal(e.Signal))
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

func exitOf(s *os.ProcessState) Exit {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return Exit{Code: 128 + int(w.Signal()), Signal: int(w.Signal())}
	}
	return Exit{Code: s.ExitCode()}
}

// Command is what to run in a room.
type Command struct {
	Argv []string   `json:"argv"`
	Env  []string   `json:"env,omitempty"` // added to taproom's own and the room's
	Dir  string     `json:"dir,omitempty"`
	TTY  bool       `json:"tty,omitempty"` // give it a terminal
	Size WindowSize `json:"size"`
}

// WindowSize is a terminal's, in characters.
type WindowSize struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Process is a program that runs in a room. With a terminal, Stdin and Stdout
// are the terminal and Stderr is nil. The caller closes all three.
type Process struct {
	Pid                   int
	Stdin, Stdout, Stderr *os.File

	done chan struct{}
	exit Exit
}

// Done is closed when the program has ended; Exit then says how.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit waits for the end.
func (p *Process) Exit() Exit { <-p.done; return p.exit }

// Signal sends a signal to the program and everything in its session's first
// process group.
func (p *Process) Signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return unix.Kill(-p.Pid, s)
	}
}

// Resize tells a terminal its new size.
func (p *Process) Resize(s WindowSize) error {
	if p.Stderr != nil {
		return errors.New("lab: no terminal")
	}
	return setSize(p.Stdin, s)
}

// Close closes our ends of the program's files.
func (p *Process) Close() {
	p.Stdin.Close()
	if p.Stderr != nil {
		p.Stdout.Close()
		p.Stderr.Close()
	}
}

// Start starts a program in a namespace. It is killed with the room.
func (l *Lab) Start(room string, c Command) (*Process, error) {
	r, err := l.room(room)
	if err != nil {
		return nil, err
	}
	return r.start(c)
}

func (r *room) start(c Command) (*Process, error) {
	if r.ns == nil {
		return nil, fmt.Errorf("%w: %s is a router, and programs run in namespaces", ErrWrongKind, r.name)
	}
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("lab: no command")
	}
	// Registering before the start would race with killAll, and after it too;
	// so both happen under the lock.
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	env := append(append(os.Environ(), r.env...), c.Env...)
	var pid int
	files, err := r.ns.Call(opStart, startArgs{c.Argv, env, c.Dir, c.TTY, c.Size}, &pid)
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if files[i], err = polled(f); err != nil {
			closeFiles(files)
			_ = unix.Kill(-pid, unix.SIGKILL)
			return nil, err
		}
	}
	p := &Process{Pid: pid, Stdin: files[0], Stdout: files[0], done: make(chan struct{})}
	if !c.TTY {
		p.Stdout, p.Stderr = files[1], files[2]
	}
	r.processes[p] = struct{}{}
	go func() {
		status := files[len(files)-1]
		defer status.Close()
		p.exit.Code = -1 // what it stays if the agent dies
		_ = json.NewDecoder(status).Decode(&p.exit)
		close(p.done)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.processes, p)
	}()
	return p, nil
}

// killAll ends everything that runs in the room, and keeps new things from
// starting. Programs get a moment to end in order.
func (r *room) killAll() {
	r.mu.Lock()
	r.closed = true
	var all []*Process
	for p := range r.processes {
		all = append(all, p)
	}
	r.mu.Unlock()
	terminate(all...)
}

// polled makes the runtime's poller wait for a file, so that closing it ends a
// read.
func polled(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f, fmt.Errorf("lab: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return f, fmt.Errorf("lab: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
