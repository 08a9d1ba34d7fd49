package lab

import (
	"fmt"
	"io"

	"taproom/stack"
)

// Part is what a subsystem keeps for a router: made when it is first asked
// for, closed with the router.
func (l *Lab) Part(room, kind string, make func(*stack.Node) (io.Closer, error)) (io.Closer, error) {
	r, err := l.room(room)
	if err != nil {
		return nil, err
	}
	if r.node == nil {
		return nil, fmt.Errorf("%s is a namespace: its kernel does that itself (taproom exec %s -- ...)", room, room)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("%w: room %s", ErrNoSuch, room)
	}
	if p := r.parts[kind]; p != nil {
		return p, nil
	}
	p, err := make(r.node)
	if err != nil {
		return nil, err
	}
	if r.parts == nil {
		r.parts = map[string]io.Closer{}
	}
	r.parts[kind] = p
	return p, nil
}

func (r *room) closeParts() {
	r.mu.Lock()
	parts := r.parts
	r.parts, r.closed = nil, true
	r.mu.Unlock()
	for _, p := range parts {
		_ = p.Close()
	}
}
