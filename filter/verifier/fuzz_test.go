package verifier

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf"
)

// FuzzVerify feeds arbitrary instructions: whatever they are, the verifier must
// come back with a verdict, and with the same one when it logs.
func FuzzVerify(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "verifier-*.json"))
	for _, name := range files {
		var v vectorFile
		if data, err := os.ReadFile(name); err == nil && json.Unmarshal(data, &v) == nil {
			for _, p := range v.Programs {
				b, _ := hex.DecodeString(p.Insns)
				f.Add(uint8(p.ProgType), b)
			}
		}
	}
	for i := range uint64(50) {
		f.Add(uint8(ebpf.SchedCLS), ebpf.Encode(generate(rand.New(rand.NewPCG(9, i)), ebpf.SchedCLS)))
	}
	ours := liveMaps(f, testMaps)
	f.Fuzz(func(t *testing.T, typ uint8, code []byte) {
		insns, err := ebpf.Decode(code[:len(code)&^7])
		if err != nil {
			t.Fatal(err)
		}
		p := &ebpf.Program{Type: ebpf.ProgType(typ), License: "GPL", Insns: insns, Maps: ours, Funcs: []ebpf.Func{{}},
			Kfuncs: []ebpf.Kfunc{{Name: "bpf_dynptr_from_skb"}, {Name: "bpf_dynptr_slice"}, {Name: "bpf_iter_num_new"},
				{Name: "bpf_iter_num_next"}, {Name: "bpf_iter_num_destroy"}}}
		_, err = Verify(p, Options{Budget: 20_000})
		_, err2 := Verify(p, Options{Budget: 20_000, LogLevel: 2, Log: io.Discard})
		if (err == nil) != (err2 == nil) {
			t.Errorf("%v, but with a log %v", err, err2)
		}
	})
}
