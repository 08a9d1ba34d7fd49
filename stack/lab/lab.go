package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"taproom/stack"
	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
)

// Options of a lab. The zero value is fine.
type Options struct {
	// Log is told of events in words: a program that ended, a device that
	// failed. Nil forgets them.
	Log func(format string, args ...any)
	// Env is added to the environment of programs in rooms.
	Env []string
}

// The errors that callers can act on.
var (
	ErrClosed    = errors.New("lab: is down")
	ErrNoSuch    = errors.New("lab: no such thing")
	ErrWrongKind = errors.New("lab: wrong kind of room")
)

// Lab is a lab that runs.
type Lab struct {
	log   func(format string, args ...any)
	env   []string
	since time.Time

	changing sync.Mutex // held while Apply, Impair and Close work

	mu       sync.Mutex // guards the rest, never held while something is made
	closed   bool
	resolved *plan.Resolved
	rooms    map[string]*room
	links    map[string]*link
	sections map[string]func() error // how to take them down
}

// New is a lab without anything in it.
func New(o Options) (*Lab, error) {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return &Lab{
		log: o.Log, env: o.Env, since: time.Now(), resolved: &plan.Resolved{Lab: &spec.Lab{}},
		rooms: map[string]*room{}, links: map[string]*link{}, sections: map[string]func() error{},
	}, nil
}

// Plan are the steps Apply would take.
func (l *Lab) Plan(file *spec.Lab) ([]plan.Step, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	_, steps, err := l.plan(file)
	return steps, err
}

func (l *Lab) plan(file *spec.Lab) (*plan.Resolved, []plan.Step, error) {
	l.mu.Lock()
	old, closed := l.resolved, l.closed
	l.mu.Unlock()
	if closed {
		return nil, nil, ErrClosed
	}
	want, err := plan.Resolve(file, old)
	if err != nil {
		return nil, nil, err
	}
	return want, plan.Diff(old.Resources, want.Resources), nil
}

// Apply makes the lab what the file says, changing only the difference. If a
// step fails, the steps before it are taken back. Each step is reported before
// it is made; report may be nil.
func (l *Lab) Apply(ctx context.Context, file *spec.Lab, report func(plan.Step)) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.apply(ctx, file, report)
}

// apply is Apply for those who hold changing.
func (l *Lab) apply(ctx context.Context, file *spec.Lab, report func(plan.Step)) error {
	want, steps, err := l.plan(file)
	if err != nil {
		return err
	}
	d := &driver{lab: l, resolved: want, report: report}
	if err := plan.Run(ctx, d, steps); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	l.mu.Lock()
	l.resolved = want
	l.mu.Unlock()
	return nil
}

// Close takes everything down, whatever fails on the way.
func (l *Lab) Close() error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	have := l.resolved
	l.mu.Unlock()
	// What lives in a room goes with it: only what has to end in order is
	// taken down by steps.
	var steps []plan.Step
	for _, s := range plan.Diff(have.Resources, nil) {
		switch s.Old.Phase() {
		case plan.PhaseRoom, plan.PhaseLink, plan.PhaseSection, plan.PhaseProgram:
			steps = append(steps, s)
		}
	}
	return plan.RunAll(context.Background(), &driver{lab: l, resolved: have}, steps)
}

// Name of the lab, empty before the first Apply.
func (l *Lab) Name() string { return l.File().Name }

// File is the lab file as it was last applied.
func (l *Lab) File() *spec.Lab {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resolved.Lab
}

// Resolved is what was last applied, made explicit. It must not be changed.
func (l *Lab) Resolved() *plan.Resolved {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resolved
}

func (l *Lab) room(name string) (*room, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rooms[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%w: room %q (there are %s)", ErrNoSuch, name, strings.Join(slices.Sorted(maps.Keys(l.rooms)), ", "))
}

// Node is the node of a router, for subsystems.
func (l *Lab) Node(name string) (*stack.Node, error) {
	r, err := l.room(name)
	if err != nil {
		return nil, err
	}
	if r.node == nil {
		return nil, fmt.Errorf("%w: %s is a namespace, and this needs a router", ErrWrongKind, name)
	}
	return r.node, nil
}

// Nodes are all routers by name.
func (l *Lab) Nodes() map[string]*stack.Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]*stack.Node{}
	for name, r := range l.rooms {
		if r.node != nil {
			out[name] = r.node
		}
	}
	return out
}
