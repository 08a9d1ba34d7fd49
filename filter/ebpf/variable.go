package ebpf

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bpfmaps "taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// VariableSpec is a global variable: part of the contents of a data section's map.
type VariableSpec struct {
	Name    string
	Section string // name of the map
	Offset  uint32
	Value   []byte   // initial value; may be changed, not resized
	Type    *btf.Var // nil without BTF
}

// Set gives the variable another initial value: a number, bool, array or struct of
// exactly its size, as encoding/binary knows them.
func (v *VariableSpec) Set(value any) error {
	return encodeInto(v.Value, value, v.Name)
}

// Variable is a live global variable.
type Variable struct {
	Name string
	Type *btf.Var // nil without BTF

	m   *bpfmaps.Map
	mem []byte
}

// Bytes returns the variable's memory, which programs read and write.
func (v *Variable) Bytes() []byte { return v.mem }

// ReadOnly reports whether programs see it as a constant: writing to it has no
// defined effect on them.
func (v *Variable) ReadOnly() bool { return v.m.Flags()&bpfmaps.RdOnlyProg != 0 }

// Set writes the variable; see VariableSpec.Set for values.
func (v *Variable) Set(value any) error {
	if v.ReadOnly() {
		return fmt.Errorf("ebpf: variable %s is a constant", v.Name)
	}
	return encodeInto(v.mem, value, v.Name)
}

// Get reads the variable into what value points to.
func (v *Variable) Get(value any) error {
	if n := binary.Size(value); n != len(v.mem) {
		return fmt.Errorf("ebpf: variable %s has %d bytes, not %d (%T)", v.Name, len(v.mem), n, value)
	}
	return binary.Read(bytes.NewReader(v.mem), binary.NativeEndian, value)
}

func encodeInto(mem []byte, value any, name string) error {
	if n := binary.Size(value); n != len(mem) {
		return fmt.Errorf("ebpf: variable %s has %d bytes, not %d (%T)", name, len(mem), n, value)
	}
	_, err := binary.Encode(mem, binary.NativeEndian, value)
	return err
}
