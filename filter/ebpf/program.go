package ebpf

import (
	"crypto/sha256"

	"taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// Program is one program ready to be verified and run.
//
// Insns is flat: the entry function first, then every subprogram it reaches,
// one after the other, as the kernel is given them. References are by index
// into the other fields (see the Pseudo* constants), never by descriptor.
//
// A Program is immutable once built.
type Program struct {
	Name       string
	Section    string // ELF section it came from; "" if none
	License    string // as in the object; see GPL
	Type       ProgType
	AttachType uint32 // enum bpf_attach_type; 0 if the section says none

	Insns  []Insn
	Maps   []*maps.Map // live; each referenced once by the program
	Kfuncs []Kfunc
	Funcs  []Func // sorted by Start; Funcs[0].Start == 0. Never empty
	Lines  []Line // sorted by Insn; empty without debug information

	// Classic says that Insns were translated from a classic filter. Such a
	// program may use LD_ABS and LD_IND without the rules that bind the
	// skb-typed context, and is not shown to the verifier's subprogram rules.
	Classic bool
}

// Kfunc is a kernel function that a program calls by name.
type Kfunc struct {
	Name string
	// Proto is the prototype that the object declares, nil without BTF. What the
	// function really takes is the verifier's table's business.
	Proto *btf.FuncProto
	Weak  bool // declared __weak: an unknown function resolves to none
}

// Func is one function of a program: the entry or a subprogram.
type Func struct {
	Start int    // index of its first slot
	Name  string // symbol name; "" if unknown
	// Type is the function's BTF, nil without it. Callbacks (bpf_loop,
	// bpf_for_each_map_elem, timers) and global functions need it.
	Type *btf.Func
}

// Global reports whether the function has global linkage: the verifier may then
// check it on its own, by its prototype.
func (f Func) Global() bool { return f.Type != nil && f.Type.Linkage == btf.GlobalFunc }

// Line maps an instruction to source text; it holds until the next Line.
type Line struct {
	Insn int // slot index
	File string
	Line uint32
	Col  uint32
	Text string // the source line itself
}

// LineAt returns the source line of slot insn, or nil.
func (p *Program) LineAt(insn int) *Line {
	lo, hi := 0, len(p.Lines)
	for lo < hi {
		if m := (lo + hi) / 2; p.Lines[m].Insn <= insn {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == 0 {
		return nil
	}
	return &p.Lines[lo-1]
}

// FuncAt returns the function that slot insn belongs to, or nil.
func (p *Program) FuncAt(insn int) *Func {
	for n := len(p.Funcs) - 1; n >= 0; n-- {
		if p.Funcs[n].Start <= insn {
			return &p.Funcs[n]
		}
	}
	return nil
}

// gplLicenses are the strings that license_is_gpl_compatible of
// <linux/license.h> accepts.
var gplLicenses = map[string]bool{
	"GPL": true, "GPL v2": true, "GPL and additional rights": true,
	"Dual BSD/GPL": true, "Dual MIT/GPL": true, "Dual MPL/GPL": true,
}

// GPL reports whether the licence allows GPL-only helpers.
func (p *Program) GPL() bool { return gplLicenses[p.License] }

// Tag returns what Linux calls the program's tag: the first 8 bytes of the SHA-256
// over its instructions (SHA-1 before 6.18), with the immediates that name maps
// zeroed because they are descriptors there.
func (p *Program) Tag() [8]byte {
	b := make([]byte, 0, len(p.Insns)*InsnSize)
	var s [InsnSize]byte
	wideMap := false
	for _, i := range p.Insns {
		switch {
		case wideMap:
			i.Imm, wideMap = 0, false
		case i.IsWide() && (i.Src() == PseudoMap || i.Src() == PseudoMapValue):
			i.Imm, wideMap = 0, true
		}
		i.Put(s[:])
		b = append(b, s[:]...)
	}
	sum := sha256.Sum256(b)
	return [8]byte(sum[:8])
}

// Close drops the program's references on its maps. It must not run any more.
func (p *Program) Close() {
	for _, m := range p.Maps {
		m.Release()
	}
}
