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

// Run carries out steps. When one fails, or ctx ends, those before it are
// taken back, youngest first, and the error says what failed; what cannot be
// taken back is added to it.
func Run(ctx context.Context, d Driver, steps []Step) error {
	for i, s := range steps {
		err := ctx.Err()
		if err == nil {
			err = step(ctx, d, s)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("%v: %w", s, err)
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
