// Package taproom_test keeps the house in order: what may import what, that
// every package says what it is, and that files stay short.
package taproom_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// rule forbids imports. Packages are named from the module's root; a trailing
// "/..." includes what is below.
type rule struct {
	from   string
	except []string
	not    []string
	why    string
}

const gvisor = "gvisor.dev/gvisor/pkg/tcpip/..."

var rules = []rule{
	{from: "ioam/...", not: []string{"taproom/rdma/...", "taproom/filter/...", "taproom/tap/..."},
		why: "the subsystems stand side by side and know only the hook"},
	{from: "rdma/...", not: []string{"taproom/ioam/...", "taproom/filter/...", "taproom/tap/..."},
		why: "the subsystems stand side by side and know only the hook"},
	{from: "filter/...", not: []string{"taproom/ioam/...", "taproom/rdma/...", "taproom/tap/..."},
		why: "the subsystems stand side by side and know only the hook"},
	{from: "ioam/...", not: []string{"taproom/stack"}, why: "stack/hook is a subsystem's only door to the node"},
	{from: "rdma/...", not: []string{"taproom/stack"}, why: "stack/hook is a subsystem's only door to the node"},
	{from: "filter/...", not: []string{"taproom/stack"}, why: "stack/hook is a subsystem's only door to the node"},
	{from: "stack/hook", not: []string{"taproom/stack", "taproom/tap/...", "taproom/ioam/...", "taproom/rdma/...", "taproom/filter/..."},
		why: "everything plugs into the hook; it depends on packets alone"},
	{from: "stack/packet", not: []string{"taproom/..."}, why: "packets are the common ground"},
	{from: "stack", not: []string{"taproom/ioam/...", "taproom/rdma/...", "taproom/filter/...", "taproom/stack/lab/...", "taproom/stack/wire", "taproom/stack/relay/..."},
		why: "a node does not know what is plugged into it"},
	{from: "tap/...", not: []string{"taproom/stack", "taproom/stack/hook", "taproom/ioam/...", "taproom/rdma/...", "taproom/filter/..."},
		why: "a device knows packets, not nodes"},
	{from: "...", except: []string{"cmd/taproom/...", "integration/..."}, not: []string{"taproom/cmd/...", "taproom/integration/..."},
		why: "the command and the integration tests are the outermost layer"},
	{from: "...", except: []string{"tap/...", "stack", "stack/wire", "integration/bench"}, not: []string{gvisor},
		why: "a gVisor upgrade touches tap, stack and stack/wire alone"},
	{from: "...", not: []string{"C"}, why: "taproom is built without cgo"},
	{from: "...", except: []string{"cmd/...", "integration/...", "stack/lab/..."}, not: []string{"log", "log/slog"},
		why: "libraries return errors and count; they do not log"},
}

func under(pkg, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func anyUnder(pkg string, patterns []string) bool {
	for _, p := range patterns {
		if under(pkg, p) {
			return true
		}
	}
	return false
}

type source struct {
	path string // from the root, with slashes
	text []byte
	ast  *ast.File
}

func (s source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }
func (s source) pkg() string { return path.Dir(s.path) }

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "testdata" || n == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, source{filepath.ToSlash(p), text, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDependencies(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, im := range s.ast.Imports {
			to, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules {
				if under(s.pkg(), r.from) && !anyUnder(s.pkg(), r.except) && anyUnder(to, r.not) && to != "taproom/"+s.pkg() {
					t.Errorf("%s imports %s: %s", s.path, to, r.why)
				}
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	said := make(map[string]bool)
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		said[s.pkg()] = said[s.pkg()] || s.ast.Doc != nil && len(s.ast.Doc.Text()) > 60
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("package %s does not say what it is", pkg)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, s := range sources(t) {
		if f, err := format.Source(s.text); err != nil || !bytes.Equal(f, s.text) {
			t.Errorf("%s is not as gofmt writes it", s.path)
		}
	}
}

// maxLines is "about 400".
const maxLines = 450

func TestFileLength(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines && !s.test() && !ast.IsGenerated(s.ast) {
			t.Errorf("%s has %d lines: one noun a file", s.path, n)
		}
	}
}
