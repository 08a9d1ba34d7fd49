package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml/token"
)

// Parse reads and checks a lab file. The name is for errors. The error is of
// type Errors.
func Parse(file string, data []byte) (*Lab, error) {
	s := &source{file: file, pos: map[string]*token.Position{}}
	lab := &Lab{source: s}
	if root := s.parse(data); root != nil {
		d := &decoder{source: s}
		d.decode(root, reflect.ValueOf(lab).Elem(), "")
	}
	if len(s.errs) == 0 {
		lab.setDefaults()
		lab.validate()
	}
	if len(s.errs) > 0 {
		return nil, s.errs.sorted()
	}
	return lab, nil
}

// ParseFile reads a file. Relative directories in it are made absolute.
func ParseFile(path string) (*Lab, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	lab, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	lab.Resolve(dir)
	return lab, nil
}

// Resolve makes the working directories of programs absolute, and the files
// that sections name (those with a method Resolve of their own).
func (l *Lab) Resolve(dir string) {
	for _, s := range l.Sections {
		if r, ok := s.(interface{ Resolve(dir string) }); ok {
			r.Resolve(dir)
		}
	}
	for _, r := range l.Rooms {
		for i := range r.Run {
			if p := &r.Run[i]; !filepath.IsAbs(p.Dir) {
				p.Dir = filepath.Join(dir, p.Dir)
			}
		}
	}
}
