package spec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// source remembers where in the file each key was, for errors that are found
// later, and collects the errors.
type source struct {
	file string
	pos  map[string]*token.Position
	errs Errors
}

// errorAt adds an error at a key, or at the nearest key around it that is in
// the file.
func (s *source) errorAt(key, format string, args ...any) {
	e := &Error{File: s.file, Key: key, Message: fmt.Sprintf(format, args...)}
	for k := key; ; {
		if p := s.pos[k]; p != nil {
			e.Line, e.Column = p.Line, p.Column
			break
		}
		if k == "" {
			break
		}
		k = k[:max(0, strings.LastIndexAny(k, ".["))]
	}
	s.errs = append(s.errs, e)
}

// maxFile bounds a lab file. 200 rooms take some 20 kB.
const maxFile = 4 << 20

// parse reads the syntax tree of the one document in data.
func (s *source) parse(data []byte) ast.Node {
	if len(data) > maxFile {
		s.errorAt("", "the file has %d bytes, more than the %d that are read", len(data), maxFile)
		return nil
	}
	if line, col := tooDeep(data); line > 0 {
		s.errs = append(s.errs, &Error{File: s.file, Line: line, Column: col, Message: "nested too deeply"})
		return nil
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		e := &Error{File: s.file, Message: err.Error()}
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			p := syntax.GetToken().Position
			e.Line, e.Column, e.Message = p.Line, p.Column, "not valid YAML: "+syntax.GetMessage()
		}
		s.errs = append(s.errs, e)
		return nil
	}
	var body ast.Node
	for _, d := range f.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			s.errorAt("", "more than one document in the file")
			return nil
		}
		body = d.Body
	}
	if body == nil {
		s.errorAt("", "the file is empty")
	}
	return body
}

// tooDeep finds where flow brackets or indentation go deeper than any lab
// needs: the parser is recursive.
func tooDeep(data []byte) (line, col int) {
	const limit = 100
	depth, line, indent, atStart := 0, 1, 0, true
	for _, c := range data {
		col++
		switch {
		case c == '\n':
			line, col, indent, atStart = line+1, 0, 0, true
			continue
		case atStart && (c == ' ' || c == '-' || c == '?'):
			if indent++; indent > 4*limit {
				return line, col
			}
			continue
		case c == '[' || c == '{':
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		}
		atStart = false
		if depth > limit {
			return line, col
		}
	}
	return 0, 0
}
