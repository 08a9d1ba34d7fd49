package object

import (
	"bytes"
	"fmt"

	"taproom/filter/ebpf"
	bpfmaps "taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// progHeader is everything about a program but its instructions, which are the
// body. Types are numbers in BTF.
type progHeader struct {
	Name       string      `json:"name"`
	Section    string      `json:"section,omitempty"`
	License    string      `json:"license"`
	Type       uint32      `json:"type"`
	AttachType uint32      `json:"attach_type,omitempty"`
	Classic    bool        `json:"classic,omitempty"`
	Loaded     int64       `json:"loaded_at"` // POSIX seconds, when it was first loaded
	Maps       []identity  `json:"maps,omitempty"`
	Kfuncs     []kfunc     `json:"kfuncs,omitempty"`
	Funcs      []function  `json:"funcs"`
	Lines      []ebpf.Line `json:"lines,omitempty"`
	BTF        []byte      `json:"btf,omitempty"`
}

type kfunc struct {
	Name string     `json:"name"`
	Weak bool       `json:"weak,omitempty"`
	Type btf.TypeID `json:"type,omitempty"`
}

type function struct {
	Start int        `json:"start"`
	Name  string     `json:"name"`
	Type  btf.TypeID `json:"type,omitempty"`
}

func encodeProgram(p *Program, mapID func(*bpfmaps.Map) identity) ([]byte, error) {
	src := p.src
	h := &progHeader{
		Name: src.Name, Section: src.Section, License: src.License, Type: uint32(src.Type), AttachType: src.AttachType,
		Classic: src.Classic, Loaded: p.loaded.Unix(), Lines: src.Lines,
	}
	for _, m := range src.Maps {
		h.Maps = append(h.Maps, mapID(m))
	}
	b, err := btf.NewBuilder(nil, nil)
	if err != nil {
		return nil, err
	}
	typed := false
	for _, k := range src.Kfuncs {
		f := kfunc{Name: k.Name, Weak: k.Weak}
		if k.Proto != nil {
			if f.Type, err = b.Add(k.Proto); err != nil {
				return nil, err
			}
			typed = true
		}
		h.Kfuncs = append(h.Kfuncs, f)
	}
	for _, f := range src.Funcs {
		g := function{Start: f.Start, Name: f.Name}
		if f.Type != nil {
			if g.Type, err = b.Add(f.Type); err != nil {
				return nil, err
			}
			typed = true
		}
		h.Funcs = append(h.Funcs, g)
	}
	if typed {
		if h.BTF, err = b.Marshal(nil, nil); err != nil {
			return nil, err
		}
	}
	return encode(header{Kind: "prog", Prog: h}, ebpf.Encode(src.Insns))
}

// program builds the program again; ms are its maps, on which it gets references.
func (h *progHeader) program(body []byte, ms []*bpfmaps.Map) (*ebpf.Program, error) {
	insns, err := ebpf.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	p := &ebpf.Program{
		Name: h.Name, Section: h.Section, License: h.License, Type: ebpf.ProgType(h.Type), AttachType: h.AttachType,
		Classic: h.Classic, Insns: insns, Lines: h.Lines,
	}
	types, err := typesOf(h.BTF)
	if err != nil {
		return nil, err
	}
	for _, k := range h.Kfuncs {
		proto, _ := types(k.Type).(*btf.FuncProto)
		p.Kfuncs = append(p.Kfuncs, ebpf.Kfunc{Name: k.Name, Weak: k.Weak, Proto: proto})
	}
	for _, f := range h.Funcs {
		fn, _ := types(f.Type).(*btf.Func)
		p.Funcs = append(p.Funcs, ebpf.Func{Start: f.Start, Name: f.Name, Type: fn})
	}
	if err := h.checkReferences(p, len(ms)); err != nil {
		return nil, err
	}
	for _, m := range ms {
		p.Maps = append(p.Maps, m.Retain())
	}
	return p, nil
}

// typesOf returns a function that finds types by number, nil for those that are not
// there. No BTF has no types.
func typesOf(raw []byte) (func(btf.TypeID) btf.Type, error) {
	if len(raw) == 0 {
		return func(btf.TypeID) btf.Type { return nil }, nil
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return func(id btf.TypeID) btf.Type {
		t, err := spec.TypeByID(id)
		if err != nil || id == 0 {
			return nil
		}
		return t
	}, nil
}

// checkReferences makes sure that indices and places in a file from outside are
// inside; whether the program is sound is the verifier's to say.
func (h *progHeader) checkReferences(p *ebpf.Program, maps int) error {
	bad := func(what string, n int) error { return fmt.Errorf("%w: %s at instruction %d", ErrFormat, what, n) }
	if len(p.Insns) == 0 || len(p.Funcs) == 0 || p.Funcs[0].Start != 0 {
		return fmt.Errorf("%w: program without a beginning", ErrFormat)
	}
	last := -1
	for _, f := range p.Funcs {
		if f.Start <= last || f.Start >= len(p.Insns) {
			return bad("function", f.Start)
		}
		last = f.Start
	}
	last = -1
	for _, l := range p.Lines {
		if l.Insn < last || l.Insn >= len(p.Insns) {
			return bad("source line", l.Insn)
		}
		last = l.Insn
	}
	for n := 0; n < len(p.Insns); n++ {
		i := p.Insns[n]
		switch {
		case i.IsWide():
			isMap := i.Src() == ebpf.PseudoMap || i.Src() == ebpf.PseudoMapValue
			if n+1 >= len(p.Insns) || isMap && uint32(i.Imm) >= uint32(maps) {
				return bad("map", n)
			}
			n++
		case i.IsKfuncCall() && uint32(i.Imm) >= uint32(len(p.Kfuncs)):
			return bad("kernel function", n)
		}
	}
	return nil
}
