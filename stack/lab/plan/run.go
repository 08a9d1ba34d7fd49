package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Driver makes resources real. Calls come one at a time. A call that fails
// has changed nothing.
type Driver interface {
	Add(ctx context.Context, r Resource) error
	Change(ctx context.Context, old, new Resource) error
	Remove(ctx context.Context, r Resource) error
}

// RouteAdder is a Driver that is faster with many routes of one room at a
// time: a routing table is rebuilt with every change. If the call fails, it has
// added none.
type RouteAdder interface {
	AddRoutes(ctx context.Context, rs []Route) error
}

// Run carries out steps. When one fails, or ctx ends, those before it are
// taken back, youngest first, and the error says what failed; what cannot be
// taken back is added to it.
func Run(ctx context.Context, d Driver, steps []Step) error {
	for i := 0; i < len(steps); {
		n, err := 1, ctx.Err()
		if err == nil {
			n, err = some(ctx, d, steps[i:])
		}
		if err == nil {
			i += n
			continue
		}
		err = fmt.Errorf("%v: %w", steps[i], err)
		undo := context.WithoutCancel(ctx)
		for _, done := range slices.Backward(steps[:i]) {
			if e := step(undo, d, done.inverse()); e != nil {
				err = errors.Join(err, fmt.Errorf("taking back %v: %w", done, e))
			}
		}
		return err
	}
	return nil
}

// some carries out the first step, or the run of routes that begins there, and
// returns how many steps that were.
func some(ctx context.Context, d Driver, steps []Step) (int, error) {
	adder, ok := d.(RouteAdder)
	var routes []Route
	for _, s := range steps {
		r, isRoute := s.New.(Route)
		if !ok || s.Op != Add || !isRoute || len(routes) > 0 && routes[0].Room != r.Room {
			break
		}
		routes = append(routes, r)
	}
	if len(routes) < 2 {
		return 1, step(ctx, d, steps[0])
	}
	return len(routes), adder.AddRoutes(ctx, routes)
}

// RunAll carries out all steps whatever happens, and returns all errors: for
// taking a lab down.
func RunAll(ctx context.Context, d Driver, steps []Step) error {
	var errs []error
	for _, s := range steps {
		if err := step(ctx, d, s); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

func step(ctx context.Context, d Driver, s Step) error {
	switch s.Op {
	case Add:
		return d.Add(ctx, s.New)
	case Change:
		return d.Change(ctx, s.Old, s.New)
	default:
		return d.Remove(ctx, s.Old)
	}
}
