package ebpf

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
)

// externs are an object's undefined symbols: which instruction refers to which,
// and whether it may stay undefined. The reader keeps kernel configuration
// variables (__kconfig) to itself, so they are found again here.
type externs struct {
	weak map[string]bool
	at   map[location]string
	// start of each function, to find an instruction's location.
	funcs map[string]location
}

// location is a byte offset in an ELF section.
type location struct {
	section string
	off     uint64
}

func readExterns(r io.ReaderAt) (x externs, err error) {
	// debug/elf is not meant for hostile input; a panic is an error here.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("ebpf: read symbols: %v", p)
		}
	}()
	x = externs{weak: map[string]bool{}, at: map[location]string{}, funcs: map[string]location{}}
	f, err := elf.NewFile(r)
	if err != nil {
		return x, fmt.Errorf("ebpf: %w", err)
	}
	syms, err := f.Symbols()
	if err != nil {
		return x, nil // stripped: nothing external
	}
	for _, s := range syms {
		switch {
		case s.Section == elf.SHN_UNDEF && s.Name != "":
			x.weak[s.Name] = elf.ST_BIND(s.Info) == elf.STB_WEAK
		case int(s.Section) < len(f.Sections) && s.Name != "" && elf.ST_TYPE(s.Info) != elf.STT_SECTION:
			x.funcs[s.Name] = location{f.Sections[s.Section].Name, s.Value}
		}
	}
	for _, sec := range f.Sections {
		if sec.Type != elf.SHT_REL || int(sec.Info) >= len(f.Sections) {
			continue
		}
		b, err := sec.Data()
		if err != nil {
			return x, fmt.Errorf("ebpf: relocations of %s: %w", sec.Name, err)
		}
		target := f.Sections[sec.Info].Name
		for ; len(b) >= 16; b = b[16:] {
			off, info := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
			n := int(info>>32) - 1 // the first symbol is left out of syms
			if n >= 0 && n < len(syms) && syms[n].Section == elf.SHN_UNDEF {
				x.at[location{target, off}] = syms[n].Name
			}
		}
	}
	return x, nil
}

// name returns the undefined symbol that the instruction slot at an offset (in
// slots) into a function refers to, "" if none.
func (x *externs) name(function string, slot int) string {
	at, ok := x.funcs[function]
	if !ok {
		return ""
	}
	at.off += uint64(slot) * InsnSize
	return x.at[at]
}
