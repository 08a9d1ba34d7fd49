package conformance

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"taproom/filter/ebpf"
)

// Short hands for instructions.
func op(code uint8, dst, src uint8, off int16, imm int32) ebpf.Insn {
	return ebpf.Insn{Op: code, Regs: ebpf.Regs(dst, src), Off: off, Imm: imm}
}

func mov(dst uint8, v int32) ebpf.Insn { return op(0xb7, dst, 0, 0, v) }
func exit() ebpf.Insn                  { return op(0x95, 0, 0, 0, 0) }

func wide(dst uint8, v uint64) []ebpf.Insn {
	return []ebpf.Insn{op(0x18, dst, 0, 0, int32(uint32(v))), {Imm: int32(uint32(v >> 32))}}
}

func prog(parts ...any) []ebpf.Insn {
	var out []ebpf.Insn
	for _, p := range parts {
		switch p := p.(type) {
		case ebpf.Insn:
			out = append(out, p)
		case []ebpf.Insn:
			out = append(out, p...)
		}
	}
	return out
}

// plugin runs a program through the plugin's own command line.
func plugin(t testing.TB, insns []ebpf.Insn, mem []byte, jit bool) (uint64, error) {
	t.Helper()
	var args []string
	if mem != nil {
		var s strings.Builder
		for _, b := range mem {
			fmt.Fprintf(&s, "%02x  ", b)
		}
		args = append(args, s.String())
	}
	if jit {
		args = append(args, "--jit")
	}
	var out, errs bytes.Buffer
	if code := Main(args, strings.NewReader(hex.EncodeToString(ebpf.Encode(insns))), &out, &errs); code != 0 {
		return 0, fmt.Errorf("exit %d: %s", code, errs.String())
	}
	return strconv.ParseUint(strings.TrimSpace(out.String()), 16, 64)
}

var engines = []bool{false, true}

func expect(t *testing.T, name string, insns []ebpf.Insn, mem []byte, want uint64) {
	t.Helper()
	for _, jit := range engines {
		if jit && runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
			continue
		}
		got, err := plugin(t, insns, mem, jit)
		if err != nil || got != want {
			t.Errorf("%s (jit %v): %#x, %v, want %#x", name, jit, got, err, want)
		}
	}
}

var aluOps = map[string]uint8{
	"Add": 0x00, "Sub": 0x10, "Mul": 0x20, "Div": 0x30, "Or": 0x40, "And": 0x50, "Lsh": 0x60, "Rsh": 0x70,
	"Mod": 0x90, "Xor": 0xa0, "Mov": 0xb0, "Arsh": 0xc0, "SDiv": 0x30, "SMod": 0x90,
}

// TestALU runs every arithmetic instruction in its four forms, with different
// registers: division has preferences.
func TestALU(t *testing.T) {
	for i, c := range aluCases(t) {
		off := int16(0)
		if c.op[0] == 'S' && c.op != "Sub" {
			off = 1
		}
		code := aluOps[c.op]
		dst, src := uint8(i%10), uint8((i/3)%10)
		if dst == src {
			src = (src + 1) % 10
		}
		for _, form := range []struct {
			class uint8
			want  uint64
		}{{0x07, c.r64}, {0x04, c.r32}} {
			name := fmt.Sprintf("%s class %d r%d r%d %#x %d", c.op, form.class, dst, src, c.a, c.b)
			expect(t, name+" imm", prog(wide(dst, c.a), op(code|form.class, dst, 0, off, c.b), op(0xbf, 0, dst, 0, 0), exit()), nil, form.want)
			expect(t, name+" reg", prog(wide(dst, c.a), mov(src, c.b), op(code|form.class|8, dst, src, off, 0), op(0xbf, 0, dst, 0, 0), exit()), nil, form.want)
		}
	}
}

var jumpOps = map[string]uint8{
	"Eq": 0x10, "GT": 0x20, "GE": 0x30, "Set": 0x40, "NE": 0x50, "SGT": 0x60, "SGE": 0x70,
	"LT": 0xa0, "LE": 0xb0, "SLT": 0xc0, "SLE": 0xd0,
}

func TestJumps(t *testing.T) {
	for i, c := range jumpCases(t) {
		dst, src := uint8(i%10), uint8((i/3)%10)
		if dst == src {
			src = (src + 1) % 10
		}
		for _, form := range []struct {
			class uint8
			jumps bool
		}{{0x05, c.j64}, {0x06, c.j32}} {
			want := uint64(1)
			if form.jumps {
				want = 2
			}
			tail := prog(mov(0, 1), exit(), mov(0, 2), exit())
			name := fmt.Sprintf("J%s class %d %#x %d", c.op, form.class, c.a, c.b)
			expect(t, name+" imm", prog(wide(dst, c.a), op(jumpOps[c.op]|form.class, dst, 0, 2, c.b), tail), nil, want)
			expect(t, name+" reg", prog(wide(dst, c.a), mov(src, c.b), op(jumpOps[c.op]|form.class|8, dst, src, 2, 0), tail), nil, want)
		}
	}
}

// TestTables runs everything else, one line each.
func TestTables(t *testing.T) {
	mem := []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x80}
	r0 := func(i ...ebpf.Insn) []ebpf.Insn { return append(i, exit()) }
	const v = 0x8877665544332211
	for _, c := range []struct {
		name  string
		insns []ebpf.Insn
		want  uint64
	}{
		{"neg64", prog(wide(0, 5), op(0x87, 0, 0, 0, 0), exit()), 0xfffffffffffffffb},
		{"neg32", prog(wide(0, 5), op(0x84, 0, 0, 0, 0), exit()), 0xfffffffb},
		{"le16", prog(wide(0, v), op(0xd4, 0, 0, 0, 16), exit()), 0x2211},
		{"le32", prog(wide(0, v), op(0xd4, 0, 0, 0, 32), exit()), 0x44332211},
		{"le64", prog(wide(0, v), op(0xd4, 0, 0, 0, 64), exit()), v},
		{"be16", prog(wide(0, v), op(0xdc, 0, 0, 0, 16), exit()), 0x1122},
		{"be32", prog(wide(0, v), op(0xdc, 0, 0, 0, 32), exit()), 0x11223344},
		{"be64", prog(wide(0, v), op(0xdc, 0, 0, 0, 64), exit()), 0x1122334455667788},
		{"bswap16", prog(wide(7, v), op(0xd7, 7, 0, 0, 16), op(0xbf, 0, 7, 0, 0), exit()), 0x1122},
		{"bswap32", prog(wide(8, v), op(0xd7, 8, 0, 0, 32), op(0xbf, 0, 8, 0, 0), exit()), 0x11223344},
		{"bswap64", prog(wide(9, v), op(0xd7, 9, 0, 0, 64), op(0xbf, 0, 9, 0, 0), exit()), 0x1122334455667788},
		{"movsx8", prog(wide(2, 0x1234567890abcdef), op(0xbf, 0, 2, 8, 0), exit()), 0xffffffffffffffef},
		{"movsx16", prog(wide(2, 0x1234567890abcdef), op(0xbf, 0, 2, 16, 0), exit()), 0xffffffffffffcdef},
		{"movsx32", prog(wide(2, 0x1234567890abcdef), op(0xbf, 0, 2, 32, 0), exit()), 0xffffffff90abcdef},
		{"movsx8w", prog(wide(2, 0x12345678909bcd9f), op(0xbc, 0, 2, 8, 0), exit()), 0xffffff9f},
		{"movsx16w", prog(wide(2, 0x12345678909bcd9f), op(0xbc, 0, 2, 16, 0), exit()), 0xffffcd9f},
		{"lddw", prog(wide(0, v), exit()), v},
		{"ldxb", r0(op(0x71, 0, 1, 7, 0)), 0x88},
		{"ldxh", r0(op(0x69, 0, 1, 2, 0)), 0x4433},
		{"ldxw", r0(op(0x61, 0, 1, 4, 0)), 0x88776655},
		{"ldxdw", r0(op(0x79, 0, 1, 8, 0)), 0x80ffeeddccbbaa99},
		{"ldxsb", r0(op(0x91, 0, 1, 7, 0)), 0xffffffffffffff88},
		{"ldxsh", r0(op(0x89, 0, 1, 14, 0)), 0xffffffffffff80ff},
		{"ldxsw", r0(op(0x81, 0, 1, 4, 0)), 0xffffffff88776655},
		{"stb", r0(op(0x72, 1, 0, 1, 0x1ff), op(0x79, 0, 1, 0, 0)), 0x887766554433ff11},
		{"sth", r0(op(0x6a, 1, 0, 2, -2), op(0x79, 0, 1, 0, 0)), 0x88776655fffe2211},
		{"stw", r0(op(0x62, 1, 0, 4, -2), op(0x79, 0, 1, 0, 0)), 0xfffffffe44332211},
		{"stdw", r0(op(0x7a, 1, 0, 0, -2), op(0x79, 0, 1, 0, 0)), 0xfffffffffffffffe},
		{"stxb", r0(mov(2, -2), op(0x73, 1, 2, 1, 0), op(0x79, 0, 1, 0, 0)), 0x887766554433fe11},
		{"stxb r1", r0(op(0xbf, 6, 1, 0, 0), mov(1, 0x77), op(0x73, 6, 1, 0, 0), op(0x71, 0, 6, 0, 0)), 0x77},
		{"stxh", r0(mov(9, -2), op(0x6b, 1, 9, 2, 0), op(0x79, 0, 1, 0, 0)), 0x88776655fffe2211},
		{"stxw", r0(mov(2, -2), op(0x63, 1, 2, 4, 0), op(0x79, 0, 1, 0, 0)), 0xfffffffe44332211},
		{"stxdw", r0(mov(2, -2), op(0x7b, 1, 2, 0, 0), op(0x79, 0, 1, 0, 0)), 0xfffffffffffffffe},
		{"stack", r0(mov(2, 77), op(0x7b, 10, 2, -8, 0), op(0x79, 0, 10, -8, 0)), 77},
		{"every base", prog(op(0xbf, 8, 1, 0, 0), op(0xbf, 7, 1, 0, 0), op(0x71, 0, 8, 0, 0), op(0x71, 2, 7, 0, 0), op(0x0f, 0, 2, 0, 0), exit()), 0x22},
		{"ja", prog(mov(0, 1), op(0x05, 0, 0, 1, 0), mov(0, 2), exit()), 1},
		{"gotol", prog(mov(0, 1), op(0x06, 0, 0, 0, 1), mov(0, 2), exit()), 1},
		{"loop", prog(mov(0, 0), mov(1, 10), op(0x0f, 0, 1, 0, 0), op(0x07, 1, 0, 0, -1), op(0x55, 1, 0, -3, 0), exit()), 55},
		{"helper", prog(op(0x85, 0, 0, 0, 5), op(0x55, 0, 0, 2, 0), mov(0, 1), exit(), mov(0, 2), exit()), 2},
		{"call", prog(mov(6, 3), mov(1, 4), op(0x85, 0, 1, 0, 2), op(0x0f, 0, 6, 0, 0), exit(), mov(6, 100), op(0xbf, 0, 1, 0, 0), op(0x27, 0, 0, 0, 10), exit()), 43},
		{"call stack", prog(mov(2, 1), op(0x7b, 10, 2, -8, 0), op(0x85, 0, 1, 0, 2), op(0x79, 0, 10, -8, 0), exit(), mov(2, 2), op(0x7b, 10, 2, -8, 0), mov(0, 0), exit()), 1},
		{"may_goto", prog(mov(0, 0), op(0xe5, 0, 0, 1, 0), mov(0, 1), exit()), 1},
		{"load_acquire", r0(op(0xdb, 0, 1, 8, 0x100)), 0x80ffeeddccbbaa99},
		{"load_acquire32", r0(op(0xc3, 0, 1, 8, 0x100)), 0xccbbaa99},
		{"store_release", r0(mov(2, 5), op(0xdb, 1, 2, 8, 0x110), op(0x79, 0, 1, 8, 0)), 5},
	} {
		expect(t, c.name, c.insns, mem, c.want)
	}
}

// TestAtomics runs every read-modify-write operation, on every choice of registers that
// the machines treat differently.
func TestAtomics(t *testing.T) {
	const old, src = 0xf0f0f0f08899aabb, 0x0ff00ff012345678
	for _, c := range []struct {
		name  string
		imm   int32
		mem64 uint64
		mem32 uint64
		fetch bool
	}{
		{"add", 0x00, (old + src) & (1<<64 - 1), uint64(uint32(old&0xffffffff + src&0xffffffff)), false},
		{"or", 0x40, old | src, (old | src) & 0xffffffff, false},
		{"and", 0x50, old & src, old & src & 0xffffffff, false},
		{"xor", 0xa0, old ^ src, (old ^ src) & 0xffffffff, false},
		{"fetch add", 0x01, (old + src) & (1<<64 - 1), uint64(uint32(old&0xffffffff + src&0xffffffff)), true},
		{"fetch or", 0x41, old | src, (old | src) & 0xffffffff, true},
		{"fetch and", 0x51, old & src, old & src & 0xffffffff, true},
		{"fetch xor", 0xa1, old ^ src, (old ^ src) & 0xffffffff, true},
		{"xchg", 0xe1, src, src & 0xffffffff, true},
	} {
		for _, r := range []uint8{0, 2, 6, 9} {
			for _, base := range []uint8{1, 10, 0} {
				if r == base {
					continue
				}
				at := op(0xbf, base, 10, 0, 0)
				if base == 10 {
					at = mov(5, 0)
				}
				setup := prog(wide(3, old), op(0x7b, 10, 3, -8, 0), at, wide(r, src))
				want := uint64(src)
				if c.fetch {
					want = old
				}
				out := prog(op(0xbf, 7, r, 0, 0), op(0xbf, 0, 7, 0, 0), exit())
				expect(t, c.name+" 64 register", prog(setup, op(0xdb, base, r, -8, c.imm), out), nil, want)
				load := prog(op(0x79, 0, 10, -8, 0), exit())
				expect(t, c.name+" 64 memory", prog(setup, op(0xdb, base, r, -8, c.imm), load), nil, c.mem64)
				if c.fetch {
					want = old & 0xffffffff
				}
				expect(t, c.name+" 32 register", prog(setup, op(0xc3, base, r, -8, c.imm), out), nil, want)
				expect(t, c.name+" 32 memory", prog(setup, op(0xc3, base, r, -8, c.imm), load), nil, old&0xffffffff00000000|c.mem32)
			}
		}
	}
	cmp := func(expected uint64, code uint8, then ebpf.Insn) []ebpf.Insn {
		return prog(wide(3, old), op(0x7b, 10, 3, -8, 0), wide(0, expected), wide(2, src), op(code, 10, 2, -8, 0xf1), then, exit())
	}
	nop, load := op(0xbf, 0, 0, 0, 0), op(0x79, 0, 10, -8, 0)
	expect(t, "cmpxchg hit", cmp(old, 0xdb, nop), nil, old)
	expect(t, "cmpxchg hit memory", cmp(old, 0xdb, load), nil, src)
	expect(t, "cmpxchg miss", cmp(1, 0xdb, nop), nil, old)
	expect(t, "cmpxchg miss memory", cmp(1, 0xdb, load), nil, old)
	expect(t, "cmpxchg32 hit", cmp(old, 0xc3, nop), nil, old&0xffffffff)
	expect(t, "cmpxchg32 hit memory", cmp(old, 0xc3, load), nil, old&0xffffffff00000000|src&0xffffffff)
	expect(t, "cmpxchg32 miss", cmp(1, 0xc3, nop), nil, old&0xffffffff)
}

// TestRefused are programs that are malformed, and must end with a message.
func TestRefused(t *testing.T) {
	for name, insns := range map[string][]ebpf.Insn{
		"unknown opcode":  {op(0xff, 0, 0, 0, 0), exit()},
		"no such atomic":  {op(0xdb, 1, 0, 0, 0x77), exit()},
		"register 11":     {op(0xb7, 11, 0, 0, 0), exit()},
		"half an lddw":    {op(0x18, 0, 0, 0, 0)},
		"jump outside":    {op(0x05, 0, 0, 9, 0), exit()},
		"falls off":       {mov(0, 0)},
		"writes R10":      {mov(10, 0), exit()},
		"callx":           {op(0x8d, 0, 0, 0, 0), exit()},
		"no such helper":  {op(0x85, 0, 0, 0, 999), exit()},
		"unknown swap":    {op(0xd4, 0, 0, 0, 24), exit()},
		"wild load":       {mov(1, 8), op(0x79, 0, 1, 0, 0), exit()},
		"below the stack": {op(0x79, 0, 10, -520, 0), exit()},
		"endless":         {op(0x05, 0, 0, -1, 0), exit()},
	} {
		if v, err := plugin(t, insns, nil, false); err == nil {
			t.Errorf("%s: ran and gave %#x", name, v)
		}
	}
	if got := Main([]string{"zz"}, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}); got == 0 {
		t.Error("bad memory was taken")
	}
}

// TestELF runs an object whose only function is in .text, as the runner makes them, and
// one that a loader knows.
func TestELF(t *testing.T) {
	for _, name := range []string{"text.o", "section.o"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range [][]byte{b, []byte(hex.EncodeToString(b))} {
			var out, errs bytes.Buffer
			if code := Main([]string{"07  05  ", "--elf"}, bytes.NewReader(in), &out, &errs); code != 0 || out.String() != "c\n" {
				t.Errorf("%s: exit %d, %q %s", name, code, out.String(), errs.String())
			}
		}
	}
}
