package ebpf

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// externs are an object's undefined symbols: which instruction refers to which,
// and whether it may stay undefined. The reader keeps kernel configuration
// variables (__kconfig) to itself, so they are found again here.
type externs struct {
	weak map[string]bool
	at   map[location]string
	// start of each function, to find an instruction's location.
	funcs map[string]location
	// info has the file offsets of weak configuration variables' st_info bytes.
	info []int64
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
	table := f.SectionByType(elf.SHT_SYMTAB)
	for n, s := range syms {
		switch {
		case s.Section == elf.SHN_UNDEF && s.Name != "":
			weak := elf.ST_BIND(s.Info) == elf.STB_WEAK
			x.weak[s.Name] = weak
			if weak && (strings.HasPrefix(s.Name, "CONFIG_") || strings.HasPrefix(s.Name, "LINUX_")) {
				const entry, info = 24, 4 // Elf64_Sym; the first one is not in syms
				x.info = append(x.info, int64(table.Offset)+int64(n+1)*entry+info)
			}
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

// strengthened is an object in which weak configuration variables are global ones:
// the reader refuses weak ones, although libbpf gives them the value 0.
type strengthened struct {
	io.ReaderAt
	info []int64
}

func (s strengthened) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(b, off)
	for _, at := range s.info {
		if at >= off && at < off+int64(n) {
			b[at-off] = elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)
		}
	}
	return n, err
}
