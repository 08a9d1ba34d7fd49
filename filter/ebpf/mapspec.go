package ebpf

import (
	"encoding/binary"
	"fmt"
	"io"

	"taproom/filter/maps"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// newMapSpec translates the reader's description of a map.
func newMapSpec(m *cebpf.MapSpec) (*MapSpec, error) {
	s := &MapSpec{
		Spec: maps.Spec{
			Name: mapName(m.Name), Type: maps.Type(m.Type), KeySize: m.KeySize, ValueSize: m.ValueSize,
			MaxEntries: m.MaxEntries, Flags: m.Flags, Extra: m.MapExtra,
		},
		Key: m.Key, Value: m.Value,
		PinByName: m.Pinning == cebpf.PinByName,
	}
	s.Constant = s.Flags&maps.RdOnlyProg != 0 && s.Type == maps.Array && isConstantSection(m.Name)
	if err := s.special(); err != nil {
		return nil, err
	}
	if m.InnerMap != nil && m.InnerMap != m {
		inner, err := newMapSpec(m.InnerMap)
		if err != nil {
			return nil, fmt.Errorf("inner map: %w", err)
		}
		s.Inner = inner
	}
	s.fixSizes()
	for _, kv := range m.Contents {
		c, err := newContent(kv)
		if err != nil {
			return nil, err
		}
		s.Contents = append(s.Contents, c)
	}
	if m.Extra != nil && m.Extra.Len() > 0 {
		raw, err := io.ReadAll(m.Extra)
		if err != nil {
			return nil, err
		}
		s.legacy = parseLegacy(raw)
	}
	return s, nil
}

// mapName cuts a name to what the kernel keeps: 15 characters.
func mapName(s string) string {
	b := []byte(s)
	if len(b) > 15 {
		b = b[:15]
	}
	for i, c := range b {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.'
		if !ok {
			b[i] = '_'
		}
	}
	return string(b)
}

func isConstantSection(name string) bool {
	return len(name) >= 7 && name[:7] == ".rodata"
}

// fixSizes fills in what a definition may leave out because the type fixes it.
func (s *MapSpec) fixSizes() {
	switch s.Type {
	case maps.PerfEventArray:
		s.KeySize, s.ValueSize = 4, 4
		if s.MaxEntries == 0 {
			s.MaxEntries = uint32(maps.NumCPU())
		}
	case maps.CPUMap:
		if s.MaxEntries == 0 {
			s.MaxEntries = uint32(maps.NumCPU())
		}
	case maps.ArrayOfMaps, maps.HashOfMaps:
		s.ValueSize = 4
		if s.Type == maps.ArrayOfMaps {
			s.KeySize = 4
		}
	}
}

func newContent(kv cebpf.MapKV) (Content, error) {
	var c Content
	switch k := kv.Key.(type) {
	case uint32:
		c.Key = binary.NativeEndian.AppendUint32(nil, k)
	case []byte:
		c.Key = k
	default:
		return c, fmt.Errorf("initial element has a key of Go type %T", k)
	}
	switch v := kv.Value.(type) {
	case string:
		c.Name = v
	case []byte:
		c.Value = v
	default:
		return c, fmt.Errorf("initial element has a value of Go type %T", v)
	}
	return c, nil
}

// special finds the fields in the value's type that the runtime treats specially.
func (s *MapSpec) special() error {
	if s.Value == nil || isDataSection(s.Value) {
		return nil
	}
	return walkFields(s.Value, 0, 0, func(name string, off uint32) error {
		slot := map[string]*uint32{"bpf_spin_lock": &s.SpinLock, "bpf_timer": &s.Timer}[name]
		if slot == nil {
			return nil
		}
		if *slot != 0 {
			return fmt.Errorf("value has more than one struct %s", name)
		}
		*slot = off + 1
		return nil
	})
}

func isDataSection(t btf.Type) bool { _, ok := t.(*btf.Datasec); return ok }

// walkFields calls f for each struct inside t, with its offset in bytes.
func walkFields(t btf.Type, off uint32, depth int, f func(name string, off uint32) error) error {
	s, ok := btf.UnderlyingType(t).(*btf.Struct)
	if !ok || depth > 8 {
		return nil
	}
	if err := f(s.Name, off); err != nil {
		return err
	}
	for _, m := range s.Members {
		if err := walkFields(m.Type, off+m.Offset.Bytes(), depth+1, f); err != nil {
			return err
		}
	}
	return nil
}

// live returns the spec to create the map from, without contents.
func (s *MapSpec) live() maps.Spec {
	out := s.Spec
	out.Contents = nil
	out.KeyType, out.ValueType = s.Key, s.Value
	if s.Inner != nil {
		inner := s.Inner.live()
		out.Inner = &inner
	}
	return out
}
