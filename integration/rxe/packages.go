package rxe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ErrUnavailable is wrapped by errors that mean that this machine lacks
// something: QEMU, apt, a package.
var ErrUnavailable = errors.New("rxe: not available here")

// guestPackages are the Debian packages in the guest, besides those they depend
// on.
var guestPackages = []string{
	"busybox-static", "dash", "ibverbs-utils", "ibverbs-providers", "rdmacm-utils", "perftest", "iproute2", "ethtool",
}

// headerPackage has the C headers that verbx is compiled with; it is not in the
// guest.
const headerPackage = "libibverbs-dev"

// Tools are the host's programs that a build and a boot take.
var tools = []string{"qemu-system-x86_64", "apt-get", "apt-cache", "dpkg-deb", "xz", "go"}

// toolPackages names the Debian packages of tools that a minimal Debian lacks.
var toolPackages = []string{"qemu-system-x86", "xz-utils", "gcc", "libc6-dev"}

// Setup installs the tools on a Debian machine where we are root. It does
// nothing, and says so, on others; whatever is then missing makes Boot fail with
// ErrUnavailable.
func Setup(ctx context.Context) error {
	if missingTool() == "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: %s is missing, and only root can install it", ErrUnavailable, missingTool())
	}
	if err := command(ctx, "", "apt-get", "update", "-qq"); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, toolPackages...)
	if err := command(ctx, "", "apt-get", args...); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func missingTool() string {
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			return t
		}
	}
	return ""
}

// packages is where the downloaded packages lie.
type packages struct {
	dir    string
	kernel string   // the kernel's package
	debs   []string // files of everything else in the guest
	header string   // file of headerPackage
	key    string   // changes when any of them does
}

var kernelName = regexp.MustCompile(`(?m)^\s*Depends: (linux-image-\S+)`)

// kernelPackage asks apt which kernel linux-image-amd64 stands for.
func kernelPackage(ctx context.Context) (string, error) {
	if k := os.Getenv("RXE_PEER_KERNEL"); k != "" {
		return k, nil
	}
	out, err := output(ctx, "", "apt-cache", "depends", "linux-image-amd64")
	if err != nil {
		return "", err
	}
	m := kernelName.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%w: apt knows no linux-image-amd64; apt-get update?", ErrUnavailable)
	}
	return string(m[1]), nil
}

var debName = regexp.MustCompile(`'[^']*' (\S+\.deb) `)

// download makes sure all packages are in dir. apt resolves the dependencies
// against an empty system, so that the guest needs nothing of the host's.
func download(ctx context.Context, dir string) (*packages, error) {
	p := &packages{dir: dir}
	var err error
	if p.kernel, err = kernelPackage(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return nil, err
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return nil, err
	}
	apt := []string{
		"-o", "Dir::State::status=" + empty, "-o", "Dir::Cache::archives=" + dir, "-o", "Debug::NoLocking=1",
		"-o", "APT::Sandbox::User=", "--no-install-recommends", "-y", "-qq",
	}
	with := func(args ...string) []string { return slices.Concat(apt, args, guestPackages) }
	list, err := output(ctx, dir, "apt-get", with("--print-uris", "install")...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Packages that are there already are not in the list: it names what is
	// missing. Which ones belong to the guest is kept in a file beside them.
	manifest := filepath.Join(dir, "manifest")
	if len(debName.FindAll(list, -1)) > 0 || !exists(manifest) {
		clean(dir)
		if list, err = output(ctx, dir, "apt-get", with("--print-uris", "install")...); err != nil {
			return nil, err
		}
		if err := command(ctx, dir, "apt-get", with("--download-only", "install")...); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		var names []string
		for _, m := range debName.FindAllSubmatch(list, -1) {
			names = append(names, string(m[1]))
		}
		if err := os.WriteFile(manifest, []byte(strings.Join(names, "\n")), 0o644); err != nil {
			return nil, err
		}
	}
	b, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	p.debs = strings.Fields(string(b))
	for _, name := range []string{p.kernel, headerPackage} {
		f, err := fetch(ctx, dir, name)
		if err != nil {
			return nil, err
		}
		if name == headerPackage {
			p.header = f
		} else {
			p.kernel = f
		}
	}
	h := sha256.Sum256([]byte(strings.Join(append(p.debs, p.kernel, p.header), "\n")))
	p.key = fmt.Sprintf("%x", h[:8])
	return p, nil
}

// fetch downloads one package without dependencies, unless its file is there.
func fetch(ctx context.Context, dir, name string) (string, error) {
	find := func() (string, error) {
		out, err := output(ctx, dir, "apt-get", "--print-uris", "download", name)
		if m := debName.FindSubmatch(out); m != nil {
			return string(m[1]), nil
		}
		return "", err
	}
	file, err := find()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if file == "" { // nothing to download: it is there under its usual name
		m, _ := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if len(m) == 0 {
			return "", fmt.Errorf("%w: apt offers no file for package %s", ErrUnavailable, name)
		}
		return filepath.Base(m[len(m)-1]), nil
	}
	if exists(filepath.Join(dir, file)) {
		return file, nil
	}
	if err := command(ctx, dir, "apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return file, nil
}

// clean removes packages of an older download.
func clean(dir string) {
	old, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	for _, f := range old {
		os.Remove(f)
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func command(ctx context.Context, dir, name string, args ...string) error {
	_, err := output(ctx, dir, name, args...)
	return err
}

// output runs a program and returns its standard output; the error has the last
// lines of what it said.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		text := strings.TrimSpace(stderr.String())
		if len(text) > 500 {
			text = text[len(text)-500:]
		}
		return out, fmt.Errorf("rxe: %s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return out, nil
}
