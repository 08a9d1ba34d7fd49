package verifier

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
)

type vectorMap struct {
	Type       uint32 `json:"type"`
	KeySize    uint32 `json:"key_size"`
	ValueSize  uint32 `json:"value_size"`
	MaxEntries uint32 `json:"max_entries"`
	Flags      uint32 `json:"flags"`
}

type vectorProgram struct {
	Name     string
	Category string
	ProgType uint32 `json:"prog_type"`
	License  string
	Insns    string
	Maps     []vectorMap
	Accept   bool
	Why      string
	Message  string
}

type vectorFile struct {
	Kernel   string
	Programs []vectorProgram
}

func (p *vectorProgram) program(t testing.TB) *ebpf.Program {
	b, err := hex.DecodeString(p.Insns)
	if err != nil {
		t.Fatal(err)
	}
	insns, err := ebpf.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	prog := &ebpf.Program{Name: p.Name, License: p.License, Type: ebpf.ProgType(p.ProgType), Insns: insns,
		Funcs: []ebpf.Func{{}}}
	for _, m := range p.Maps {
		spec := maps.Spec{Type: maps.Type(m.Type), KeySize: m.KeySize, ValueSize: m.ValueSize,
			MaxEntries: m.MaxEntries, Flags: m.Flags}
		live, err := maps.New(spec)
		if err != nil {
			t.Fatalf("%s: map %+v: %v", p.Name, m, err)
		}
		t.Cleanup(func() { live.Close() })
		prog.Maps = append(prog.Maps, live)
	}
	return prog
}

// vectorRoot is where recorded cases are.
func vectorRoot() string {
	if root := os.Getenv("TAPROOM_VECTORS"); root != "" {
		return root
	}
	return "testdata/vectors"
}

// stricter names cases that we refuse on purpose and the kernel accepts.
var stricter = map[string]string{}

func TestVectorsVerifier(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "verifier-*.json"))
	if len(files) == 0 {
		t.Skip("no verifier-*.json under " + vectorRoot())
	}
	ok, total := 0, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var f vectorFile
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, p := range f.Programs {
			total++
			_, err := Verify(p.program(t), Options{})
			var rejected *Error
			if err != nil && !errors.As(err, &rejected) {
				t.Errorf("%s: error of type %T: %v", p.Name, err, err)
			}
			if (err == nil) == p.Accept {
				ok++
				continue
			}
			if why := stricter[p.Name]; why != "" && p.Accept {
				ok++
				t.Logf("%s: stricter than the kernel: %s", p.Name, why)
				continue
			}
			t.Errorf("%s (%s): kernel accepts: %v (%s %s); we say: %+v", p.Name, p.Category, p.Accept, p.Why, p.Message, err)
		}
	}
	t.Logf("verifier: %d of %d", ok, total)
}
