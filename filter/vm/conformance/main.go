// Package conformance is a plugin of the bpf_conformance runner: it runs one program,
// given as instructions or as an ELF object, on one piece of memory and prints what it
// leaves in R0.
//
// The runner's programs are about the instruction set (RFC 9669), not about safety, and
// no verifier would take many of them. So no verifier runs here; compiled, they run
// unchecked in this process, which does nothing else.
package conformance

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"taproom/filter/ebpf"
	"taproom/filter/vm"
)

// Main is the plugin: [MEM] [--jit] [--elf], where MEM is hex bytes and the program
// comes on stdin in the same form. It returns the exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	v, err := run(args, stdin)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintf(stdout, "%x\n", v)
	return 0
}

func run(args []string, stdin io.Reader) (uint64, error) {
	var mem []byte
	var opt vm.Options
	opt.NoJIT = true
	object := false
	for i, a := range args {
		isELF := a == "--elf" || strings.HasPrefix(a, "--elf=")
		switch {
		case a == "--jit":
			opt.NoJIT, opt.Unproven = false, true
		case a == "--interpret":
		case isELF:
			object = a != "--elf=false"
		case strings.HasPrefix(a, "-"):
			return 0, fmt.Errorf("conformance: unknown option %q", a)
		case i == 0:
			var err error
			if mem, err = parseHex(a); err != nil {
				return 0, fmt.Errorf("conformance: memory: %w", err)
			}
		default:
			return 0, fmt.Errorf("conformance: unexpected argument %q", a)
		}
	}
	src, err := read(stdin, object)
	if err != nil {
		return 0, err
	}
	p, err := vm.New(src, opt)
	if err != nil {
		return 0, err
	}
	defer p.Release()
	if opt.Unproven && !p.Compiled() {
		return 0, errors.New("conformance: no compiler for this machine")
	}
	r := vm.Acquire()
	defer r.Release()
	return r.Memory(p, mem)
}

// read takes the program from stdin.
func read(stdin io.Reader, object bool) (*ebpf.Program, error) {
	in, err := io.ReadAll(bufio.NewReader(stdin))
	if err != nil {
		return nil, fmt.Errorf("conformance: read program: %w", err)
	}
	if object {
		return readELF(in)
	}
	b, err := parseHex(string(in))
	if err != nil {
		return nil, fmt.Errorf("conformance: program: %w", err)
	}
	return program(b)
}

// readELF loads the only program of an object, or the first by name; or, from an object
// that has none that a loader would know, its code.
func readELF(in []byte) (*ebpf.Program, error) {
	if text, err := parseHex(string(in)); err == nil && len(text) > 0 {
		in = text
	}
	spec, err := ebpf.LoadSpec(bytes.NewReader(in))
	if err != nil || len(spec.Programs) == 0 {
		return readText(in)
	}
	var names []string
	for name, p := range spec.Programs {
		p.Type = ebpf.SocketFilter // any known type: the loader skips others
		names = append(names, name)
	}
	slices.Sort(names)
	coll, err := ebpf.NewCollection(spec, ebpf.Options{Programs: names[:1]})
	if err != nil {
		return nil, err
	}
	src := *coll.Programs[names[0]]
	src.Type = ebpf.Unspec
	return &src, nil
}

// readText takes the instructions of the first section that holds any.
func readText(in []byte) (*ebpf.Program, error) {
	f, err := elf.NewFile(bytes.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	defer f.Close()
	for _, s := range f.Sections {
		if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_EXECINSTR == 0 || s.Size == 0 {
			continue
		}
		b, err := s.Data()
		if err != nil {
			return nil, fmt.Errorf("conformance: section %s: %w", s.Name, err)
		}
		return program(b)
	}
	return nil, errors.New("conformance: no program in the object")
}

// program makes a program without context of encoded instructions.
func program(b []byte) (*ebpf.Program, error) {
	insns, err := ebpf.Decode(b)
	if err != nil {
		return nil, err
	}
	return &ebpf.Program{Name: "conformance", Insns: insns, Funcs: []ebpf.Func{{}}}, nil
}

// parseHex reads bytes in hex with white space anywhere between them.
func parseHex(s string) ([]byte, error) {
	return hex.DecodeString(strings.Join(strings.Fields(s), ""))
}
