// Package filters gives the routers of a lab their BPF programs: section
// "filters" of lab files, and what the filter commands act on.
//
//	filters:
//	  - at: r1:eth0
//	    direction: ingress
//	    object: bpf/firewall.c
//	    program: inside
//	  - room: r1
//	    netfilter: {object: nf.o, program: drop_ssh, hook: forward, family: ipv4, priority: -100}
//	  - room: r1
//	    tc: qdisc add dev eth1 root handle 1: htb default 10
//
// A file that ends in .c is compiled with clang. Attachments on one router
// from one file share its maps.
package filters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"taproom/filter"
	"taproom/filter/tc"
	"taproom/filter/vm"
	"taproom/stack"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

func init() {
	lab.RegisterSection("filters", "BPF programs on routers, in the order in which they are attached.",
		func() spec.Section { return new(Section) }, up)
}

// Part is a router's attachments with the programs loaded for them.
type Part struct {
	*filter.Filters
	filter.Objects
}

// Close detaches everything.
func (p *Part) Close() error {
	p.Filters.Close()
	return p.Objects.Close()
}

// Of returns a router's attachments.
func Of(l *lab.Lab, room string) (*Part, error) {
	p, err := l.Part(room, "filters", func(n *stack.Node) (io.Closer, error) {
		return &Part{Filters: filter.New(n, filter.Options{})}, nil
	})
	if err != nil {
		return nil, err
	}
	return p.(*Part), nil
}

// Command is tc for a router.
func (p *Part) Command() tc.Command { return tc.Command{Filters: p.Filters, Load: &p.Objects} }

// Section is the content of "filters".
type Section []Entry

// Entry is one attachment: a classifier (At), a netfilter link or a tc
// command line.
type Entry struct {
	At        string     `yaml:"at" doc:"interface, as ROOM:IF"`
	Direction string     `yaml:"direction" doc:"ingress or egress"`
	TCX       bool       `yaml:"tcx" doc:"attach to the tcx list instead of the classifier chain"`
	Object    string     `yaml:"object" doc:"object file, or C source for clang, relative to the lab file"`
	Section   string     `yaml:"section" doc:"ELF section of the program, if the file has several"`
	Program   string     `yaml:"program" doc:"name of the program, if the section has several"`
	Priority  int        `yaml:"priority" doc:"of the classifier; smaller runs first"`
	Room      string     `yaml:"room" doc:"router, for netfilter and tc"`
	Netfilter *Netfilter `yaml:"netfilter" doc:"a program at a netfilter hook"`
	TC        string     `yaml:"tc" doc:"a command line of tc, without tc"`
}

// Netfilter describes a netfilter link.
type Netfilter struct {
	Object   string `yaml:"object" doc:"object file, or C source for clang, relative to the lab file"`
	Program  string `yaml:"program" doc:"name of the program, if the file has several"`
	Hook     string `yaml:"hook" doc:"prerouting, input, forward, output or postrouting"`
	Family   string `yaml:"family" doc:"ipv4 (the default) or ipv6"`
	Priority int    `yaml:"priority" doc:"smaller runs first"`
	Defrag   bool   `yaml:"defrag" doc:"the program sees whole packets"`
}

var hooks = map[string]uint32{
	"prerouting": vm.NFPreRouting, "input": vm.NFLocalIn, "forward": vm.NFForward, "output": vm.NFLocalOut, "postrouting": vm.NFPostRouting,
}

// Check finds what the types do not show.
func (s *Section) Check(l *spec.Lab, fail func(key, format string, args ...any)) {
	for k := range *s {
		e := &(*s)[k]
		key := fmt.Sprintf("[%d]", k)
		kinds := 0
		for _, set := range []bool{e.At != "", e.Netfilter != nil, e.TC != ""} {
			if set {
				kinds++
			}
		}
		switch {
		case kinds != 1:
			fail(key, "give one of at, netfilter and tc")
			continue
		case e.At != "":
			room, iface, ok := strings.Cut(e.At, ":")
			if !ok || room == "" || iface == "" {
				fail(key+".at", "%q is not ROOM:IF", e.At)
			}
			if e.Direction != "ingress" && e.Direction != "egress" {
				fail(key+".direction", "%q is neither ingress nor egress", e.Direction)
			}
			if e.Object == "" {
				fail(key+".object", "an object file is needed")
			}
			if e.Priority < 0 || e.Priority > 65535 {
				fail(key+".priority", "%d is not between 0 and 65535", e.Priority)
			}
			continue
		case e.Room == "":
			fail(key+".room", "say which router")
		}
		if n := e.Netfilter; n != nil {
			if _, ok := hooks[n.Hook]; !ok {
				fail(key+".netfilter.hook", "%q is not prerouting, input, forward, output or postrouting", n.Hook)
			}
			if n.Family != "" && n.Family != "ipv4" && n.Family != "ipv6" {
				fail(key+".netfilter.family", "%q is neither ipv4 nor ipv6", n.Family)
			}
		}
	}
}

// up attaches what the section says, in order; what it returns takes all of
// it away again.
func up(ctx context.Context, l *lab.Lab, s spec.Section) (func() error, error) {
	ld := newLoader(ctx)
	defer ld.close()
	var undo []func() error
	down := func() error {
		var errs []error
		for k := len(undo) - 1; k >= 0; k-- {
			errs = append(errs, undo[k]())
		}
		return errors.Join(errs...)
	}
	for k, e := range *s.(*Section) {
		u, err := e.attach(l, ld)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("filters[%d]: %w", k, err), down())
		}
		undo = append(undo, u)
	}
	return down, nil
}

func (e *Entry) attach(l *lab.Lab, ld *loader) (func() error, error) {
	room, iface := e.Room, ""
	if e.At != "" {
		room, iface, _ = strings.Cut(e.At, ":")
	}
	p, err := Of(l, room)
	if err != nil {
		return nil, err
	}
	switch {
	case e.Netfilter != nil:
		return p.netfilter(e.Netfilter, room, ld)
	case e.TC != "":
		_, err := p.Command().Run(strings.Fields(e.TC)...)
		return p.reset, err
	}
	d, err := p.DeviceByName(iface)
	if err != nil {
		return nil, err
	}
	prog, err := ld.program(room, p, e.Object, e.Section, e.Program)
	if err != nil {
		return nil, err
	}
	dir := filter.Ingress
	if e.Direction == "egress" {
		dir = filter.Egress
	}
	if e.TCX {
		k, err := d.AttachTCX(dir, prog, filter.TCXOptions{})
		if err != nil {
			return nil, err
		}
		return k.Close, nil
	}
	if d.Qdisc() == filter.NoQdisc {
		if err := d.AddQdisc(filter.Clsact); err != nil {
			return nil, err
		}
	}
	f, err := d.AddFilter(dir, filter.Add, filter.Config{Priority: uint16(e.Priority), DirectAction: true, Program: prog})
	if err != nil {
		return nil, err
	}
	c := f.Config()
	return func() error {
		return d.DelFilters(dir, filter.Select{Chain: c.Chain, Priority: c.Priority, Handle: c.Handle})
	}, nil
}

func (p *Part) netfilter(n *Netfilter, room string, ld *loader) (func() error, error) {
	prog, err := ld.program(room, p, n.Object, "", n.Program)
	if err != nil {
		return nil, err
	}
	k, err := p.link(prog, n)
	if err != nil {
		return nil, err
	}
	return k.Close, nil
}

func (n *Netfilter) config() (filter.NFConfig, error) {
	hook, ok := hooks[n.Hook]
	if !ok {
		return filter.NFConfig{}, fmt.Errorf("filters: hook %q is not prerouting, input, forward, output or postrouting", n.Hook)
	}
	c := filter.NFConfig{PF: vm.NFProtoIPv4, Hook: hook, Priority: int32(n.Priority)}
	if n.Family == "ipv6" {
		c.PF = vm.NFProtoIPv6
	}
	if n.Defrag {
		c.Flags = filter.NFDefrag
	}
	return c, nil
}

// reset takes away what command lines made, whatever that was.
func (p *Part) reset() error {
	for _, d := range p.Devices() {
		if d.Root() != nil {
			_ = d.DelRoot()
		}
		if d.Qdisc() != filter.NoQdisc {
			_ = d.DelQdisc()
		}
	}
	return nil
}

// Resolve makes the paths of object files absolute.
func (s *Section) Resolve(dir string) {
	for k := range *s {
		e := &(*s)[k]
		for _, file := range []*string{&e.Object, e.netfilterObject()} {
			if file != nil && *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
	}
}

func (e *Entry) netfilterObject() *string {
	if e.Netfilter == nil {
		return nil
	}
	return &e.Netfilter.Object
}
