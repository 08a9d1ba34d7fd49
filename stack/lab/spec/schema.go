package spec

import (
	"encoding"
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"taproom/stack/wire"
)

// Schema is the JSON Schema (2020-12) of lab files, made from the types that
// Parse fills, so that it cannot say anything else. Registered sections are
// part of it.
func Schema() []byte {
	g := &schemaMaker{defs: map[string]any{}}
	root := g.object(reflect.TypeFor[Lab]())
	props := root["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		s := g.of(reflect.TypeOf(sections[name].make()).Elem())
		props[name] = described(s, sections[name].doc)
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "taproom lab file"
	root["$defs"] = g.defs
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps and strings only
	}
	return append(out, '\n')
}

type schemaMaker struct{ defs map[string]any }

type object = map[string]any

// scalars are the types whose text has a form of its own.
var scalars = map[reflect.Type]object{
	reflect.TypeFor[Duration]():          {"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, "examples": []string{"10ms"}},
	reflect.TypeFor[Percent]():           {"anyOf": []object{{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": `^[0-9.]+ *%$`}}, "examples": []string{"1%"}},
	reflect.TypeFor[Rate]():              {"type": "string", "pattern": `^[0-9.]+ *([kKmMgGtT]?[bB]it)(/s)?$`, "examples": []string{"10mbit"}},
	reflect.TypeFor[Size]():              {"anyOf": []object{{"type": "integer", "minimum": 0}, {"type": "string", "pattern": `^[0-9]+ *([kKmMgG][iI]?)?[bB]$`}}, "examples": []string{"64kB"}},
	reflect.TypeFor[MAC]():               {"type": "string", "pattern": `^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$`},
	reflect.TypeFor[Endpoint]():          {"type": "string", "pattern": `^[^:]+:.+$`, "examples": []string{"alice:eth0"}},
	reflect.TypeFor[Destination]():       {"type": "string", "examples": []string{"default", "10.0.0.0/8"}},
	reflect.TypeFor[Pattern]():           {"type": "string", "format": "regex"},
	reflect.TypeFor[Scalar]():            {"type": []string{"string", "number", "boolean"}},
	reflect.TypeFor[netip.Addr]():        {"type": "string", "examples": []string{"10.0.0.1", "fd00::1"}},
	reflect.TypeFor[netip.Prefix]():      {"type": "string", "pattern": `^[0-9a-fA-F.:]+/[0-9]+$`, "examples": []string{"10.0.0.1/24"}},
	reflect.TypeFor[wire.Distribution](): {"type": "string", "enum": wire.Distributions()},
}

func (g *schemaMaker) of(t reflect.Type) object {
	if t.Kind() == reflect.Pointer {
		return g.of(t.Elem())
	}
	if s, ok := scalars[t]; ok {
		return maps.Clone(s)
	}
	var s object
	switch t.Kind() {
	case reflect.Struct:
		s = object{"$ref": "#/$defs/" + t.Name()}
		if g.defs[t.Name()] == nil {
			g.defs[t.Name()] = object{} // for types that contain themselves
			g.defs[t.Name()] = g.object(t)
		}
	case reflect.Map:
		s = object{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Slice:
		s = object{"type": "array", "items": g.of(t.Elem())}
	case reflect.Bool:
		s = object{"type": "boolean"}
	case reflect.Int, reflect.Uint64:
		s = object{"type": "integer"}
	default:
		s = object{"type": "string"}
	}
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[shortForm]()) || t.Kind() != reflect.String && p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return object{"anyOf": []object{s, {"type": "string"}}}
	}
	return s
}

func (g *schemaMaker) object(t reflect.Type) object {
	props, required := object{}, []string{}
	for _, f := range fieldsOf(t) {
		s := described(g.of(f.typ), f.doc)
		if f.enum != nil {
			s["enum"] = f.enum
		}
		props[f.key] = s
		if f.required {
			required = append(required, f.key)
		}
	}
	o := object{"type": "object", "properties": props, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

func described(s object, doc string) object {
	if doc != "" {
		s["description"] = doc
	}
	return s
}
