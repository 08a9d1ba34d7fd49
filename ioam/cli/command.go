package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"

	"taproom/ioam"
)

// Registry is what the commands act on. *ioam.Node is one.
type Registry interface {
	Namespaces() []ioam.Namespace
	Schemas() []ioam.Schema
	AddNamespace(ioam.Namespace) error
	DelNamespace(id uint16) error
	AddSchema(ioam.Schema) error
	DelSchema(id uint32) error
	SetSchema(ns uint16, schema *uint32) error
}

// Options change the output.
type Options struct {
	JSON bool
	// Program stands in the usage in front of "ioam"; empty is ip.
	Program string
}

// An Error is a command that failed, as ip would print it and exit.
type Error struct {
	Text string // without a newline
	Code int    // exit status: 255 for the words, 1 for a refusal
	Err  error  // the refusal, nil for the words
}

func (e *Error) Error() string { return e.Text }

// Unwrap is the refusal.
func (e *Error) Unwrap() error { return e.Err }

func wrong(arg, why string) error {
	return &Error{Text: fmt.Sprintf("Error: argument %q is wrong: %s", arg, why), Code: 255}
}

var errIncomplete = &Error{Text: `Command line is not complete. Try option "help"`, Code: 255}

// answer makes an ip error of a refusal.
func answer(err error) error {
	if err == nil {
		return nil
	}
	var no syscall.Errno
	if !errors.As(err, &no) {
		return &Error{Text: err.Error(), Code: 1, Err: err}
	}
	return &Error{Text: "RTNETLINK answers: " + strerror(no), Code: 1, Err: err}
}

// strerror is the C library's text: it begins with a capital, Go's does not.
func strerror(no syscall.Errno) string {
	s := no.Error()
	return string(s[0]-'a'+'A') + s[1:]
}

const usage = `Usage:	%[1]s ioam { COMMAND | help }
	%[1]s ioam namespace show
	%[1]s ioam namespace add ID [ data DATA32 ] [ wide DATA64 ]
	%[1]s ioam namespace del ID
	%[1]s ioam schema show
	%[1]s ioam schema add ID DATA
	%[1]s ioam schema del ID
	%[1]s ioam namespace set ID schema { ID | none }
`

// Usage is what help prints.
func Usage(program string) string {
	if program == "" {
		program = "ip"
	}
	return fmt.Sprintf(usage, program)
}

// words are what is left of the command line.
type words []string

func (w *words) next() (string, error) {
	if len(*w) == 0 {
		return "", errIncomplete
	}
	s := (*w)[0]
	*w = (*w)[1:]
	return s, nil
}

// Run carries out one command.
func Run(r Registry, args []string, o Options, out io.Writer) error {
	w := words(args)
	what, err := w.next()
	if err != nil || what == "help" {
		return &Error{Text: Usage(o.Program)[:len(Usage(o.Program))-1], Code: 255}
	}
	if what != "namespace" && what != "schema" {
		return wrong(what, "Unknown")
	}
	verb, err := w.next()
	if err != nil {
		return err
	}
	switch {
	case verb == "show" && what == "namespace":
		return showNamespaces(r, o, out)
	case verb == "show":
		return showSchemas(r, o, out)
	case verb == "add" && what == "namespace":
		return addNamespace(r, w)
	case verb == "add":
		return addSchema(r, w)
	case verb == "del" && what == "namespace":
		id, err := w.namespace()
		if err != nil {
			return err
		}
		return answer(r.DelNamespace(id))
	case verb == "del":
		id, err := w.schema()
		if err != nil {
			return err
		}
		return answer(r.DelSchema(id))
	case verb == "set" && what == "namespace":
		return setSchema(r, w)
	}
	return wrong(verb, "Unknown")
}

func (w *words) namespace() (uint16, error) {
	s, err := w.next()
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(s, 0, 16)
	if err != nil {
		return 0, wrong(s, "Invalid namespace ID")
	}
	return uint16(id), nil
}

func (w *words) schema() (uint32, error) {
	s, err := w.next()
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0, wrong(s, "Invalid schema ID")
	}
	return uint32(id), nil
}

func addNamespace(r Registry, w words) error {
	id, err := w.namespace()
	if err != nil {
		return err
	}
	ns := ioam.Namespace{ID: id}
	for len(w) > 0 {
		key, _ := w.next()
		if key != "data" && key != "wide" {
			return wrong(key, "Invalid argument")
		}
		if ns.Wide != nil || key == "data" && ns.Data != nil {
			return wrong(key, "Unexpected argument")
		}
		val, err := w.next()
		if err != nil {
			return err
		}
		if key == "data" {
			v, err := strconv.ParseUint(val, 0, 32)
			if err != nil {
				return wrong(val, "Invalid data")
			}
			ns.Data = ioam.ID(uint32(v))
			continue
		}
		v, err := parseHex(val)
		if err != nil {
			return wrong(val, "Invalid wide data")
		}
		ns.Wide = &v
	}
	return answer(r.AddNamespace(ns))
}

// parseHex reads wide data: ip takes it in hexadecimal, with 0x or without.
func parseHex(s string) (uint64, error) {
	if len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		s = s[2:]
	}
	return strconv.ParseUint(s, 16, 64)
}

func addSchema(r Registry, w words) error {
	id, err := w.schema()
	if err != nil {
		return err
	}
	data, err := w.next()
	if err != nil {
		return err
	}
	if len(data) > ioam.MaxSchemaData {
		return wrong(data, "Schema DATA too big")
	}
	return answer(r.AddSchema(ioam.Schema{ID: id, Data: append([]byte{}, data...)}))
}

func setSchema(r Registry, w words) error {
	ns, err := w.namespace()
	if err != nil {
		return err
	}
	key, err := w.next()
	if err != nil {
		return err
	}
	if key != "schema" {
		return wrong(key, "Unknown")
	}
	if len(w) > 0 && w[0] == "none" {
		return answer(r.SetSchema(ns, nil))
	}
	id, err := w.schema()
	if err != nil {
		return err
	}
	return answer(r.SetSchema(ns, &id))
}
