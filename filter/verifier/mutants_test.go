//go:build linux

package verifier

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"taproom/filter/ebpf"
	"taproom/filter/maps"

	"golang.org/x/sys/unix"
)

// mirror makes the kernel's twins of a program's maps, with the contents of
// read-only ones.
func mirror(t testing.TB, p *ebpf.Program) *kernel {
	var specs []maps.Spec
	for _, m := range p.Maps {
		s := m.Spec()
		if s.Inner != nil || s.SpinLock != 0 || s.Timer != 0 {
			return nil
		}
		specs = append(specs, s)
	}
	k := newKernel(t, specs)
	for i, m := range p.Maps {
		if m.Flags()&maps.RdOnlyProg == 0 || m.Type() != maps.Array || m.MaxEntries() != 1 {
			continue
		}
		var key [4]byte
		val, _ := m.Elem(key[:], 0)
		attr := struct {
			fd, _             uint32
			key, value, flags uint64
		}{fd: uint32(k.fds[i]), key: uint64(uintptr(unsafe.Pointer(&key))), value: uint64(uintptr(unsafe.Pointer(&val[0])))}
		if _, e := bpf(unix.BPF_MAP_UPDATE_ELEM, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); e != 0 {
			t.Fatalf("filling a map: %v", e)
		}
		if m.Frozen() {
			freeze := struct{ fd uint32 }{uint32(k.fds[i])}
			if _, e := bpf(unix.BPF_MAP_FREEZE, unsafe.Pointer(&freeze), unsafe.Sizeof(freeze)); e != 0 {
				t.Fatalf("freezing a map: %v", e)
			}
		}
	}
	return k
}

// plain reports whether the kernel can be given the program without BTF.
func plain(p *ebpf.Program) bool {
	for pc := 0; pc < len(p.Insns); pc++ {
		in := p.Insns[pc]
		if in.IsWide() {
			if in.Src() == ebpf.PseudoFunc {
				return false
			}
			pc++
		} else if in.IsKfuncCall() {
			return false
		}
	}
	return true
}

// TestKernelAgreesOnMutants compares verdicts on compiled programs with a field
// or two changed: real code one step off.
func TestKernelAgreesOnMutants(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "corpus", "obj", "*.o"))
	if dir := os.Getenv("VERIFIER_OBJECTS"); dir != "" {
		files, _ = filepath.Glob(filepath.Join(dir, "*.o"))
	}
	n, seed := setting("VERIFIER_MUTANTS", 40), setting("VERIFIER_SEED", 1)
	total, accepted, strict, wide := 0, 0, 0, 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := ebpf.LoadSpec(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ebpf.NewCollection(spec, ebpf.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for name, p := range c.Programs {
			if !plain(p) {
				continue
			}
			k := mirror(t, p)
			if k == nil {
				continue
			}
			for i := range n {
				rng := rand.New(rand.NewPCG(seed, i))
				q := *p
				q.Insns = append([]ebpf.Insn(nil), p.Insns...)
				if i > 0 {
					mutate(rng, q.Insns)
				}
				q.Funcs = []ebpf.Func{{}}
				_, err := Verify(&q, Options{})
				yes, _ := k.load(q.Type, q.Insns, 0)
				total++
				if yes {
					accepted++
				}
				if yes == (err == nil) {
					continue
				}
				if yes {
					strict++
					t.Logf("%s %s %d: stricter: %v", filepath.Base(file), name, i, err)
					continue
				}
				_, log := k.load(q.Type, q.Insns, 1)
				if widerThanKernel(log) != "" {
					wide++
					continue
				}
				if len(log) > 3000 {
					log = log[len(log)-3000:]
				}
				t.Errorf("%s %s %d: we accept, the kernel refuses:\n%s", filepath.Base(file), name, i, log)
			}
		}
	}
	t.Logf("mutants: %d programs, %d accepted by the kernel, %d refused by us alone, %d accepted by us alone", total, accepted, strict, wide)
	if strict*50 > accepted {
		t.Errorf("more than 2 %% of the accepted programs are refused")
	}
}
