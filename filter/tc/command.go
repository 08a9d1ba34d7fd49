package tc

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"taproom/filter"
)

// Loader finds programs.
type Loader interface {
	// Pinned opens a program that is pinned at a path.
	Pinned(path string) (*filter.Program, error)
	// Object loads a program from an object file, by section and, if that has
	// several, by name; both may be empty if there is only one.
	Object(file, section, name string) (*filter.Program, error)
	// Classic makes a program of classic bytecode ("2,40 0 0 12,6 0 0 0").
	Classic(bytecode string) (*filter.Program, error)
}

// Command runs command lines. It keeps no state of its own.
type Command struct {
	Filters *filter.Filters
	Load    Loader
}

// words are the arguments not yet read.
type words struct{ rest []string }

func (w *words) more() bool { return len(w.rest) > 0 }

func (w *words) peek() string {
	if len(w.rest) == 0 {
		return ""
	}
	return w.rest[0]
}

func (w *words) next() string {
	s := w.peek()
	if s != "" {
		w.rest = w.rest[1:]
	}
	return s
}

// value is the argument of option name.
func (w *words) value(name string) (string, error) {
	if !w.more() {
		return "", fmt.Errorf("tc: %q needs a value", name)
	}
	return w.next(), nil
}

func (w *words) accept(any ...string) bool {
	for _, s := range any {
		if w.peek() == s {
			w.next()
			return true
		}
	}
	return false
}

// flags are tc's own options.
type flags struct{ stats, json bool }

// Run carries out one command line and returns what tc would print.
func (c Command) Run(args ...string) (string, error) {
	w := &words{args}
	var f flags
	for strings.HasPrefix(w.peek(), "-") {
		switch o := w.next(); strings.TrimLeft(o, "-") {
		case "s", "stats", "statistics":
			f.stats = true
		case "j", "json":
			f.json = true
		case "d", "details", "p", "pretty":
		default:
			return "", fmt.Errorf("tc: unknown option %q (-s, -d, -j)", o)
		}
	}
	switch o := w.next(); {
	case prefix(o, "qdisc"):
		return c.qdisc(w, f)
	case prefix(o, "class"):
		return c.class(w, f)
	case prefix(o, "filter"):
		return c.filter(w, f)
	case prefix(o, "chain"):
		return c.chain(w, f)
	default:
		return "", fmt.Errorf("tc: object %q is unknown (qdisc, class, filter, chain)", o)
	}
}

// prefix reports whether s abbreviates word, as tc lets it.
func prefix(s, word string) bool { return s != "" && strings.HasPrefix(word, s) }

// device reads "dev NAME".
func (c Command) device(w *words) (*filter.Device, error) {
	name, err := w.value("dev")
	if err != nil {
		return nil, err
	}
	d, err := c.Filters.DeviceByName(name)
	if err != nil {
		return nil, fmt.Errorf("Cannot find device %q", name) //nolint:staticcheck // tc's words
	}
	return d, nil
}

// handle reads "MAJ:MIN" or "MAJ:", in hex as tc has it.
func handle(s string) (uint32, error) {
	maj, min, ok := strings.Cut(s, ":")
	if !ok {
		return 0, fmt.Errorf("tc: %q is not a handle (MAJOR:MINOR in hex)", s)
	}
	var v [2]uint64
	for k, part := range []string{maj, min} {
		if part == "" {
			continue
		}
		n, err := strconv.ParseUint(part, 16, 16)
		if err != nil {
			return 0, fmt.Errorf("tc: %q is not a handle (MAJOR:MINOR in hex)", s)
		}
		v[k] = n
	}
	return uint32(v[0]<<16 | v[1]), nil
}

func showHandle(h uint32) string {
	if h&0xffff == 0 {
		return fmt.Sprintf("%x:", h>>16)
	}
	return fmt.Sprintf("%x:%x", h>>16, h&0xffff)
}

// number reads an integer in any of C's bases.
func number(name, s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("tc: %s %q is not a number of %d bits", name, s, bits)
	}
	return n, nil
}

func refused(n unix.Errno, text string) error { return &filter.Error{Errno: n, Text: text} }
