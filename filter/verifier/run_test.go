package verifier_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
	"taproom/filter/verifier"
	"taproom/filter/vm"
	"taproom/filter/vm/envtest"
	"taproom/stack/packet"
)

// TestAcceptedProgramsDoNoHarm runs random programs that pass in the interpreter,
// which checks every access itself: it must find nothing.
func TestAcceptedProgramsDoNoHarm(t *testing.T) {
	var live []*maps.Map
	for _, s := range verifier.TestMaps {
		m, err := maps.New(s)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		live = append(live, m)
	}
	n, seed := verifier.Setting("VERIFIER_PROGRAMS", 1500), verifier.Setting("VERIFIER_SEED", 1)
	passed, runs := 0, 0
	for i := range n {
		rng := rand.New(rand.NewPCG(seed, i))
		insns := verifier.Generate(rng, ebpf.SchedCLS)
		if i%3 == 0 {
			verifier.Mutate(rng, insns)
		}
		p := &ebpf.Program{Type: ebpf.SchedCLS, License: "GPL", Insns: insns, Maps: live, Funcs: []ebpf.Func{{}}}
		if _, err := verifier.Verify(p, verifier.Options{}); err != nil {
			continue
		}
		passed++
		prog, err := vm.New(p, vm.Options{NoJIT: true, Budget: 1 << 22})
		if err != nil {
			continue // malformed where nothing reaches it: the machine wants more
		}
		for range 6 {
			b := make([]byte, 14+rng.IntN(90))
			for k := range b {
				b[k] = byte(rng.Uint32() >> rng.IntN(32))
			}
			pk := packet.New(b)
			pk.Mark, pk.Priority = rng.Uint32(), rng.Uint32()>>rng.IntN(32)
			pk.CB[0] = rng.Uint32() >> rng.IntN(32)
			_, err := prog.RunSKB(pk, &envtest.Env{})
			runs++
			if errors.Is(err, vm.ErrAccess) || errors.Is(err, vm.ErrCall) || errors.Is(err, vm.ErrInsn) {
				t.Errorf("program %d: %v", i, err)
				break
			}
			pk.Release()
		}
		prog.Release()
	}
	t.Logf("runs: %d programs of %d passed, %d runs", passed, n, runs)
}
