package spec

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// shortForm is a type that may be written as one string.
type shortForm interface{ Short(s string) error }

// decoder fills values from a syntax tree. It goes on after a mistake, so that
// one run finds them all. What it reads is described by the fields' tags:
// yaml (key), required, enum.
type decoder struct {
	*source
	anchors map[string]ast.Node
	nodes   int // visited, aliases included
}

// maxNodes bounds what aliases can blow a file up to.
const maxNodes = 200_000

func (d *decoder) decode(n ast.Node, v reflect.Value, key string) {
	if n = d.resolve(n, key); n == nil {
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		before := len(d.errs)
		if d.decode(n, p.Elem(), key); len(d.errs) == before {
			v.Set(p)
		}
		return
	}
	if _, isNull := n.(*ast.NullNode); isNull {
		return // as if the key were not there
	}
	if text, ok := scalar(n); ok && d.decodeText(text, v, key) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(n, v, key)
	case reflect.Map:
		d.decodeMap(n, v, key)
	case reflect.Slice:
		d.decodeSlice(n, v, key)
	default:
		d.decodeBasic(n, v, key)
	}
}

// resolve follows anchors and aliases, and notes where the key is.
func (d *decoder) resolve(n ast.Node, key string) ast.Node {
	for {
		if d.nodes++; d.nodes > maxNodes {
			if d.nodes == maxNodes+1 {
				d.errorAt(key, "the file grows too large through its aliases")
			}
			return nil
		}
		if n == nil {
			return nil
		}
		if t := n.GetToken(); t != nil && d.pos[key] == nil {
			d.pos[key] = t.Position
		}
		switch a := n.(type) {
		case *ast.AnchorNode:
			if d.anchors == nil {
				d.anchors = map[string]ast.Node{}
			}
			d.anchors[a.Name.GetToken().Value] = a.Value
			n = a.Value
		case *ast.AliasNode:
			name := a.Value.GetToken().Value
			target, ok := d.anchors[name]
			if !ok {
				d.errorAt(key, "no anchor &%s before this place", name)
				return nil
			}
			n = target
		case *ast.TagNode:
			n = a.Value
		default:
			return n
		}
	}
}

// scalar returns the text of a scalar as it is written.
func scalar(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case ast.MapNode:
		return joined(s)
	}
	return "", false
}

// joined repairs what the parser splits inside flow mappings: a:b without a
// blank is one word there too, not a key and its value.
func joined(m ast.MapNode) (string, bool) {
	it := m.MapRange()
	if !it.Next() || it.Key().IsMergeKey() {
		return "", false
	}
	k, v := it.Key().GetToken(), it.Value().GetToken()
	if it.Next() || k == nil || v == nil || k.Type != token.StringType || v.Position.Line != k.Position.Line ||
		v.Position.Column != k.Position.Column+len(k.Value)+1 {
		return "", false
	}
	return k.Value + ":" + v.Value, true
}

// decodeText lets types that read text do so. It reports false if v is none.
func (d *decoder) decodeText(text string, v reflect.Value, key string) bool {
	var err error
	switch t := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		err = t.UnmarshalText([]byte(text))
	case shortForm:
		err = t.Short(text)
	default:
		return false
	}
	if err != nil {
		d.errorAt(key, "%s", cleaned(err))
	} else if v.Kind() == reflect.Struct {
		for _, f := range fieldsOf(v.Type()) {
			d.checkEnum(f, v.FieldByIndex(f.index), key)
		}
	}
	return true
}

// cleaned drops the prefixes of packages that readers of a lab file have not
// heard of.
func cleaned(err error) string {
	s := err.Error()
	for _, p := range []string{"netip.", "wire: ", "spec: "} {
		s = strings.TrimPrefix(s, p)
	}
	return s
}

func (d *decoder) decodeBasic(n ast.Node, v reflect.Value, key string) {
	text, ok := scalar(n)
	if !ok {
		d.errorAt(key, "want %s, not %s", describe(v.Type()), nodeName(n))
		return
	}
	d.decodeScalar(text, v, key)
}

// decodeScalar reads any value that can be written as one word.
func (d *decoder) decodeScalar(text string, v reflect.Value, key string) {
	if d.decodeText(text, v, key) {
		return
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		var b bool
		if b, err = strconv.ParseBool(text); err == nil {
			v.SetBool(b)
		}
	case reflect.Int:
		var i int64
		if i, err = strconv.ParseInt(text, 0, 32); err == nil {
			v.SetInt(i)
		}
	case reflect.Uint64:
		var u uint64
		if u, err = strconv.ParseUint(text, 0, 64); err == nil {
			v.SetUint(u)
		}
	default:
		panic("spec: no way to read a " + v.Type().String())
	}
	if err != nil {
		d.errorAt(key, "want %s, not %q", describe(v.Type()), text)
	}
}

func (d *decoder) decodeSlice(n ast.Node, v reflect.Value, key string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.errorAt(key, "want a list, not %s", nodeName(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, e := range seq.Values {
		d.decode(e, out.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(out)
}

func (d *decoder) decodeMap(n ast.Node, v reflect.Value, key string) {
	out := reflect.MakeMap(v.Type())
	d.eachPair(n, key, func(name, child string, value ast.Node) {
		k := reflect.ValueOf(name)
		if out.MapIndex(k).IsValid() {
			d.errorAt(child, "given twice")
			return
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, e, child)
		out.SetMapIndex(k, e)
	})
	v.Set(out)
}

// eachPair calls f for the pairs of a mapping, with name and whole key.
func (d *decoder) eachPair(n ast.Node, key string, f func(name, child string, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.errorAt(key, "want keys and values, not %s", nodeName(n))
		return
	}
	own := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		own[it.Key().GetToken().Value] = true
	}
	for it := m.MapRange(); it.Next(); {
		k := it.Key()
		if k.IsMergeKey() {
			if merged := d.resolve(it.Value(), key); merged != nil {
				d.eachPair(merged, key, func(name, child string, value ast.Node) {
					if !own[name] { // what is said here goes before what is merged in
						f(name, child, value)
					}
				})
			}
			continue
		}
		name := k.GetToken().Value
		child := name
		if key != "" {
			child = key + "." + name
		}
		if d.pos[child] == nil {
			d.pos[child] = k.GetToken().Position
		}
		f(name, child, it.Value())
	}
}

func (d *decoder) decodeStruct(n ast.Node, v reflect.Value, key string) {
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	if _, isMap := n.(ast.MapNode); !isMap {
		d.errorAt(key, "want keys and values, not %s", nodeName(n))
		return
	}
	d.eachPair(n, key, func(name, child string, value ast.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == name })
		switch {
		case i < 0 && key == "" && sections[name] != nil && v.Type() == reflect.TypeFor[Lab]():
			d.decodeSection(v.Addr().Interface().(*Lab), name, value)
		case i < 0:
			d.errorAt(child, "unknown key%s", suggest(name, keysOf(fields, v.Type())))
		case seen[name]:
			d.errorAt(child, "given twice")
		default:
			seen[name] = true
			f := v.FieldByIndex(fields[i].index)
			d.decode(value, f, child)
			d.checkEnum(fields[i], f, child)
		}
	})
	for _, f := range fields {
		if f.required && !seen[f.key] {
			d.errorAt(key, "key %q is missing", f.key)
		}
	}
}

func (d *decoder) checkEnum(f field, v reflect.Value, key string) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if f.enum == nil || v.Kind() != reflect.String || v.String() == "" {
		return
	}
	if !slices.Contains(f.enum, v.String()) {
		d.errorAt(key, "unknown value %q%s", v.String(), suggest(v.String(), f.enum))
	}
}

// field is a key that a struct takes.
type field struct {
	key, doc string
	index    []int
	required bool
	enum     []string
	typ      reflect.Type
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		switch {
		case tag == ",inline":
			for _, in := range fieldsOf(f.Type) {
				in.index = append([]int{i}, in.index...)
				out = append(out, in)
			}
		case tag != "" && tag != "-":
			fd := field{key: tag, doc: f.Tag.Get("doc"), index: []int{i}, required: f.Tag.Get("required") == "true", typ: f.Type}
			if e := f.Tag.Get("enum"); e != "" {
				fd.enum = strings.Split(e, ",")
			}
			out = append(out, fd)
		}
	}
	return out
}

func keysOf(fields []field, t reflect.Type) []string {
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	if t == reflect.TypeFor[Lab]() {
		for name := range sections {
			keys = append(keys, name)
		}
	}
	return keys
}

func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Uint64:
		return "a whole number"
	}
	return "text"
}

func nodeName(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "keys and values"
	}
	if s, ok := scalar(n); ok {
		return strconv.Quote(s)
	}
	return "nothing"
}
