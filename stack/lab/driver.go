package lab

import (
	"context"
	"errors"
	"fmt"

	"taproom/stack"
	"taproom/stack/lab/plan"
)

// driver makes the resources of a plan real.
type driver struct {
	lab      *Lab
	resolved *plan.Resolved // what is being applied
	report   func(plan.Step)
}

func (d *driver) say(s plan.Step) {
	if d.report != nil {
		d.report(s)
	}
}

// Add makes a resource.
func (d *driver) Add(ctx context.Context, r plan.Resource) error {
	d.say(plan.Step{Op: plan.Add, New: r})
	l := d.lab
	switch r := r.(type) {
	case plan.Room:
		return l.addRoom(r, d.resolved.Lab.Name)
	case plan.Link:
		return l.addLink(r)
	case plan.Section:
		return l.addSection(ctx, r.Name, r.Value)
	case plan.Impairment:
		return l.impair(r)
	case plan.Program:
		room, err := l.room(r.Room)
		if err != nil {
			return err
		}
		return room.addProgram(ctx, r.Program, l.log)
	}
	return d.configure(r, false)
}

// AddRoutes makes many routes of one room.
func (d *driver) AddRoutes(_ context.Context, rs []plan.Route) error {
	room, err := d.lab.room(rs[0].Room)
	if err != nil {
		return err
	}
	for _, r := range rs {
		d.say(plan.Step{Op: plan.Add, New: r})
	}
	if room.node != nil {
		routes := make([]stack.Route, len(rs))
		for i, r := range rs {
			routes[i] = nodeRoute(r)
		}
		return room.node.AddRoutes(routes)
	}
	for i, r := range rs {
		if err := configureNamespace(room.ns, r, false); err != nil {
			for _, done := range rs[:i] {
				err = errors.Join(err, configureNamespace(room.ns, done, true))
			}
			return err
		}
	}
	return nil
}

// Change changes a resource in place.
func (d *driver) Change(ctx context.Context, old, new plan.Resource) error {
	d.say(plan.Step{Op: plan.Change, Old: old, New: new})
	if i, ok := new.(plan.Impairment); ok {
		return d.lab.impair(i)
	}
	return d.configure(new, false)
}

// Remove takes a resource away.
func (d *driver) Remove(_ context.Context, r plan.Resource) error {
	d.say(plan.Step{Op: plan.Remove, Old: r})
	l := d.lab
	switch r := r.(type) {
	case plan.Room:
		return l.removeRoom(r.Name)
	case plan.Link:
		return l.removeLink(r.Name)
	case plan.Section:
		return l.removeSection(r.Name)
	case plan.Program:
		room, err := l.room(r.Room)
		if err != nil {
			return err
		}
		return room.removeProgram(r.Name)
	case plan.Impairment, plan.MTU, plan.Sysctl, plan.Forwarding:
		return nil // goes with what it is a setting of
	}
	return d.configure(r, true)
}

// configure sets or removes what belongs to one room.
func (d *driver) configure(r plan.Resource, remove bool) error {
	name := ""
	switch r := r.(type) {
	case plan.Forwarding:
		name = r.Room
	case plan.Sysctl:
		name = r.Room
	case plan.Route:
		name = r.Room
	case plan.MTU:
		return d.lab.setMTU(r, d.resolved)
	case plan.Address:
		name = r.At.Room
	case plan.Neighbour:
		name = r.At.Room
	default:
		return fmt.Errorf("no way to make %T", r)
	}
	room, err := d.lab.room(name)
	if err != nil {
		return err
	}
	if room.node != nil {
		return configureNode(room.node, r, remove)
	}
	return configureNamespace(room.ns, r, remove)
}
