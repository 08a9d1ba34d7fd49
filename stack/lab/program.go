package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"taproom/stack/lab/spec"
)

// program keeps one program of the lab file running as its restart rule says.
//
//	running ──ended──▶ waiting ──timer──▶ running
//	   └───────ended, no restart, or stop──▶ over
type program struct {
	room *room
	spec spec.Program
	log  func(format string, args ...any)
	out  output

	cancel context.CancelFunc
	over   chan struct{}

	mu       sync.Mutex
	process  *Process // nil while it does not run
	last     *Exit
	restarts int
}

// How long a program may take to end when it is asked to, and the bounds of
// the pause before it is started again.
const (
	killAfter   = 2 * time.Second
	firstPause  = time.Second
	longestWait = 30 * time.Second
	readyWithin = 10 * time.Second
	readyEvery  = 50 * time.Millisecond
)

// addProgram starts a program and waits until it is ready.
func (r *room) addProgram(ctx context.Context, s spec.Program, log func(string, ...any)) error {
	background, cancel := context.WithCancel(context.Background())
	p := &program{room: r, spec: s, log: log, cancel: cancel, over: make(chan struct{})}
	first, err := p.start()
	if err != nil {
		cancel()
		return err
	}
	go p.supervise(background, first)
	if err := p.waitReady(ctx); err != nil {
		p.stop()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.programs[s.Name] = p
	return nil
}

func (r *room) removeProgram(name string) error {
	r.mu.Lock()
	p := r.programs[name]
	delete(r.programs, name)
	r.mu.Unlock()
	if p != nil {
		p.stop()
	}
	return nil
}

func (p *program) start() (*Process, error) {
	var env []string
	for k, v := range p.spec.Env {
		env = append(env, k+"="+string(v))
	}
	proc, err := p.room.start(Command{Argv: p.spec.Command, Env: env, Dir: p.spec.Dir})
	if err != nil {
		return nil, err
	}
	proc.Stdin.Close()
	p.mu.Lock()
	p.process = proc
	p.mu.Unlock()
	return proc, nil
}

// supervise follows the program until it is over.
func (p *program) supervise(ctx context.Context, proc *Process) {
	defer close(p.over)
	pause := firstPause
	for {
		started := time.Now()
		exit := p.follow(ctx, proc)
		if ctx.Err() != nil {
			return
		}
		if p.spec.Restart != "always" && (p.spec.Restart != "on-failure" || exit.Code == 0) {
			if exit.Code != 0 {
				p.log("%s: program %s ended: %v", p.room.name, p.spec.Name, exit)
			}
			return
		}
		if time.Since(started) > longestWait {
			pause = firstPause
		}
		p.log("%s: program %s ended: %v; starting it again in %v", p.room.name, p.spec.Name, exit, pause)
		for proc = nil; proc == nil; pause = min(2*pause, longestWait) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			var err error
			if proc, err = p.start(); err != nil {
				p.log("%s: program %s: %v", p.room.name, p.spec.Name, err)
			}
		}
		p.mu.Lock()
		p.restarts++
		p.mu.Unlock()
	}
}

// follow reads a program's output until it ends or ctx does, which ends it.
func (p *program) follow(ctx context.Context, proc *Process) Exit {
	var readers sync.WaitGroup
	readers.Go(func() { p.out.copy(proc.Stdout) })
	readers.Go(func() { p.out.copy(proc.Stderr) })
	select {
	case <-proc.Done():
	case <-ctx.Done():
		terminate(proc)
	}
	exit := proc.Exit()
	p.mu.Lock()
	p.process, p.last = nil, &exit
	p.mu.Unlock()
	// Children that live on may hold the pipes; they are in our session.
	_ = syscall.Kill(-proc.Pid, syscall.SIGKILL)
	proc.Close()
	readers.Wait()
	return exit
}

func (p *program) stop() {
	p.cancel()
	<-p.over
}

// terminate asks processes to end, waits a moment, and then kills them.
func terminate(all ...*Process) {
	for _, p := range all {
		_ = p.Signal(syscall.SIGTERM)
		_ = p.Signal(syscall.SIGHUP) // shells ignore SIGTERM
	}
	deadline := time.NewTimer(killAfter)
	defer deadline.Stop()
	for _, p := range all {
		select {
		case <-p.Done():
		case <-deadline.C:
			deadline.Reset(0)
			_ = p.Signal(syscall.SIGKILL)
		}
		<-p.Done()
	}
}

// waitReady returns when the condition of the file is true.
func (p *program) waitReady(ctx context.Context) error {
	y := p.spec.Ready
	if y == nil {
		return nil
	}
	within := time.Duration(y.Within)
	if within == 0 {
		within = readyWithin
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		ok, err := p.ready(ctx, y)
		if err != nil || ok {
			return err
		}
		select {
		case <-p.over:
			return fmt.Errorf("it ended before it was ready: %v%s", *p.last, p.out.tail())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not ready within %v%s", within, p.out.tail())
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (p *program) ready(ctx context.Context, y *spec.Ready) (bool, error) {
	switch {
	case y.TCP != 0:
		var ok bool
		_, err := p.room.ns.Call(opListens, y.TCP, &ok)
		return ok, err
	case y.Output != "":
		return p.out.matches(regexp.MustCompile(string(y.Output))), nil // checked by spec
	default:
		exit, _, err := p.room.run(ctx, Command{Argv: y.Command}, 0)
		return exit.Code == 0, err
	}
}

// run runs a command to its end and returns what it printed, up to limit
// bytes. The end of ctx ends it.
func (r *room) run(ctx context.Context, c Command, limit int64) (Exit, string, error) {
	proc, err := r.start(c)
	if err != nil {
		return Exit{}, "", err
	}
	defer proc.Close()
	proc.Stdin.Close()
	stop := context.AfterFunc(ctx, func() { terminate(proc) })
	defer stop()
	var text [2]strings.Builder
	var readers sync.WaitGroup
	for i, f := range []io.Reader{proc.Stdout, proc.Stderr} {
		readers.Go(func() {
			_, _ = io.Copy(&text[i], io.LimitReader(f, limit))
			_, _ = io.Copy(io.Discard, f)
		})
	}
	exit := proc.Exit()
	_ = syscall.Kill(-proc.Pid, syscall.SIGKILL)
	readers.Wait()
	return exit, text[0].String() + text[1].String(), ctx.Err()
}

// output keeps the last lines that a program printed.
type output struct {
	mu    sync.Mutex
	lines []string
}

const keepLines = 200

func (o *output) copy(r io.Reader) {
	s := bufio.NewReaderSize(r, 4096)
	for {
		line, err := s.ReadSlice('\n') // longer lines come in pieces
		if len(line) > 0 {
			o.add(strings.TrimRight(string(line), "\r\n"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (o *output) add(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == keepLines {
		o.lines = append(o.lines[:0], o.lines[keepLines/2:]...)
	}
	o.lines = append(o.lines, line)
}

func (o *output) matches(re *regexp.Regexp) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.lines {
		if re.MatchString(l) {
			return true
		}
	}
	return false
}

// tail is the last lines, to be added to an error.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == 0 {
		return ""
	}
	return "; it printed:\n  " + strings.Join(o.lines[max(0, len(o.lines)-5):], "\n  ")
}

func (o *output) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.lines...)
}
