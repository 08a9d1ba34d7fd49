package vm

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
	"taproom/filter/verifier"
)

// vectors is the root of recorded cases.
func vectors(sub string) string {
	if v := os.Getenv("TAPROOM_VECTORS"); v != "" {
		return filepath.Join(v, sub)
	}
	return filepath.Join("testdata", "vectors", sub)
}

type rawFile struct {
	Packet   string
	Programs []rawProgram
}

type rawProgram struct {
	Name     string
	ProgType uint32 `json:"prog_type"`
	Insns    string
	Accept   bool
	Ret      *uint32
	Maps     []rawMap
}

type rawMap struct {
	Type  uint32 `json:"type"`
	Key   uint32 `json:"key_size"`
	Value uint32 `json:"value_size"`
	Max   uint32 `json:"max_entries"`
	Flags uint32 `json:"flags"`
}

func (p rawProgram) program(t testing.TB) *ebpf.Program {
	b, err := hex.DecodeString(p.Insns)
	if err != nil {
		t.Fatal(err)
	}
	insns, err := ebpf.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	src := &ebpf.Program{Name: p.Name, License: "GPL", Type: ebpf.ProgType(p.ProgType), Insns: insns, Funcs: []ebpf.Func{{}}}
	for _, m := range p.Maps {
		mm, err := maps.New(maps.Spec{Type: maps.Type(m.Type), KeySize: m.Key, ValueSize: m.Value, MaxEntries: m.Max, Flags: m.Flags})
		if err != nil {
			t.Fatal(err)
		}
		src.Maps = append(src.Maps, mm)
	}
	return src
}

func TestVectorsRawRet(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectors("bpf"), "verifier-*.json"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var file rawFile
		if err := json.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		pkt, err := hex.DecodeString(file.Packet)
		if err != nil {
			t.Fatal(err)
		}
		for _, jit := range []bool{false, true} {
			ok, n := 0, 0
			for _, raw := range file.Programs {
				if !raw.Accept || raw.Ret == nil {
					continue
				}
				n++
				p, err := load(raw.program(t), Options{NoJIT: !jit})
				if err != nil {
					t.Errorf("%s: %v", raw.Name, err)
					continue
				}
				res, err := p.TestRun(TestOptions{Data: pkt, At: NFHook{PF: NFProtoIPv4}})
				switch {
				case err != nil:
					t.Errorf("%s (jit %v): %v", raw.Name, jit, err)
				case res.Return != *raw.Ret:
					t.Errorf("%s (jit %v): returned %#x, kernel %#x", raw.Name, jit, res.Return, *raw.Ret)
				default:
					ok++
				}
				p.Release()
			}
			t.Logf("%s, jit %v: %d of %d", filepath.Base(f), jit, ok, n)
		}
	}
}

// load verifies a program and makes it runnable.
func load(src *ebpf.Program, o Options) (*Prog, error) {
	proof, err := verifier.Verify(src, verifier.Options{})
	if err != nil {
		return nil, err
	}
	o.Proof = proof
	return New(src, o)
}
