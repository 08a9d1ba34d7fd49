package cbpf

import (
	"fmt"
	"strconv"
	"strings"
)

// Parse reads the text forms of filters: the output of "tcpdump -ddd" (a count,
// then a line per instruction) and tc's "bytecode" argument (the same with commas
// in place of the ends of lines). The count must be right.
func Parse(text string) ([]Insn, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	var lines []string
	for _, f := range fields {
		if f = strings.Trim(f, " \t'\""); f != "" {
			lines = append(lines, f)
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("cbpf: no instructions")
	}
	count, err := strconv.ParseUint(lines[0], 10, 16)
	if err != nil {
		return nil, fmt.Errorf("cbpf: %q is not a number of instructions", lines[0])
	}
	lines = lines[1:]
	if int(count) != len(lines) {
		return nil, fmt.Errorf("cbpf: %d instructions announced, %d given", count, len(lines))
	}
	insns := make([]Insn, len(lines))
	for n, line := range lines {
		if insns[n], err = parseInsn(line); err != nil {
			return nil, fmt.Errorf("cbpf: instruction %d: %w", n, err)
		}
	}
	return insns, nil
}

// parseInsn reads "code jt jf k".
func parseInsn(line string) (i Insn, err error) {
	f := strings.Fields(line)
	if len(f) != 4 {
		return i, fmt.Errorf("%q has %d numbers, not 4", line, len(f))
	}
	names := [4]string{"code", "jt", "jf", "k"}
	bits := [4]int{16, 8, 8, 32}
	var v [4]uint64
	for n := range v {
		if v[n], err = strconv.ParseUint(f[n], 0, bits[n]); err != nil {
			return i, fmt.Errorf("%s: %q is not a number of %d bits", names[n], f[n], bits[n])
		}
	}
	return Insn{uint16(v[0]), uint8(v[1]), uint8(v[2]), uint32(v[3])}, nil
}

// Format writes instructions in the form of "tcpdump -ddd".
func Format(insns []Insn) string {
	var b strings.Builder
	fmt.Fprintln(&b, len(insns))
	for _, i := range insns {
		fmt.Fprintln(&b, i.Code, i.JT, i.JF, i.K)
	}
	return b.String()
}
