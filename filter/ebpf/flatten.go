package ebpf

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"taproom/filter/ebpf/target"
	"taproom/filter/helper"
	"taproom/filter/maps"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// flattener turns a program of a spec into a Program.
type flattener struct {
	spec  *CollectionSpec
	types []*btf.Spec
	// live returns the live map with a name; the kernel configuration's is
	// called kconfigName.
	live func(name string) (*maps.Map, error)
	// kconfig returns the offset of a configuration variable in its map.
	kconfig func(name string) (uint32, error)
}

// flatten resolves every reference of p and encodes it.
func (f *flattener) flatten(p *ProgramSpec) (*Program, error) {
	insns := append(asm.Instructions(nil), p.insns...)
	if err := f.relocate(insns); err != nil {
		return nil, err
	}
	out := &Program{
		Name: p.Name, Section: p.Section, License: p.License, Type: p.Type, AttachType: p.AttachType,
	}
	var patches []patch
	function, start := "", 0
	for it := insns.Iterate(); it.Next(); {
		slot := int(it.Offset)
		if sym := it.Ins.Symbol(); sym != "" {
			function, start = sym, slot
			out.Funcs = append(out.Funcs, Func{Start: slot, Name: sym, Type: btf.FuncMetadata(it.Ins)})
		}
		if l, ok := it.Ins.Source().(*btf.Line); ok {
			out.Lines = append(out.Lines, Line{
				Insn: slot, File: l.FileName(), Line: l.LineNumber(), Col: l.LineColumn(), Text: l.Line(),
			})
		}
		pt, err := f.reference(out, it.Ins, function, slot-start)
		if err != nil {
			return nil, fmt.Errorf("instruction %d: %w", slot, err)
		}
		if pt != nil {
			pt.slot = slot
			patches = append(patches, *pt)
		}
	}
	if len(out.Funcs) == 0 || out.Funcs[0].Start != 0 {
		out.Funcs = append([]Func{{Name: p.Name}}, out.Funcs...)
	}
	var b bytes.Buffer
	if err := insns.Marshal(&b, binary.LittleEndian); err != nil {
		return nil, err
	}
	raw, err := Decode(b.Bytes())
	if err != nil {
		return nil, err
	}
	for _, pt := range patches {
		raw[pt.slot].Imm = pt.imm
		raw[pt.slot].Off = 0
		if pt.wide {
			raw[pt.slot].Regs = Regs(raw[pt.slot].Dst(), pt.src)
			raw[pt.slot+1].Imm = pt.hi
		}
	}
	out.Insns = raw
	return out, nil
}

// patch is what an instruction becomes after encoding.
type patch struct {
	slot    int
	imm, hi int32
	src     uint8
	wide    bool
}

// reference resolves what one instruction refers to; nil if nothing outside.
func (f *flattener) reference(out *Program, ins *asm.Instruction, function string, slot int) (*patch, error) {
	name := ins.Reference()
	switch {
	case ins.IsKfuncCall():
		return &patch{imm: f.kfunc(out, name)}, nil
	case ins.IsLoadFromMap():
		off := uint32(uint64(ins.Constant) >> 32)
		if name == "" {
			variable := f.spec.externs.name(function, slot)
			if variable == "" {
				return nil, fmt.Errorf("%w: a map by its descriptor", ErrUnsupported)
			}
			var err error
			if off, err = f.kconfig(variable); err != nil {
				return nil, err
			}
			name = kconfigName
		}
		m, err := f.live(name)
		if err != nil {
			return nil, err
		}
		return &patch{imm: mapIndex(out, m), hi: int32(off), src: uint8(ins.Src), wide: true}, nil
	case ins.OpCode.IsDWordLoad() && name != "" && !ins.IsFunctionReference():
		// The address of a kernel function or variable: only asked whether it is there.
		if helper.LookupKfunc(name) != nil {
			return &patch{imm: 1, wide: true}, nil
		}
		if !f.spec.externs.weak[name] {
			return nil, fmt.Errorf("%w: kernel symbol %s", ErrUnsupported, name)
		}
		return &patch{wide: true}, nil
	}
	return nil, nil
}

func mapIndex(p *Program, m *maps.Map) int32 {
	for i, have := range p.Maps {
		if have == m {
			return int32(i)
		}
	}
	p.Maps = append(p.Maps, m)
	return int32(len(p.Maps) - 1)
}

// kfunc returns the index of a kernel function in the program's table.
func (f *flattener) kfunc(p *Program, name string) int32 {
	for i, k := range p.Kfuncs {
		if k.Name == name {
			return int32(i)
		}
	}
	k := Kfunc{Name: name, Weak: f.spec.externs.weak[name]}
	var fn *btf.Func
	if f.spec.Types != nil && f.spec.Types.TypeByName(name, &fn) == nil {
		k.Proto, _ = fn.Type.(*btf.FuncProto)
	}
	p.Kfuncs = append(p.Kfuncs, k)
	return int32(len(p.Kfuncs) - 1)
}

// relocate applies CO-RE relocations against the target types.
func (f *flattener) relocate(insns asm.Instructions) error {
	var relos []*btf.CORERelocation
	var at []*asm.Instruction
	for it := insns.Iterate(); it.Next(); {
		if r := btf.CORERelocationMetadata(it.Ins); r != nil {
			relos, at = append(relos, r), append(at, it.Ins)
		}
	}
	if len(relos) == 0 {
		return nil
	}
	types := f.types
	if types == nil {
		var err error
		if types, err = target.Types(); err != nil {
			return err
		}
	}
	b, err := btf.NewBuilder(nil, nil)
	if err != nil {
		return err
	}
	fixups, err := btf.CORERelocate(relos, types, binary.LittleEndian, b.Add)
	if err != nil {
		return fmt.Errorf("CO-RE: %w", err)
	}
	for i, fix := range fixups {
		if err := fix.Apply(at[i]); err != nil {
			return fmt.Errorf("CO-RE: %v: %w", relos[i], err)
		}
	}
	return nil
}
