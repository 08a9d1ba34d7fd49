package replay

import (
	"embed"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/vectors/roce
var recordings embed.FS

// files returns the recordings: those of TAPROOM_VECTORS if it is set.
func files() (fs.FS, error) {
	if root := os.Getenv("TAPROOM_VECTORS"); root != "" {
		return os.DirFS(filepath.Join(root, "roce")), nil
	}
	return fs.Sub(recordings, "testdata/vectors/roce")
}

// Load reads every recording, sorted by name. It fails the test if there is none
// or one cannot be read.
func Load(tb testing.TB) []*Scenario {
	tb.Helper()
	fsys, err := files()
	if err != nil {
		tb.Fatal(err)
	}
	names, err := fs.Glob(fsys, "*.pcap")
	if err != nil || len(names) == 0 {
		tb.Fatalf("replay: no *.pcap among the vectors (%v)", err)
	}
	var all []*Scenario
	for _, n := range names {
		pcap, err := fs.ReadFile(fsys, n)
		if err != nil {
			tb.Fatal(err)
		}
		base := strings.TrimSuffix(path.Base(n), ".pcap")
		text, err := fs.ReadFile(fsys, base+".txt")
		if err != nil {
			tb.Fatal(err)
		}
		s, err := Parse(base, pcap, text)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// Get returns the recording of this name, or skips the test when the set in use
// does not have it.
func Get(tb testing.TB, name string) *Scenario {
	tb.Helper()
	for _, s := range Load(tb) {
		if s.Name == name {
			return s
		}
	}
	tb.Skipf("recording %s is not in the set", name)
	return nil
}
