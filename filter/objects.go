package filter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"taproom/filter/ebpf"
	"taproom/filter/ebpf/cbpf"
	"taproom/filter/maps"
	"taproom/filter/object"
	"taproom/filter/verifier"
	"taproom/filter/vm"
)

// Objects loads programs for attaching: it reads object files, verifies,
// compiles, and keeps what it loaded alive until Close. It is safe for
// concurrent use. Each load of a file makes maps of its own, as with tc.
type Objects struct {
	mu   sync.Mutex
	done []func()
}

// ErrNoProgram: the file has no program of that section or name.
var ErrNoProgram = errors.New("filter: no such program")

// Collection is an object file made ready: its maps and attachable programs,
// by name.
type Collection struct {
	*ebpf.Collection
	Programs map[string]*Program
	file     string
}

// Load reads an object file and prepares all programs of kinds that run on a
// node: classifiers and netfilter programs. One that the verifier refuses
// ends it, with the verifier's error.
func (o *Objects) Load(file string) (*Collection, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	spec, err := ebpf.LoadSpec(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	coll, err := ebpf.NewCollection(spec, ebpf.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	c := &Collection{Collection: coll, Programs: make(map[string]*Program), file: file}
	runs := make(map[string]*vm.Prog)
	closeAll := func() {
		for _, v := range runs {
			v.Release()
		}
		coll.Close()
	}
	for name, p := range coll.Programs {
		v, err := Prepare(p)
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("%s: program %s: %w", file, name, err)
		}
		runs[name] = v
		c.Programs[name] = NewProgram(v, fmt.Sprintf("%s:[%s]", filepath.Base(file), p.Section))
	}
	err = coll.Link(func(name string) (maps.Prog, error) {
		if v := runs[name]; v != nil {
			return v, nil
		}
		return nil, fmt.Errorf("%w: %s", ErrNoProgram, name)
	})
	if err != nil {
		closeAll()
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	o.keep(closeAll)
	return c, nil
}

// Prepare verifies a program and makes it ready to run, compiled where the
// machine allows.
func Prepare(p *ebpf.Program) (*vm.Prog, error) {
	proof, err := verifier.Verify(p, verifier.Options{})
	if err != nil {
		return nil, err
	}
	return vm.New(p, vm.Options{Proof: proof})
}

func (o *Objects) keep(done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = append(o.done, done)
}

// Object loads a classifier from a file, by section and name; both may be
// left out if the file has one only.
func (o *Objects) Object(file, section, name string) (*Program, error) {
	c, err := o.Load(file)
	if err != nil {
		return nil, err
	}
	return c.Choose(section, name)
}

// Choose returns the program of a section and name; either may be left out
// where one program remains.
func (c *Collection) Choose(section, name string) (*Program, error) {
	var hit []*Program
	var have []string
	for n, p := range c.Programs {
		sec := c.Collection.Programs[n].Section
		have = append(have, fmt.Sprintf("%s [%s]", n, sec))
		if (name == "" || name == n) && (section == "" || section == sec) {
			hit = append(hit, p)
		}
	}
	slices.Sort(have)
	switch {
	case len(hit) == 1:
		return hit[0], nil
	case len(hit) == 0:
		return nil, fmt.Errorf("%w: %s has no program of section %q name %q; it has %s", ErrNoProgram, c.file, section, name, strings.Join(have, ", "))
	}
	return nil, fmt.Errorf("filter: %s has several programs: choose by section or name from %s", c.file, strings.Join(have, ", "))
}

// Pinned opens a program that "taproom bpf prog pin" put into a directory.
func (o *Objects) Pinned(path string) (*Program, error) {
	reg := object.NewRegistry(object.Options{})
	d, err := object.OpenDir(filepath.Dir(path), reg, object.DirOptions{Load: func(p *ebpf.Program) (maps.Prog, error) { return Prepare(p) }})
	if err != nil {
		return nil, err
	}
	p, err := d.OpenProgram(filepath.Base(path))
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	v, ok := p.Runnable().(*vm.Prog)
	if !ok {
		p.Close()
		return nil, errors.Join(fmt.Errorf("filter: %s cannot run here", path), d.Close())
	}
	o.keep(func() {
		p.Close()
		_ = d.Close()
	})
	return NewProgram(v, filepath.Base(path)+":[*fsobj]"), nil
}

// Classic makes a program of classic bytecode, as tcpdump -ddd and tc write it.
func (o *Objects) Classic(code string) (*Program, error) {
	insns, err := cbpf.Parse(code)
	if err != nil {
		return nil, err
	}
	f, err := cbpf.New(insns)
	if err != nil {
		return nil, fail(unix.EINVAL, "").about(err.Error())
	}
	return NewClassic(f, code), nil
}

// Close lets go of everything that was loaded. Nothing of it may still be
// attached.
func (o *Objects) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.done {
		f()
	}
	o.done = nil
	return nil
}
