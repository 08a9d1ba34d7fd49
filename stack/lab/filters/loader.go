package filters

import (
	"context"
	"os"
	"path/filepath"

	"taproom/filter"
)

// loader loads the object files of one section. On one router all attachments
// from one file share its maps, whichever program each of them is: that is how
// the two directions of a translation know of each other.
type loader struct {
	ctx     context.Context // bounds the compiler
	objects map[string]string
	loaded  map[string]*filter.Collection // by router and file
	dir     string                        // of what was compiled
}

func newLoader(ctx context.Context) *loader {
	return &loader{ctx: ctx, objects: make(map[string]string), loaded: make(map[string]*filter.Collection)}
}

// close forgets compiled files; what was loaded from them stays.
func (l *loader) close() {
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// program returns a program of a file, object or C source, for a router.
func (l *loader) program(room string, p *Part, file, section, name string) (*filter.Program, error) {
	key := room + " " + file
	c := l.loaded[key]
	if c == nil {
		object, err := l.object(file)
		if err != nil {
			return nil, err
		}
		if c, err = p.Load(object); err != nil {
			return nil, err
		}
		l.loaded[key] = c
	}
	return c.Choose(section, name)
}

// object returns the object file for a file, which it compiles if it is
// source: once, however many routers use it.
func (l *loader) object(file string) (string, error) {
	if filepath.Ext(file) != ".c" {
		return file, nil
	}
	if o, ok := l.objects[file]; ok {
		return o, nil
	}
	if l.dir == "" {
		dir, err := os.MkdirTemp("", "taproom-bpf-")
		if err != nil {
			return "", err
		}
		l.dir = dir
	}
	o, err := compile(l.ctx, file, l.dir)
	if err == nil {
		l.objects[file] = o
	}
	return o, err
}
