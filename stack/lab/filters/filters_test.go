package filters_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taproom/filter"
	"taproom/filter/maps"
	"taproom/stack/lab"
	"taproom/stack/lab/filters"
	"taproom/stack/lab/spec"
)

const head = `
version: 1
name: t
rooms: {r: router, q: router}
links: [{ends: [r:e0, q:e0]}]
`

func up(t *testing.T, section string) (*lab.Lab, error) {
	t.Helper()
	file, err := spec.Parse(filepath.Join(t.TempDir(), "lab.yaml"), []byte(head+section))
	if err != nil {
		return nil, err
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Apply(context.Background(), file, nil)
}

// source is a program that counts in a map, twice.
const source = `
#define SEC(n) __attribute__((section(n), used))
typedef unsigned int u32;
struct { int (*type)[2]; u32 *key, *value; int (*max_entries)[1]; } seen SEC(".maps");
static void *(*const lookup)(void *, const void *) = (void *)1;
static int count(void) { u32 k = 0, *v = lookup(&seen, &k); if (v) __sync_fetch_and_add(v, 1); return 0; }
SEC("tc") int one(void *ctx) { return count(); }
SEC("tc") int two(void *ctx) { return count(); }
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "prog.c")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func needClang(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("needs clang: ", err)
	}
}

// C source is compiled, and on one router two programs of a file have the
// same maps; another router has others.
func TestSource(t *testing.T) {
	needClang(t)
	path := write(t, source)
	l, err := up(t, `
filters:
  - {at: r:e0, direction: ingress, object: `+path+`, program: one, priority: 7}
  - {at: r:e0, direction: egress, object: `+path+`, program: two, tcx: true}
  - {at: q:e0, direction: ingress, object: `+path+`, program: one}
`)
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string][]*maps.Map)
	for _, room := range []string{"r", "q"} {
		p, err := filters.Of(l, room)
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.DeviceByName("e0")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Chains(filter.Ingress) {
			for _, prio := range c.Priorities {
				for _, f := range prio.Filters {
					used[room] = append(used[room], f.Config().Program.Maps()...)
				}
			}
		}
		for _, prog := range d.QueryTCX(filter.Egress).Programs {
			used[room] = append(used[room], prog.Maps()...)
		}
	}
	if len(used["r"]) != 2 || used["r"][0] != used["r"][1] || len(used["q"]) != 1 || used["q"][0] == used["r"][0] {
		t.Errorf("maps by router: %v", used)
	}
}

func TestSourceErrors(t *testing.T) {
	bad := write(t, "SEC(\"tc\") int f(void *ctx) { return 0 }\n")
	section := "\nfilters: [{at: r:e0, direction: ingress, object: " + bad + "}]\n"
	t.Run("wrong", func(t *testing.T) {
		needClang(t)
		if _, err := up(t, section); err == nil || !strings.Contains(err.Error(), "prog.c:1:") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no compiler", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := up(t, section); !errors.Is(err, filters.ErrNoCompiler) {
			t.Errorf("got %v", err)
		}
	})
}
