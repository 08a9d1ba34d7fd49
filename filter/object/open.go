package object

import (
	"fmt"
	"slices"
	"time"

	bpfmaps "taproom/filter/maps"
)

// Opened is a pinned object: one of the three. The caller owns the reference and must
// Close it.
type Opened struct {
	Map     *bpfmaps.Map
	Program *Program
	Link    *Link
}

// Close drops the reference.
func (o Opened) Close() {
	if o.Map != nil {
		o.Map.Close()
	}
	if o.Program != nil {
		o.Program.Close()
	}
	if o.Link != nil {
		_ = o.Link.Close() // the pin still holds it
	}
}

// Open returns the object that a name leads to: the live one if there is one in this
// process, otherwise one made from the directory, together with everything that it
// refers to.
func (d *Dir) Open(name string) (Opened, error) {
	name, err := cleanName(name)
	if err != nil {
		return Opened{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	unlock, err := lock(d.path)
	if err != nil {
		return Opened{}, err
	}
	defer unlock()
	id, err := d.identityOf(name)
	if err != nil {
		return Opened{}, err
	}
	if err := d.revive(id); err != nil {
		return Opened{}, fmt.Errorf("object: open %s: %w", name, err)
	}
	if m := d.maps[id]; m != nil {
		return Opened{Map: m.Hold()}, nil
	}
	if l := d.links[id]; l != nil {
		return Opened{Link: l.Hold()}, nil
	}
	return Opened{Program: d.progs[id].Hold()}, nil
}

// OpenMap opens a pinned map; it fails for other objects.
func (d *Dir) OpenMap(name string) (*bpfmaps.Map, error) {
	o, err := d.Open(name)
	if err == nil && o.Map == nil {
		o.Close()
		return nil, fmt.Errorf("object: %s is no map", name)
	}
	return o.Map, err
}

// OpenProgram opens a pinned program; it fails for other objects.
func (d *Dir) OpenProgram(name string) (*Program, error) {
	o, err := d.Open(name)
	if err == nil && o.Program == nil {
		o.Close()
		return nil, fmt.Errorf("object: %s is no program", name)
	}
	return o.Program, err
}

// OpenLink opens a pinned attachment; it fails for other objects.
func (d *Dir) OpenLink(name string) (*Link, error) {
	o, err := d.Open(name)
	if err == nil && o.Link == nil {
		o.Close()
		return nil, fmt.Errorf("object: %s is no link", name)
	}
	return o.Link, err
}

// file is an object file that was read.
type file struct {
	id   identity
	h    header
	body []byte
}

// revive makes an object live, with all it refers to that is not live yet. They may
// refer to each other in circles (a program to the program array that it is in), so
// they are made in steps: maps, what is in them, programs, program arrays, links.
func (d *Dir) revive(id identity) (err error) {
	var files []file
	if err := d.collect(id, map[identity]bool{}, &files); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			for _, f := range files {
				d.drop(f.id)
			}
		}
	}()
	for _, f := range files {
		if f.h.Map != nil {
			if err := d.reviveMap(f); err != nil {
				return err
			}
		}
	}
	for _, f := range files {
		if f.h.Map != nil {
			if err := d.putMaps(f); err != nil {
				return err
			}
		}
	}
	for _, f := range files {
		if f.h.Prog != nil {
			if err := d.reviveProgram(f); err != nil {
				return err
			}
		}
	}
	for _, f := range files {
		if f.h.Map != nil {
			if err := d.putPrograms(f); err != nil {
				return err
			}
		}
	}
	for _, f := range files {
		if f.h.Link != nil {
			if err := d.reviveLink(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect reads an object's file and those of all it refers to.
func (d *Dir) collect(id identity, seen map[identity]bool, files *[]file) error {
	if seen[id] || d.maps[id] != nil || d.progs[id] != nil || d.links[id] != nil {
		return nil
	}
	seen[id] = true
	h, body, err := d.read(id)
	if err != nil {
		return err
	}
	if h.Map == nil && h.Prog == nil && h.Link == nil {
		return fmt.Errorf("%w: object of kind %q", ErrFormat, h.Kind)
	}
	*files = append(*files, file{id, h, body})
	for _, ref := range h.references() {
		if err := d.collect(ref, seen, files); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) reviveMap(f file) error {
	spec, err := f.h.Map.spec()
	if err != nil {
		return err
	}
	m, err := bpfmaps.New(spec)
	if err != nil {
		return err
	}
	d.maps[f.id], d.mapID[m.ID()] = m, f.id
	if err := fill(m, f.h.Map, f.body); err != nil {
		return err
	}
	if f.h.Map.Frozen {
		return m.Freeze()
	}
	return nil
}

func (d *Dir) putMaps(f file) error {
	m := d.maps[f.id]
	if !m.Type().OfMaps() {
		return nil
	}
	for _, e := range f.h.Map.Objects {
		inner := d.maps[e.ID]
		if inner == nil {
			return fmt.Errorf("%w: %s has an element that is no map", ErrFormat, m.Name())
		}
		if err := m.PutMap(e.Key, inner, 0); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) reviveProgram(f file) error {
	if d.load == nil {
		return errNoLoader
	}
	h := f.h.Prog
	ms := make([]*bpfmaps.Map, len(h.Maps))
	for n, id := range h.Maps {
		if ms[n] = d.maps[id]; ms[n] == nil {
			return fmt.Errorf("%w: program %s uses something that is no map", ErrFormat, h.Name)
		}
	}
	src, err := h.program(f.body, ms)
	if err != nil {
		return err
	}
	run, err := d.load(src)
	if err != nil {
		src.Close()
		return err
	}
	p := d.reg.AddProgram(src, run)
	p.loaded = time.Unix(h.Loaded, 0)
	d.progs[f.id], d.progID[p.ID()] = p, f.id
	return nil
}

func (d *Dir) putPrograms(f file) error {
	m := d.maps[f.id]
	if m.Type() != bpfmaps.ProgArray {
		return nil
	}
	for _, e := range f.h.Map.Objects {
		p := d.progs[e.ID]
		if p == nil {
			return fmt.Errorf("%w: %s has an element that is no program", ErrFormat, m.Name())
		}
		if err := m.PutProg(slices.Clone(e.Key), p.run, 0); err != nil {
			return err
		}
	}
	return nil
}
