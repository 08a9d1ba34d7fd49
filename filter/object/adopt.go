package object

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	bpfmaps "taproom/filter/maps"
)

// adoptMap makes a map, and what is in it, objects of the directory.
func (d *Dir) adoptMap(m *bpfmaps.Map) (identity, error) {
	if id, ok := d.mapID[m.ID()]; ok {
		return id, nil
	}
	id := newIdentity()
	d.mapID[m.ID()], d.maps[id] = id, m.Hold()
	return id, d.adoptContents(m)
}

// adoptContents adopts the maps and programs that are elements of a map.
func (d *Dir) adoptContents(m *bpfmaps.Map) error {
	for _, inner := range innerMaps(m) {
		if _, err := d.adoptMap(inner); err != nil {
			return err
		}
	}
	if m.Type() != bpfmaps.ProgArray {
		return nil
	}
	for i := range m.MaxEntries() {
		run := m.Prog(uint32(i))
		if run == nil {
			continue
		}
		p, ok := d.reg.Program(run.ID())
		if !ok {
			return fmt.Errorf("program %d in %s is not in the registry", run.ID(), m.Name())
		}
		_, err := d.adoptProgram(p)
		p.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// adoptProgram makes a program and the maps that it uses objects of the directory.
func (d *Dir) adoptProgram(p *Program) (identity, error) {
	if id, ok := d.progID[p.ID()]; ok {
		return id, nil
	}
	id := newIdentity()
	d.progID[p.ID()], d.progs[id] = id, p.Hold()
	for _, m := range p.src.Maps {
		if _, err := d.adoptMap(m); err != nil {
			return "", err
		}
	}
	return id, nil
}

// adoptInner adopts what was put into maps of the directory since, and programs that
// links were updated to.
func (d *Dir) adoptInner() error {
	var known []*bpfmaps.Map
	for _, m := range d.maps {
		known = append(known, m)
	}
	for _, m := range known {
		if err := d.adoptContents(m); err != nil {
			return err
		}
	}
	for _, l := range d.links {
		p, ok := d.reg.Program(l.Info().ProgID)
		if !ok {
			continue
		}
		_, err := d.adoptProgram(p)
		p.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// writeAll writes the files of live objects that changed. Objects are written
// before any name leads to them, so that a crash leaves at worst some that nobody
// asks for.
func (d *Dir) writeAll() error {
	mapID := func(m *bpfmaps.Map) identity { return d.mapID[m.ID()] }
	progID := func(id uint32) identity { return d.progID[id] }
	for id, m := range d.maps {
		b, err := encodeMap(m, mapID, progID)
		if err != nil {
			return fmt.Errorf("object: map %s: %w", m.Name(), err)
		}
		if err := d.write(id, b); err != nil {
			return err
		}
	}
	for id, l := range d.links {
		if l.Info().ProgID == 0 {
			continue // detached: leave what the file says
		}
		b, err := encodeLink(l, progID)
		if err != nil {
			return fmt.Errorf("object: link %d: %w", l.ID(), err)
		}
		if err := d.write(id, b); err != nil {
			return err
		}
	}
	for id, p := range d.progs {
		b, err := encodeProgram(p, mapID)
		if err != nil {
			return fmt.Errorf("object: program %s: %w", p.Name(), err)
		}
		if err := d.write(id, b); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) write(id identity, b []byte) error {
	sum := sha256.Sum256(b)
	if d.written[id] == sum {
		return nil
	}
	if err := writeFile(d.objectPath(id), b); err != nil {
		return fmt.Errorf("object: %w", err)
	}
	d.written[id] = sum
	return nil
}

// sweep removes objects that no pin leads to, and what a crash left behind. The
// directory is locked.
func (d *Dir) sweep() error {
	names, err := d.names()
	if err != nil {
		return err
	}
	keep := map[identity]bool{}
	for _, name := range names {
		id, err := d.identityOf(name)
		if err != nil {
			return err
		}
		if err := d.mark(id, keep); err != nil {
			// Whatever is wrong with this one, do not remove others for it.
			return fmt.Errorf("object: pin %s: %w", name, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(d.path, objectDir))
	if err != nil {
		return fmt.Errorf("object: %w", err)
	}
	for _, e := range entries {
		if id := e.Name(); !keep[id] && (validIdentity(id) || strings.Contains(id, tempMark)) {
			if err := os.Remove(d.objectPath(id)); err != nil {
				return fmt.Errorf("object: %w", err)
			}
			d.drop(id)
		}
	}
	for id := range d.links {
		if !keep[id] {
			d.drop(id)
		}
	}
	for id := range d.maps {
		if !keep[id] {
			d.drop(id)
		}
	}
	for id := range d.progs {
		if !keep[id] {
			d.drop(id)
		}
	}
	return nil
}

// mark notes an object and all that it refers to.
func (d *Dir) mark(id identity, keep map[identity]bool) error {
	if keep[id] {
		return nil
	}
	keep[id] = true
	h, _, err := d.read(id)
	if err != nil {
		return err
	}
	for _, ref := range h.references() {
		if err := d.mark(ref, keep); err != nil {
			return err
		}
	}
	return nil
}

// references returns the objects that a file refers to.
func (h *header) references() []identity {
	var all []identity
	if h.Map != nil {
		for _, e := range h.Map.Objects {
			all = append(all, e.ID)
		}
	}
	if h.Prog != nil {
		all = append(all, h.Prog.Maps...)
	}
	if h.Link != nil {
		all = append(all, h.Link.Prog)
	}
	return all
}

// drop lets a live object go that is no longer the directory's.
func (d *Dir) drop(id identity) {
	delete(d.written, id)
	if l := d.links[id]; l != nil {
		delete(d.links, id)
		delete(d.linkID, l.ID())
		// What detaching may complain about is for who holds the link to know.
		_ = l.Close()
	}
	if m := d.maps[id]; m != nil {
		delete(d.maps, id)
		delete(d.mapID, m.ID())
		m.Close()
	}
	if p := d.progs[id]; p != nil {
		delete(d.progs, id)
		delete(d.progID, p.ID())
		p.Close()
	}
}
