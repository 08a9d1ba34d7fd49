package object

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bpfmaps "taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// identity names an object across processes: 16 random bytes in hex.
type identity = string

// mapHeader is everything about a map but its elements.
type mapHeader struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	KeySize    uint32     `json:"key_size"`
	ValueSize  uint32     `json:"value_size"`
	MaxEntries uint32     `json:"max_entries"`
	Flags      uint32     `json:"flags,omitempty"`
	Extra      uint64     `json:"extra,omitempty"`
	Frozen     bool       `json:"frozen,omitempty"`
	SpinLock   uint32     `json:"spin_lock,omitempty"`
	Timer      uint32     `json:"timer,omitempty"`
	CPUs       int        `json:"cpus,omitempty"`
	Inner      *mapHeader `json:"inner,omitempty"`
	// Types of keys and values in BTF, 0 if unknown.
	KeyType   btf.TypeID `json:"key_type,omitempty"`
	ValueType btf.TypeID `json:"value_type,omitempty"`
	BTF       []byte     `json:"btf,omitempty"`
	// Objects are the elements of a map of maps or a program array.
	Objects []objectElem `json:"objects,omitempty"`
}

// objectElem is an element whose value is another object.
type objectElem struct {
	Key []byte   `json:"key"`
	ID  identity `json:"id"`
}

func describe(s bpfmaps.Spec) *mapHeader {
	h := &mapHeader{
		Name: s.Name, Type: s.Type.String(), KeySize: s.KeySize, ValueSize: s.ValueSize, MaxEntries: s.MaxEntries,
		Flags: s.Flags, Extra: s.Extra, Frozen: s.Frozen, SpinLock: s.SpinLock, Timer: s.Timer,
	}
	if s.Type.PerCPU() {
		h.CPUs = s.CPUs
	}
	if s.Inner != nil {
		h.Inner = describe(*s.Inner)
	}
	return h
}

// describeTypes stores the types of keys and values.
func (h *mapHeader) describeTypes(s bpfmaps.Spec) (err error) {
	if s.KeyType == nil || s.ValueType == nil {
		return nil
	}
	b, err := btf.NewBuilder(nil, nil)
	if err != nil {
		return err
	}
	if h.KeyType, err = b.Add(s.KeyType); err != nil {
		return err
	}
	if h.ValueType, err = b.Add(s.ValueType); err != nil {
		return err
	}
	h.BTF, err = b.Marshal(nil, nil)
	return err
}

func (h *mapHeader) spec() (bpfmaps.Spec, error) {
	t, ok := bpfmaps.ParseType(h.Type)
	if !ok {
		return bpfmaps.Spec{}, fmt.Errorf("%w: map type %q", ErrFormat, h.Type)
	}
	s := bpfmaps.Spec{
		Name: h.Name, Type: t, KeySize: h.KeySize, ValueSize: h.ValueSize, MaxEntries: h.MaxEntries,
		Flags: h.Flags, Extra: h.Extra, SpinLock: h.SpinLock, Timer: h.Timer,
	}
	types, err := typesOf(h.BTF)
	if err != nil {
		return s, err
	}
	s.KeyType, s.ValueType = types(h.KeyType), types(h.ValueType)
	if h.Inner != nil {
		inner, err := h.Inner.spec()
		if err != nil {
			return s, err
		}
		s.Inner = &inner
	}
	return s, nil
}

// encodeMap writes a map with its contents. id gives the identity of an object in
// it, "" to leave the element out.
func encodeMap(m *bpfmaps.Map, mapID func(*bpfmaps.Map) identity, progID func(uint32) identity) ([]byte, error) {
	h := describe(m.Spec())
	h.Frozen = m.Frozen()
	if err := h.describeTypes(m.Spec()); err != nil {
		return nil, err
	}
	var body []byte
	err := m.Save(func(key, value []byte) error {
		body = appendRecord(body, key)
		body = appendRecord(body, value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch {
	case m.Type() == bpfmaps.ProgArray:
		for i := range m.MaxEntries() {
			if p := m.Prog(uint32(i)); p != nil {
				if id := progID(p.ID()); id != "" {
					h.Objects = append(h.Objects, objectElem{binary.LittleEndian.AppendUint32(nil, uint32(i)), id})
				}
			}
		}
	case m.Type().OfMaps():
		for key, inner := range innerMaps(m) {
			if id := mapID(inner); id != "" {
				h.Objects = append(h.Objects, objectElem{key, id})
			}
		}
	}
	return encode(header{Kind: "map", Map: h}, body)
}

// innerMaps yields the elements of an array or hash of maps.
func innerMaps(m *bpfmaps.Map) func(func([]byte, *bpfmaps.Map) bool) {
	return func(yield func([]byte, *bpfmaps.Map) bool) {
		if !m.Type().OfMaps() {
			return
		}
		var all [][]byte
		seen := map[string]bool{}
		for key, err := m.NextKey(nil); err == nil && !seen[string(key)]; key, err = m.NextKey(key) {
			seen[string(key)] = true
			all = append(all, key)
		}
		for _, key := range all {
			if inner := m.Inner(key); inner != nil && !yield(key, inner) {
				return
			}
		}
	}
}

func appendRecord(b, rec []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(rec)))
	return append(b, rec...)
}

func takeRecord(b []byte) (rec, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, fmt.Errorf("%w: elements are cut off", ErrFormat)
	}
	return b[used : used+int(n)], b[used+int(n):], nil
}

// fill stores saved elements into a new map.
func fill(m *bpfmaps.Map, h *mapHeader, body []byte) error {
	for len(body) > 0 {
		var key, value []byte
		var err error
		if key, body, err = takeRecord(body); err != nil {
			return err
		}
		if value, body, err = takeRecord(body); err != nil {
			return err
		}
		if m.Type().PerCPU() {
			if value, err = refit(value, h.CPUs, m.CPUs()); err != nil {
				return err
			}
		}
		if err := m.Restore(bytes.Clone(key), value); err != nil {
			return err
		}
	}
	return nil
}

// refit makes a per-CPU value saved on another machine one for as many CPUs as
// there are here: those that are missing are zero, those too many are lost.
func refit(value []byte, from, to int) ([]byte, error) {
	if from <= 0 || len(value)%from != 0 {
		return nil, fmt.Errorf("%w: per-CPU value of %d bytes for %d CPUs", ErrFormat, len(value), from)
	}
	out := make([]byte, len(value)/from*to)
	copy(out, value)
	return out, nil
}
