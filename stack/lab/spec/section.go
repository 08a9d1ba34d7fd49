package spec

import (
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

// Section is the part of a lab file that belongs to a subsystem, such as
// filters or ioam. The subsystem registers a pointer type for its key.
type Section interface {
	// Check reports mistakes that the types do not show, each with its key
	// relative to the section ("[0].room").
	Check(lab *Lab, fail func(key, format string, args ...any))
}

// sectionKind makes empty sections of one kind.
type sectionKind struct {
	doc  string
	make func() Section
}

var sections = map[string]*sectionKind{}

// RegisterSection makes a key at the top of lab files known. New returns a
// pointer to a struct, map or slice with the tags of this package. It is for
// package initialisation only.
func RegisterSection(key, doc string, new func() Section) {
	if sections[key] != nil {
		panic("spec: section " + key + " registered twice")
	}
	sections[key] = &sectionKind{doc, new}
}

func (d *decoder) decodeSection(l *Lab, name string, n ast.Node) {
	s := sections[name].make()
	d.decode(n, reflect.ValueOf(s).Elem(), name)
	if l.Sections == nil {
		l.Sections = map[string]Section{}
	}
	if l.Sections[name] != nil {
		d.errorAt(name, "given twice")
	}
	l.Sections[name] = s
}
