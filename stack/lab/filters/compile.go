package filters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoCompiler: a lab file names C source, and there is no clang.
var ErrNoCompiler = errors.New("filters: C source needs clang, which is not installed")

// headerDirs are where Debian keeps asm/types.h, which clang does not look for
// when it builds for BPF.
var headerDirs = []string{"/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"}

// compile makes an object file of C source, in a directory that the caller
// removes.
func compile(ctx context.Context, source, dir string) (string, error) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		return "", fmt.Errorf("%w: %s", ErrNoCompiler, source)
	}
	object := filepath.Join(dir, strings.TrimSuffix(filepath.Base(source), ".c")+".o")
	args := []string{"-O2", "-g", "-target", "bpf", "-Wall"}
	for _, d := range headerDirs {
		if _, err := os.Stat(d); err == nil {
			args = append(args, "-I"+d)
		}
	}
	c := exec.CommandContext(ctx, clang, append(args, "-c", source, "-o", object)...)
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("filters: %s: %w\n%s", source, err, strings.TrimSpace(said.String()))
	}
	return object, nil
}
