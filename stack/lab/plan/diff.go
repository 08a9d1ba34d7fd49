package plan

import (
	"fmt"
	"reflect"
	"slices"
)

// Op is what a step does.
type Op uint8

// The operations.
const (
	Add Op = iota
	Change
	Remove
)

func (o Op) String() string { return [...]string{"+", "~", "-"}[o] }

// Step is one change of what exists.
type Step struct {
	Op  Op
	Old Resource // nil with Add
	New Resource // nil with Remove
}

func (s Step) String() string {
	r := s.New
	if s.Op == Remove {
		r = s.Old
	}
	return fmt.Sprintf("%v %v", s.Op, r)
}

// inverse takes a step back.
func (s Step) inverse() Step {
	return Step{Op: Remove - s.Op, Old: s.New, New: s.Old}
}

// inPlace reports whether a resource can change without going away in between.
func inPlace(r Resource) bool {
	switch r.(type) {
	case Impairment, MTU, Sysctl, Forwarding, Neighbour:
		return true
	}
	return false
}

// Diff are the steps from old to new: what goes, youngest first, then what
// changes and comes, oldest first. What lives in something that is replaced is
// replaced with it.
func Diff(old, new []Resource) []Step {
	was, want := byKey(old), byKey(new)
	gone := map[string]bool{} // keys that are removed, for good or to be made again
	for k, r := range was {
		n, ok := want[k]
		if !ok || !reflect.DeepEqual(r, n) && !inPlace(n) {
			gone[k] = true
		}
	}
	for changed := true; changed; {
		changed = false
		for k, r := range was {
			if !gone[k] && slices.ContainsFunc(r.Needs(), func(n string) bool { return gone[n] }) {
				gone[k], changed = true, true
			}
		}
	}
	var steps []Step
	for _, r := range slices.Backward(phased(old)) {
		if gone[r.Key()] {
			steps = append(steps, Step{Op: Remove, Old: r})
		}
	}
	for _, r := range phased(new) {
		k := r.Key()
		switch o, ok := was[k]; {
		case !ok || gone[k]:
			steps = append(steps, Step{Op: Add, New: r})
		case !reflect.DeepEqual(o, r):
			steps = append(steps, Step{Op: Change, Old: o, New: r})
		}
	}
	return steps
}

func byKey(rs []Resource) map[string]Resource {
	m := make(map[string]Resource, len(rs))
	for _, r := range rs {
		m[r.Key()] = r
	}
	return m
}

func phased(rs []Resource) []Resource {
	out := slices.Clone(rs)
	slices.SortStableFunc(out, func(a, b Resource) int { return int(a.Phase()) - int(b.Phase()) })
	return out
}
