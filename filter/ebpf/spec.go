package ebpf

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"taproom/filter/maps"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// CollectionSpec is what an object file says: programs, maps and variables by
// name. It depends on nothing but the file, and may be changed before it is made
// live by NewCollection.
type CollectionSpec struct {
	Programs  map[string]*ProgramSpec
	Maps      map[string]*MapSpec
	Variables map[string]*VariableSpec
	Types     *btf.Spec // nil without BTF

	externs externs
}

// ProgramSpec is one program of an object file.
type ProgramSpec struct {
	Name       string
	Section    string
	License    string
	Type       ProgType // Unspec if the section's name does not say; to be set then
	AttachType uint32

	insns asm.Instructions
}

// MapSpec is one map of an object file.
type MapSpec struct {
	maps.Spec // Inner and Contents are not used here

	Inner    *MapSpec // pattern of the maps in this map
	Contents []Content
	// Key and Value are the types from BTF, nil without.
	Key, Value btf.Type
	// PinByName says that the map wants to be shared under its name.
	PinByName bool
	// Constant says that neither program nor Go writes to it once it is live:
	// .rodata and its like.
	Constant bool

	legacy *legacyDef
}

// Content is an initial element. Value is raw bytes, or Name that of a program or
// map of the same object.
type Content struct {
	Key   []byte
	Value []byte
	Name  string
}

// ErrBigEndian is returned for objects compiled for big-endian machines.
var ErrBigEndian = errors.New("ebpf: object is for big-endian machines (compile with -target bpfel or bpf)")

// ErrUnsupported is wrapped by errors about features of objects that taproom does
// not run.
var ErrUnsupported = errors.New("not supported by taproom")

// LoadSpec reads an ELF object. It needs no kernel and no privilege.
func LoadSpec(r io.ReaderAt) (*CollectionSpec, error) {
	if err := checkHeader(r); err != nil {
		return nil, err
	}
	ext, err := readExterns(r)
	if err != nil {
		return nil, err
	}
	cs, err := cebpf.LoadCollectionSpecFromReader(strengthened{r, ext.info})
	if err != nil {
		return nil, fmt.Errorf("ebpf: read object: %w", err)
	}
	spec := &CollectionSpec{
		Programs:  make(map[string]*ProgramSpec, len(cs.Programs)),
		Maps:      make(map[string]*MapSpec, len(cs.Maps)),
		Variables: make(map[string]*VariableSpec, len(cs.Variables)),
		Types:     cs.Types, externs: ext,
	}
	for name, m := range cs.Maps {
		if spec.Maps[name], err = newMapSpec(m); err != nil {
			return nil, fmt.Errorf("ebpf: map %s: %w", name, err)
		}
	}
	for name, p := range cs.Programs {
		spec.Programs[name] = &ProgramSpec{
			Name: p.Name, Section: p.SectionName, License: p.License,
			Type: ProgType(p.Type), AttachType: uint32(p.AttachType), insns: p.Instructions,
		}
	}
	for name, v := range cs.Variables {
		spec.Variables[name] = &VariableSpec{
			Name: name, Section: v.SectionName, Offset: v.Offset, Value: v.Value, Type: v.Type,
		}
	}
	if err := spec.linkLegacy(); err != nil {
		return nil, err
	}
	return spec, nil
}

// checkHeader tells a foreign byte order from a broken file.
func checkHeader(r io.ReaderAt) error {
	var h [20]byte
	if _, err := r.ReadAt(h[:], 0); err != nil || string(h[:4]) != "\x7fELF" {
		return errors.New("ebpf: not an ELF object")
	}
	const dataBig, machineBPF = 2, 247
	if h[5] == dataBig {
		if machine := int(h[18])<<8 | int(h[19]); machine != machineBPF && machine != 0 {
			return fmt.Errorf("ebpf: ELF object is not for BPF but machine %d", machine)
		}
		return ErrBigEndian
	}
	return nil
}

// guessType knows section names that say nothing by libbpf's rules, but that
// objects for older loaders of traffic control programs use.
func (p *ProgramSpec) guessType() {
	if p.Type != Unspec {
		return
	}
	name, _, _ := strings.Cut(p.Section, "/")
	switch name {
	case "ingress", "egress", "cls", "from-container", "to-container", "from-netdev", "to-netdev":
		p.Type = SchedCLS
	case "act":
		p.Type = SchedACT
	case "filter":
		p.Type = SocketFilter
	}
}
