package verifier

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"taproom/filter/ebpf"
)

// packetByte reads packet byte 3 without having checked it.
var packetByte = []ebpf.Insn{
	{Op: 0x61, Regs: ebpf.Regs(2, 1), Off: 76},
	{Op: 0x71, Regs: ebpf.Regs(0, 2), Off: 3},
	{Op: 0x95},
}

func rejected(t *testing.T, insns []ebpf.Insn) *Error {
	t.Helper()
	p := &ebpf.Program{Name: "probe", Type: ebpf.SchedCLS, License: "GPL", Insns: insns, Funcs: []ebpf.Func{{}},
		Lines: []ebpf.Line{{Insn: 0, File: "probe.c", Line: 7, Text: "\tchar *p = data;"}, {Insn: 1, File: "probe.c", Line: 8, Text: "\treturn p[3];"}}}
	_, err := Verify(p, Options{})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a rejection", err)
	}
	return e
}

func TestErrorTells(t *testing.T) {
	e := rejected(t, packetByte)
	if !errors.Is(e, ErrRejected) || !errors.Is(e, syscall.EACCES) {
		t.Errorf("%v unwraps to neither", e)
	}
	if s := e.Error(); !strings.HasPrefix(s, "verifier: insn 1: R2 offset is outside of the packet") || strings.Contains(s, "\n") {
		t.Errorf("short form: %q", s)
	}
	long := fmt.Sprintf("%+v", e)
	for _, want := range []string{"program probe", "probe.c:8: return p[3];", "1: (71) r0 = *(u8 *)(r2 +3)", "R1=ctx()", "R2=pkt(r=0)", "R10=fp0"} {
		if !strings.Contains(long, want) {
			t.Errorf("long form lacks %q:\n%s", want, long)
		}
	}
}

func TestLogLevels(t *testing.T) {
	insns := []ebpf.Insn{
		{Op: 0xb7, Imm: 5},
		{Op: 0x61, Regs: ebpf.Regs(2, 1)},
		{Op: 0x25, Regs: ebpf.Regs(2, 0), Off: 1, Imm: 9},
		{Op: 0x0f, Regs: ebpf.Regs(0, 2)},
		{Op: 0x95},
	}
	p := &ebpf.Program{Type: ebpf.SchedCLS, Insns: insns, Funcs: []ebpf.Func{{}}}
	var logs [3]strings.Builder
	for level := range logs {
		if _, err := Verify(p, Options{LogLevel: level, Log: &logs[level]}); err != nil {
			t.Fatal(err)
		}
	}
	if logs[0].Len() != 0 {
		t.Errorf("level 0 wrote %q", logs[0].String())
	}
	if s := logs[1].String(); !strings.Contains(s, "3: (0f) r0 += r2\n") || strings.Contains(s, "R2=") || !strings.Contains(s, "processed 6 insns") {
		t.Errorf("level 1:\n%s", s)
	}
	if s := logs[2].String(); !strings.Contains(s, "R2=scalar(smin=0,smax=9,var_off=(0x0; 0xf))") {
		t.Errorf("level 2:\n%s", s)
	}
}

// TestFacts checks what the machine is told of a program that passed.
func TestFacts(t *testing.T) {
	ours := liveMaps(t, testMaps)
	insns := []ebpf.Insn{
		{Op: 0x62, Regs: ebpf.Regs(10, 0), Off: -4, Imm: 0}, // 0: key 0
		{Op: 0xbf, Regs: ebpf.Regs(2, 10)},
		{Op: 0x07, Regs: ebpf.Regs(2, 0), Imm: -4},
		{Op: 0x18, Regs: ebpf.Regs(1, 1)}, {}, // 3: map 0
		{Op: 0x85, Imm: 1},                        // 5: lookup
		{Op: 0x55, Regs: ebpf.Regs(0, 0), Off: 2}, // 6: never NULL
		{Op: 0xb7}, {Op: 0x95}, // 7: not reached
		{Op: 0x7a, Regs: ebpf.Regs(0, 0), Off: 8, Imm: 1}, // 9: store
		{Op: 0x85, Regs: ebpf.Regs(0, 1), Imm: 2},         // 10: call 13
		{Op: 0xb7}, {Op: 0x95}, // 11
		{Op: 0x7a, Regs: ebpf.Regs(10, 0), Off: -24}, {Op: 0xb7}, {Op: 0x95}, // 13
	}
	p := &ebpf.Program{Type: ebpf.SchedCLS, License: "GPL", Insns: insns, Maps: ours, Funcs: []ebpf.Func{{}, {Start: 13}}}
	res, err := Verify(p, Options{})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	call, branch, store := res.Insns[5], res.Insns[6], res.Insns[9]
	if !call.ConstKey || call.Key != 0 || call.MapIndex != 0 {
		t.Errorf("lookup: %+v", call)
	}
	if branch.Branch != Jumps || res.Insns[7].Visited || res.Insns[8].Visited {
		t.Errorf("branch: %+v, %+v", branch, res.Insns[7])
	}
	if store.Region != RegionMapValue || store.MapIndex != 0 {
		t.Errorf("store: %+v", store)
	}
	if s := res.Insns[13]; s.Region != RegionStack {
		t.Errorf("stack store: %+v", s)
	}
	if len(res.Subprogs) != 2 || res.Subprogs[0].StackDepth != 4 || res.Subprogs[1].StackDepth != 24 || res.Subprogs[1].Start != 13 {
		t.Errorf("subprograms: %+v", res.Subprogs)
	}
}

// TestVerifyIsDeterministic compares all that two verifications say.
func TestVerifyIsDeterministic(t *testing.T) {
	a, b := rejected(t, packetByte), rejected(t, packetByte)
	if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
		t.Errorf("%+v\n%+v", a, b)
	}
}
