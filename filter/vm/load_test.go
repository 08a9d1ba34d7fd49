package vm

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestUnreached loads programs with instructions that no run reaches and that would be
// refused elsewhere. Linux takes them out.
func TestUnreached(t *testing.T) {
	exit := ebpf.Insn{Op: 0x95}
	for name, bad := range map[string]ebpf.Insn{
		"mov with immediate": {Op: 0xbf, Imm: 5},
		"swap of 24 bits":    {Op: 0xdc, Imm: 24},
		"division by 0":      {Op: 0x37},
		"shift by 64":        {Op: 0x67, Imm: 64},
		"write to R10":       {Op: 0xb7, Regs: 10},
		"store to R10":       {Op: 0x7b, Regs: 10, Off: -3, Imm: 7},
		"atomic 0x77":        {Op: 0xdb, Regs: 10, Off: -8, Imm: 0x77},
		"helper 9999":        {Op: 0x85, Imm: 9999},
		"exit with register": {Op: 0x95, Regs: 3},
		"compare with both":  {Op: 0x1d, Off: 0, Imm: 9},
	} {
		insns := []ebpf.Insn{{Op: 0xb7, Imm: 7}, {Op: 0x15, Imm: 7, Off: 1}, bad, exit}
		src := &ebpf.Program{Name: "dead", License: "GPL", Type: ebpf.SchedCLS, Insns: insns, Funcs: []ebpf.Func{{}}}
		for _, o := range []Options{{NoJIT: true}, {}} {
			p, err := load(src, o)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if res, err := p.TestRun(TestOptions{Data: skbFrames[0]}); err != nil || res.Return != 7 {
				t.Errorf("%s: %d %v", name, res.Return, err)
			}
			p.Release()
		}
		// Where a run does get there nothing changes.
		src.Insns = []ebpf.Insn{{Op: 0xb7, Imm: 7}, {Op: 0x15, Imm: 8, Off: 1}, bad, exit}
		if p, err := load(src, Options{}); err == nil {
			t.Errorf("%s: accepted where it is reached", name)
			p.Release()
		}
		if os.Getuid() != 0 {
			continue
		}
		k, err := loadKernel(ebpf.SchedCLS, insns)
		if errors.Is(err, errNoKernel) {
			continue
		}
		if err != nil {
			t.Errorf("%s: kernel: %v", name, err)
			continue
		}
		if ret, _ := k.run(t, skbFrames[0]); ret != 7 {
			t.Errorf("%s: kernel returns %d", name, ret)
		}
		k.close()
	}
}

// tailCaller is a program that calls slot 0 of a program array.
func tailCaller(typ ebpf.ProgType, m *maps.Map) *ebpf.Program {
	return &ebpf.Program{Name: "caller", License: "GPL", Type: typ, Maps: []*maps.Map{m}, Funcs: []ebpf.Func{{}}, Insns: []ebpf.Insn{
		{Op: 0x18, Regs: ebpf.Regs(2, ebpf.PseudoMap)}, {}, {Op: 0xb7, Regs: 3}, {Op: 0x85, Imm: 12}, {Op: 0xb7}, {Op: 0x95},
	}}
}

// TestTailOwner loads programs that use, or are in, one program array. Steps are played
// in the kernel, too.
func TestTailOwner(t *testing.T) {
	type step struct {
		put  bool // else: load a program that calls into the array
		typ  ebpf.ProgType
		good bool
	}
	kernelType := map[ebpf.ProgType]cebpf.ProgramType{ebpf.SchedCLS: cebpf.SchedCLS, ebpf.XDP: cebpf.XDP, ebpf.SchedACT: cebpf.SchedACT}
	for name, steps := range map[string][]step{
		"first caller decides for callers": {{false, ebpf.SchedCLS, true}, {false, ebpf.XDP, false}, {false, ebpf.SchedCLS, true}},
		"first caller decides for members": {{false, ebpf.XDP, true}, {true, ebpf.SchedCLS, false}, {true, ebpf.XDP, true}},
		"first member decides for callers": {{true, ebpf.SchedCLS, true}, {false, ebpf.XDP, false}, {false, ebpf.SchedCLS, true}},
		"first member decides for members": {{true, ebpf.XDP, true}, {true, ebpf.SchedCLS, false}},
		"classifiers are no actions":       {{false, ebpf.SchedCLS, true}, {true, ebpf.SchedACT, false}},
	} {
		m, err := maps.New(maps.Spec{Type: maps.ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		k, kerr := cebpf.NewMap(&cebpf.MapSpec{Type: cebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if kerr == nil {
			defer k.Close()
		}
		for i, s := range steps {
			var err error
			if s.put {
				member, merr := load(&ebpf.Program{Name: "member", License: "GPL", Type: s.typ, Funcs: []ebpf.Func{{}}, Insns: []ebpf.Insn{{Op: 0xb7}, {Op: 0x95}}}, Options{})
				if merr != nil {
					t.Fatal(merr)
				}
				err = m.PutProg(make([]byte, 4), member, 0)
				member.Release()
			} else {
				var p *Prog
				if p, err = load(tailCaller(s.typ, m), Options{}); err == nil {
					defer p.Release()
				}
			}
			if (err == nil) != s.good || err != nil && !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%s, step %d: %v, want success %v", name, i, err, s.good)
			}
			if kerr != nil {
				continue
			}
			insns := asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
			if !s.put {
				insns = append(asm.Instructions{asm.LoadMapPtr(asm.R2, k.FD()), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call()}, insns...)
			}
			p, err := cebpf.NewProgram(&cebpf.ProgramSpec{Type: kernelType[s.typ], License: "GPL", Instructions: insns})
			if err == nil {
				defer p.Close()
				if s.put {
					err = k.Put(uint32(0), p)
				}
			}
			if (err == nil) != s.good || err != nil && !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%s, step %d: kernel: %v, want success %v", name, i, err, s.good)
			}
		}
	}
}
