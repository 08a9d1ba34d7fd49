package cbpf

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func vectorRoot() string {
	if root := os.Getenv("TAPROOM_VECTORS"); root != "" {
		return root
	}
	return filepath.Join("testdata", "vectors")
}

func readJSON(t testing.TB, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// frames reads the recorded packets from their capture file.
func frames(t testing.TB) [][]byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(vectorRoot(), "bpf", "packets", "packets.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for b := raw[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		all = append(all, b[16:16+n])
		b = b[16+n:]
	}
	return all
}

type vectorSet struct {
	Programs []struct {
		Name   string      `json:"name"`
		Insns  [][4]uint32 `json:"insns"`
		Accept bool        `json:"accept"`
		Kept   []int       `json:"kept"`
	} `json:"programs"`
}

func vectorSets(t testing.TB) map[string]vectorSet {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "cbpf-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cbpf-*.json under %s: %v", vectorRoot(), err)
	}
	sets := map[string]vectorSet{}
	for _, file := range files {
		var set vectorSet
		readJSON(t, file, &set)
		sets[file] = set
	}
	return sets
}

func insnsOf(raw [][4]uint32) []Insn {
	insns := make([]Insn, len(raw))
	for n, r := range raw {
		insns[n] = Insn{uint16(r[0]), uint8(r[1]), uint8(r[2]), r[3]}
	}
	return insns
}

// TestVectorsFilters compares verdicts and kept bytes with a kernel's.
func TestVectorsFilters(t *testing.T) {
	packets := frames(t)
	total, good := 0, 0
	for _, set := range vectorSets(t) {
		for _, v := range set.Programs {
			total++
			if t.Run(v.Name, func(t *testing.T) {
				f, err := New(insnsOf(v.Insns))
				if accept := err == nil; accept != v.Accept {
					t.Fatalf("accepted %v (%v), want %v", accept, err, v.Accept)
				}
				if err != nil {
					return
				}
				for n, want := range v.Kept {
					if got := f.Keep(packets[n], nil); got != want {
						t.Errorf("frame %d: keeps %d, want %d", n, got, want)
					}
				}
			}) {
				good++
			}
		}
	}
	t.Logf("cbpf: %d of %d", good, total)
}
