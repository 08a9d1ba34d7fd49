package filter

import (
	"encoding/hex"

	"taproom/filter/ebpf"
	"taproom/filter/ebpf/cbpf"
	"taproom/filter/maps"
	"taproom/filter/vm"
	"taproom/stack/hook"
)

// Program is a program that can be attached: eBPF, or a classic filter.
type Program struct {
	name   string // its own name
	label  string // as tc shows it: "t1:[*fsobj]" for a pinned one, "f.o:[tc]" for one from a file
	id     uint32
	tag    string
	typ    ebpf.ProgType
	bpf    *vm.Prog
	cls    *cbpf.Filter
	source string // a classic filter's text
}

// NewProgram makes an attachable program of a loaded one. It takes no
// reference of its own: the caller keeps p alive while it is attached.
func NewProgram(p *vm.Prog, label string) *Program {
	src := p.Source()
	tag := src.Tag()
	return &Program{name: src.Name, label: label, id: p.ID(), tag: hex.EncodeToString(tag[:]), typ: src.Type, bpf: p}
}

// NewClassic makes an attachable program of a classic filter.
func NewClassic(f *cbpf.Filter, source string) *Program {
	return &Program{cls: f, source: source, typ: ebpf.SchedCLS}
}

// Name, ID and Tag are those of the program; a classic one has none of them.
func (p *Program) Name() string { return p.name }

// ID is the program's number.
func (p *Program) ID() uint32 { return p.id }

// Tag is the program's tag in hex.
func (p *Program) Tag() string { return p.tag }

// run gives a packet to the program. What stops a program (ErrBudget and its
// like) counts as no opinion, and is counted by the caller.
func (p *Program) run(r *vm.Run, pk *hook.Packet, e vm.Env) (int32, error) {
	if p.cls != nil {
		m := cbpf.MetaOf(pk)
		return int32(p.cls.Run(pk.Head(), &m)), nil
	}
	ret, err := r.SKB(p.bpf, pk, e)
	return int32(ret), err
}

// Label is how tc names it: "t1:[*fsobj]" if it is pinned, "f.o:[tc]" if it
// came from a file.
func (p *Program) Label() string { return p.label }

// Bytecode is the text of a classic filter, empty for eBPF.
func (p *Program) Bytecode() string { return p.source }

// JITed reports whether it runs as machine code.
func (p *Program) JITed() bool { return p.bpf != nil && p.bpf.Compiled() }

// Maps are the maps that it uses, alive as long as it is loaded.
func (p *Program) Maps() []*maps.Map {
	if p.bpf == nil {
		return nil
	}
	return p.bpf.Source().Maps
}
