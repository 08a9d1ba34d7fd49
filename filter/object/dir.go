package object

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"taproom/filter/ebpf"
	bpfmaps "taproom/filter/maps"
)

// ErrNotPinned is returned for names that no pin has.
var ErrNotPinned = errors.New("object: no such pin")

// ErrPinned is returned when a name is taken.
var ErrPinned = errors.New("object: name is already pinned")

var (
	errDetached   = errors.New("link has no program")
	errNoLoader   = errors.New("no loader for programs")
	errNoAttacher = errors.New("nothing to attach links with")
)

// Loader verifies a program and makes it runnable. The registry owns the result.
type Loader func(*ebpf.Program) (bpfmaps.Prog, error)

// Dir is a directory of pins. Objects that are pinned, and those that they refer to,
// are kept in it with their contents, under a name of their own; a pin is a small
// file that names one. Two pinned programs that share a map share it again after
// they were opened again.
type Dir struct {
	path   string
	reg    *Registry
	load   Loader
	attach Attacher

	mu sync.Mutex
	// Live objects of the directory and their identities. The Dir holds a
	// reference on each.
	maps   map[identity]*bpfmaps.Map
	progs  map[identity]*Program
	links  map[identity]*Link
	mapID  map[uint32]identity
	progID map[uint32]identity
	linkID map[uint32]identity
	// digest of the file that was last written for an object.
	written map[identity][sha256.Size]byte
}

// DirOptions say how a directory makes objects live that other processes pinned.
// What is nil cannot be opened.
type DirOptions struct {
	Load   Loader
	Attach Attacher
}

// OpenDir opens a directory of pins, and makes it if it is not there.
func OpenDir(path string, reg *Registry, o DirOptions) (*Dir, error) {
	for _, sub := range []string{pinDir, objectDir} {
		if err := os.MkdirAll(filepath.Join(path, sub), 0o700); err != nil {
			return nil, fmt.Errorf("object: %w", err)
		}
	}
	return &Dir{
		path: path, reg: reg, load: o.Load, attach: o.Attach,
		maps: map[identity]*bpfmaps.Map{}, progs: map[identity]*Program{}, links: map[identity]*Link{},
		mapID: map[uint32]identity{}, progID: map[uint32]identity{}, linkID: map[uint32]identity{},
		written: map[identity][sha256.Size]byte{},
	}, nil
}

// Path returns the directory's path.
func (d *Dir) Path() string { return d.path }

func (d *Dir) pinPath(name string) string {
	return filepath.Join(d.path, pinDir, filepath.FromSlash(name))
}

func (d *Dir) objectPath(id identity) string { return filepath.Join(d.path, objectDir, id) }

// PinMap pins a map under a name. The pin is a reference of its own.
func (d *Dir) PinMap(name string, m *bpfmaps.Map) error {
	return d.pin(name, func() (identity, error) { return d.adoptMap(m) })
}

// PinProgram pins a program under a name, with the maps that it uses.
func (d *Dir) PinProgram(name string, p *Program) error {
	return d.pin(name, func() (identity, error) { return d.adoptProgram(p) })
}

// pin writes the objects that adopt finds, and then the name.
func (d *Dir) pin(name string, adopt func() (identity, error)) error {
	name, err := cleanName(name)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	unlock, err := lock(d.path)
	if err != nil {
		return err
	}
	defer unlock()
	path := d.pinPath(name)
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %s", ErrPinned, name)
	}
	id, err := adopt()
	if err != nil {
		return fmt.Errorf("object: pin %s: %w", name, err)
	}
	if err := d.writeAll(); err != nil {
		return fmt.Errorf("object: pin %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("object: pin %s: %w", name, err)
	}
	if err := writeFile(path, []byte(id+"\n")); err != nil {
		return fmt.Errorf("object: pin %s: %w", name, err)
	}
	return nil
}

// Unpin removes a name. Objects that no pin leads to any more are removed with it.
func (d *Dir) Unpin(name string) error {
	name, err := cleanName(name)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	unlock, err := lock(d.path)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(d.pinPath(name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s", ErrNotPinned, name)
		}
		return fmt.Errorf("object: %w", err)
	}
	if err := syncDir(filepath.Dir(d.pinPath(name))); err != nil {
		return fmt.Errorf("object: %w", err)
	}
	return d.sweep()
}

// Sync writes the contents of all live objects of the directory that changed.
func (d *Dir) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	unlock, err := lock(d.path)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.adoptInner(); err != nil {
		return err
	}
	return d.writeAll()
}

// Close writes everything and lets the live objects go. The pins stay.
func (d *Dir) Close() error {
	err := d.Sync()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		if lerr := l.Close(); err == nil {
			err = lerr
		}
	}
	for _, p := range d.progs {
		p.Close()
	}
	for _, m := range d.maps {
		m.Close()
	}
	clear(d.links)
	clear(d.linkID)
	clear(d.progs)
	clear(d.maps)
	clear(d.mapID)
	clear(d.progID)
	clear(d.written)
	return err
}

// Pin is a name and what it leads to.
type Pin struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // "prog", "map" or "link"
	// ID is the live object's number, 0 if it has not been opened here.
	ID uint32 `json:"id,omitempty"`
	// Title is the object's own name, or a link's type.
	Title string `json:"object_name,omitempty"`
}

// List returns all pins by name.
func (d *Dir) List() ([]Pin, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var all []Pin
	for _, name := range names {
		id, err := d.identityOf(name)
		if err != nil {
			return nil, err
		}
		p := Pin{Name: name}
		if m := d.maps[id]; m != nil {
			p.Kind, p.ID, p.Title = "map", m.ID(), m.Name()
		} else if prog := d.progs[id]; prog != nil {
			p.Kind, p.ID, p.Title = "prog", prog.ID(), prog.Name()
		} else if l := d.links[id]; l != nil {
			p.Kind, p.ID, p.Title = "link", l.ID(), l.Info().Type
		} else {
			h, _, err := d.read(id)
			if err != nil {
				return nil, fmt.Errorf("object: pin %s: %w", name, err)
			}
			p.Kind = h.Kind
			switch {
			case h.Map != nil:
				p.Title = h.Map.Name
			case h.Prog != nil:
				p.Title = h.Prog.Name
			case h.Link != nil:
				p.Title = h.Link.Type
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// names returns the names of all pins in order.
func (d *Dir) names() ([]string, error) {
	root := filepath.Join(d.path, pinDir)
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.Contains(path, tempMark) {
			return err
		}
		rel, err := filepath.Rel(root, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(names)
	return names, err
}

// identityOf reads a pin.
func (d *Dir) identityOf(name string) (identity, error) {
	b, err := os.ReadFile(d.pinPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s", ErrNotPinned, name)
	}
	if err != nil {
		return "", fmt.Errorf("object: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if !validIdentity(id) {
		return "", fmt.Errorf("object: pin %s: %w", name, ErrFormat)
	}
	return id, nil
}

// read reads and checks an object's file.
func (d *Dir) read(id identity) (header, []byte, error) {
	if !validIdentity(id) {
		return header{}, nil, fmt.Errorf("%w: identity %q", ErrFormat, id)
	}
	b, err := os.ReadFile(d.objectPath(id))
	if err != nil {
		return header{}, nil, err
	}
	return decode(b)
}
