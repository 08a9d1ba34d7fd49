package verifier

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"taproom/filter/ebpf"
)

// exhaustive verifies without pruning: slow, but nothing of an old state is
// taken for granted.
func exhaustive(p *ebpf.Program) error {
	v, err := newVerifier(p, Options{Budget: 200_000})
	if err != nil {
		return err
	}
	v.noPrune = true
	_, err = v.run()
	return err
}

// TestPruningIsSound looks for programs that pass with pruning and fail without:
// there, a state was covered by one that it differs from in something that
// mattered.
func TestPruningIsSound(t *testing.T) {
	n, seed := setting("VERIFIER_PROGRAMS", 600), setting("VERIFIER_SEED", 1)
	ours := liveMaps(t, testMaps)
	checked, open := 0, 0
	check := func(what string, i uint64, p *ebpf.Program) {
		if _, err := Verify(p, Options{}); err != nil {
			return
		}
		err := exhaustive(p)
		switch {
		case err == nil:
			checked++
		case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.E2BIG):
			open++
		default:
			t.Errorf("%s %d: passes with pruning, not without: %+v", what, i, err)
		}
	}
	types := []ebpf.ProgType{ebpf.SchedCLS, ebpf.SchedCLS, ebpf.XDP, ebpf.Netfilter}
	for i := range n {
		rng := rand.New(rand.NewPCG(seed, i))
		typ := types[rng.IntN(len(types))]
		p := &ebpf.Program{Type: typ, License: "GPL", Insns: generate(rng, typ), Maps: ours, Funcs: []ebpf.Func{{}}}
		check("generated", i, p)
	}
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "corpus", "obj", "*.o"))
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
			for i := range setting("VERIFIER_MUTANTS", 20) {
				rng := rand.New(rand.NewPCG(seed, i))
				q := *p
				q.Insns = append([]ebpf.Insn(nil), p.Insns...)
				if i > 0 {
					mutate(rng, q.Insns)
				}
				check(filepath.Base(file)+" "+name, i, &q)
			}
		}
	}
	t.Logf("pruning: %d programs walked in full, %d too long to", checked, open)
}
