package verifier_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf/cbpf"
	"taproom/filter/verifier"
)

// TestVectorsClassic verifies what accepted classic filters are translated to.
func TestVectorsClassic(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "cbpf-*.json"))
	if len(files) == 0 {
		t.Skip("no cbpf-*.json under " + vectorRoot())
	}
	ok, total := 0, 0
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Programs []struct {
				Name   string
				Insns  [][4]uint32
				Accept bool
			}
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Programs {
			if !p.Accept {
				continue
			}
			var insns []cbpf.Insn
			for _, i := range p.Insns {
				insns = append(insns, cbpf.Insn{Code: uint16(i[0]), JT: uint8(i[1]), JF: uint8(i[2]), K: i[3]})
			}
			total++
			filter, err := cbpf.New(insns)
			if err != nil {
				t.Errorf("%s: %v", p.Name, err)
				continue
			}
			prog, err := filter.Translate()
			if err != nil {
				t.Logf("%s: not translated: %v", p.Name, err)
				total--
				continue
			}
			if _, err := verifier.Verify(prog, verifier.Options{}); err != nil {
				t.Errorf("%s: %+v", p.Name, err)
				continue
			}
			ok++
		}
	}
	t.Logf("classic: %d of %d", ok, total)
}
