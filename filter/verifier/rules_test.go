package verifier_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"taproom/filter/verifier"

	cebpf "github.com/cilium/ebpf"
)

// compile builds one of the test's own C programs.
func compile(t *testing.T, src, cpu string) string {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("clang is not installed")
	}
	out := filepath.Join(t.TempDir(), filepath.Base(src)+".o")
	cmd := exec.Command(clang, "-O2", "-g", "-target", "bpf", "-mcpu="+cpu,
		"-I/usr/include/x86_64-linux-gnu", "-I/usr/include/aarch64-linux-gnu", "-c", src, "-o", out)
	if msg, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(msg), "file not found") {
			t.Skipf("a header is not installed: %s", msg)
		}
		t.Fatalf("%v\n%s", err, msg)
	}
	return out
}

// kernelVerdict loads one program of an object into the running kernel.
func kernelVerdict(file, name string) error {
	spec, err := cebpf.LoadCollectionSpec(file)
	if err != nil {
		return err
	}
	for n := range spec.Programs {
		if n != name {
			delete(spec.Programs, n)
		}
	}
	c, err := cebpf.NewCollection(spec)
	if err == nil {
		c.Close()
	}
	return err
}

// TestRules verifies C programs that use every part of the rules; those named
// bad_ must be refused. Where the kernel may be asked it must say the same.
func TestRules(t *testing.T) {
	askKernel := os.Geteuid() == 0
	for _, src := range []string{"testdata/src/rules.bpf.c", "testdata/src/nf_xdp.bpf.c"} {
		for _, cpu := range []string{"v2", "v3"} {
			t.Run(fmt.Sprintf("%s/%s", filepath.Base(src), cpu), func(t *testing.T) {
				file := compile(t, src, cpu)
				progs := collection(t, file).Programs
				for _, name := range slices.Sorted(maps.Keys(progs)) {
					_, err := verifier.Verify(progs[name], verifier.Options{})
					if bad := strings.HasPrefix(name, "bad_"); bad == (err == nil) {
						t.Errorf("%s: %+v", name, err)
					}
					var rejected *verifier.Error
					if err != nil && (!errors.As(err, &rejected) || rejected.Insn >= 0 && rejected.Line == nil) {
						t.Errorf("%s: no source line in %+v", name, err)
					}
					if !askKernel {
						continue
					}
					kerr := kernelVerdict(file, name)
					var ve *cebpf.VerifierError
					if kerr != nil && !errors.As(kerr, &ve) {
						continue // not the verifier's doing
					}
					if (kerr == nil) != (err == nil) {
						t.Errorf("%s: kernel: %v; we: %v", name, kerr, err)
					}
				}
			})
		}
	}
}
