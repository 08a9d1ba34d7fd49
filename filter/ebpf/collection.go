package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	bpfmaps "taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// Options say how a collection is made live. The zero value is fine.
type Options struct {
	// Programs limits what is loaded to these programs; nil means all whose type
	// is known.
	Programs []string
	// Replace has maps to use in place of the object's own, by name: shared or
	// pinned ones. They must have the shape that the object declares.
	Replace map[string]*bpfmaps.Map
	// Types to relocate against (CO-RE) in place of taproom's own.
	Types []*btf.Spec
	// Kconfig has values for kernel configuration variables (__kconfig), over the
	// defaults. A tristate or boolean is 0, 1 or 2.
	Kconfig map[string]uint64

	// Budget, CPUs and Interface are passed to every map; see maps.Spec.
	Budget    *bpfmaps.Budget
	CPUs      int
	Interface func(index uint32) bool
}

// Collection has the live maps and the resolved programs of an object.
type Collection struct {
	Programs  map[string]*Program
	Maps      map[string]*bpfmaps.Map
	Variables map[string]*Variable

	progs []progContent
}

// progContent is an initial element of a program array.
type progContent struct {
	array *bpfmaps.Map
	label string
	key   []byte
	name  string
}

// NewCollection creates the maps of a spec and resolves its programs. The caller
// owns the collection's references until Close. Program arrays with initial
// elements stay empty until Link.
func NewCollection(spec *CollectionSpec, o Options) (*Collection, error) {
	l := &loader{spec: spec, o: o, c: &Collection{
		Programs:  map[string]*Program{},
		Maps:      map[string]*bpfmaps.Map{},
		Variables: map[string]*Variable{},
	}}
	if err := l.load(); err != nil {
		l.c.Close()
		return nil, err
	}
	return l.c, nil
}

// Link puts programs into the program arrays that the object fills statically.
// runnable has, by name, what the runner made of the collection's programs.
func (c *Collection) Link(runnable func(name string) (bpfmaps.Prog, error)) error {
	for _, p := range c.progs {
		prog, err := runnable(p.name)
		if err == nil {
			err = p.array.PutProg(p.key, prog, 0)
		}
		if err != nil {
			return fmt.Errorf("ebpf: map %s: program %s: %w", p.label, p.name, err)
		}
	}
	return nil
}

// LinkNames returns the names of the programs that Link will ask for.
func (c *Collection) LinkNames() []string {
	var names []string
	for _, p := range c.progs {
		if !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

// Close drops the collection's references. Maps live on as long as others hold
// them.
func (c *Collection) Close() {
	for _, p := range c.Programs {
		p.Close()
	}
	for _, m := range c.Maps {
		m.Close()
	}
	c.Programs, c.Maps, c.Variables = nil, nil, nil
}

// Take hands a program and the collection's references for it over to the caller.
func (c *Collection) Take(name string) *Program {
	p := c.Programs[name]
	delete(c.Programs, name)
	return p
}

type loader struct {
	spec *CollectionSpec
	o    Options
	c    *Collection
}

func (l *loader) load() error {
	for _, name := range slices.Sorted(maps.Keys(l.o.Replace)) {
		if l.spec.Maps[name] == nil {
			return fmt.Errorf("ebpf: replacement for map %s, which the object does not have", name)
		}
	}
	names := slices.Sorted(maps.Keys(l.spec.Maps))
	for _, name := range names {
		if err := l.createMap(name, l.spec.Maps[name]); err != nil {
			return fmt.Errorf("ebpf: map %s: %w", name, err)
		}
	}
	for _, name := range names {
		if err := l.fillMap(name, l.spec.Maps[name]); err != nil {
			return fmt.Errorf("ebpf: map %s: %w", name, err)
		}
	}
	for name, v := range l.spec.Variables {
		if err := l.variable(name, v); err != nil {
			return err
		}
	}
	progs := l.o.Programs
	if progs == nil {
		for name, p := range l.spec.Programs {
			if p.Type != Unspec {
				progs = append(progs, name)
			}
		}
		slices.Sort(progs)
	}
	for _, name := range progs {
		p, ok := l.spec.Programs[name]
		if !ok {
			return fmt.Errorf("ebpf: object has no program %s", name)
		}
		if err := l.program(p); err != nil {
			return fmt.Errorf("ebpf: program %s: %w", name, err)
		}
	}
	return nil
}

func (l *loader) program(p *ProgramSpec) error {
	if p.Type == Unspec {
		return fmt.Errorf("section %q does not say which type it is", p.Section)
	}
	f := &flattener{spec: l.spec, types: l.o.Types, live: l.live, kconfig: l.kconfig}
	prog, err := f.flatten(p)
	if err != nil {
		return err
	}
	for _, m := range prog.Maps {
		m.Retain()
	}
	l.c.Programs[p.Name] = prog
	return nil
}

func (l *loader) live(name string) (*bpfmaps.Map, error) {
	if name == kconfigName {
		return l.kconfigMap()
	}
	m, ok := l.c.Maps[name]
	if !ok {
		return nil, fmt.Errorf("no map %s in the object", name)
	}
	return m, nil
}

func (l *loader) createMap(name string, s *MapSpec) error {
	spec := s.live()
	spec.Budget, spec.CPUs, spec.Interface = l.o.Budget, l.o.CPUs, l.o.Interface
	if m := l.o.Replace[name]; m != nil {
		if err := sameShape(m.Spec(), spec); err != nil {
			return err
		}
		l.c.Maps[name] = m.Hold()
		return nil
	}
	m, err := bpfmaps.New(spec)
	if err != nil {
		return err
	}
	l.c.Maps[name] = m
	return nil
}

var errShape = errors.New("replacement has another shape")

func sameShape(have, want bpfmaps.Spec) error {
	if have.Type != want.Type || have.KeySize != want.KeySize || have.ValueSize != want.ValueSize ||
		have.MaxEntries != want.MaxEntries || have.Flags != want.Flags {
		return fmt.Errorf("%w: %v key %d value %d entries %d flags %#x, object has %v key %d value %d entries %d flags %#x",
			errShape, have.Type, have.KeySize, have.ValueSize, have.MaxEntries, have.Flags,
			want.Type, want.KeySize, want.ValueSize, want.MaxEntries, want.Flags)
	}
	return nil
}

// fillMap stores initial elements; a map that replaced the object's own keeps what
// it has.
func (l *loader) fillMap(name string, s *MapSpec) error {
	m := l.c.Maps[name]
	if l.o.Replace[name] != nil {
		return nil
	}
	for _, c := range s.Contents {
		switch {
		case c.Name == "":
			value := slices.Clone(c.Value)
			if err := l.patchVariables(name, value); err != nil {
				return err
			}
			if err := m.Preset(c.Key, value); err != nil {
				return err
			}
		case s.Type == bpfmaps.ProgArray:
			if l.o.Programs == nil || slices.Contains(l.o.Programs, c.Name) {
				l.c.progs = append(l.c.progs, progContent{m, name, c.Key, c.Name})
			}
		default:
			inner := l.c.Maps[c.Name]
			if inner == nil {
				return fmt.Errorf("no map %s in the object", c.Name)
			}
			if err := m.PutMap(c.Key, inner, 0); err != nil {
				return err
			}
		}
	}
	if s.Constant {
		return m.Freeze()
	}
	return nil
}

// patchVariables writes the variables' values over a data section's.
func (l *loader) patchVariables(section string, data []byte) error {
	for name, v := range l.spec.Variables {
		if v.Section != section {
			continue
		}
		if uint64(v.Offset)+uint64(len(v.Value)) > uint64(len(data)) {
			return fmt.Errorf("variable %s lies outside its section", name)
		}
		copy(data[v.Offset:], v.Value)
	}
	return nil
}

func (l *loader) variable(name string, v *VariableSpec) error {
	m := l.c.Maps[v.Section]
	if m == nil {
		return fmt.Errorf("ebpf: variable %s: no section %s", name, v.Section)
	}
	mem, ok := m.Elem([]byte{0, 0, 0, 0}, 0)
	if !ok || uint64(v.Offset)+uint64(len(v.Value)) > uint64(len(mem)) {
		return fmt.Errorf("ebpf: variable %s lies outside %s", name, v.Section)
	}
	end := int(v.Offset) + len(v.Value)
	l.c.Variables[name] = &Variable{Name: name, m: m, mem: mem[v.Offset:end:end], Type: v.Type}
	return nil
}
