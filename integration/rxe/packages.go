package rxe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
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
	Pinned string   // RXE_PEER_KERNEL at the time
	Kernel string   // file of the kernel's package
	Debs   []string // files of everything else in the guest
	Header string   // file of headerPackage
}

// layout changes when what is taken from the packages does.
const layout = "3"

// key changes when any package does, or the layout.
func (p *packages) key() string {
	h := sha256.Sum256([]byte(strings.Join(append(slices.Clone(p.Debs), p.Kernel, p.Header, layout), "\n")))
	return fmt.Sprintf("%x", h[:8])
}

// recheck is how long packages are used before apt is asked for newer ones; it
// takes four seconds.
const recheck = 7 * 24 * time.Hour

// known returns the packages of the last download, if it is not old.
func known(dir string) *packages {
	file := filepath.Join(dir, "packages.json")
	st, err := os.Stat(file)
	if err != nil || time.Since(st.ModTime()) > recheck {
		return nil
	}
	b, err := os.ReadFile(file)
	p := &packages{dir: dir}
	if err != nil || json.Unmarshal(b, p) != nil || p.Pinned != os.Getenv("RXE_PEER_KERNEL") {
		return nil
	}
	return p
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
	if p := known(dir); p != nil {
		return p, nil
	}
	p, err := downloadNow(ctx, dir)
	if err != nil && os.Geteuid() == 0 { // the lists may be empty, or name files that are gone
		if command(ctx, "", "apt-get", "update", "-qq") == nil {
			p, err = downloadNow(ctx, dir)
		}
	}
	return p, err
}

func downloadNow(ctx context.Context, dir string) (*packages, error) {
	p := &packages{dir: dir, Pinned: os.Getenv("RXE_PEER_KERNEL")}
	os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return nil, err
	}
	kernel, err := kernelPackage(ctx)
	if err != nil {
		return nil, err
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return nil, err
	}
	apt := func(mode string) ([]byte, error) {
		return output(ctx, dir, "apt-get", append([]string{
			"-o", "Dir::State::status=" + empty, "-o", "Dir::Cache::archives=" + dir, "-o", "Debug::NoLocking=1",
			"-o", "APT::Sandbox::User=", "--no-install-recommends", "-y", "-qq", mode, "install",
		}, guestPackages...)...)
	}
	list, err := apt("--print-uris")
	if err == nil {
		_, err = apt("--download-only")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, m := range debName.FindAllSubmatch(list, -1) {
		p.Debs = append(p.Debs, string(m[1]))
	}
	if p.Kernel, err = fetch(ctx, dir, kernel); err != nil {
		return nil, err
	}
	if p.Header, err = fetch(ctx, dir, headerPackage); err != nil {
		return nil, err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(filepath.Join(dir, "packages.json"), b, 0o644)
}

// fetch downloads one package without what it depends on, and returns its file.
func fetch(ctx context.Context, dir, name string) (string, error) {
	out, err := output(ctx, dir, "apt-get", "--print-uris", "download", name)
	m := debName.FindSubmatch(out)
	if err != nil || m == nil {
		return "", fmt.Errorf("%w: apt offers no file for package %s: %v", ErrUnavailable, name, err)
	}
	if err := command(ctx, dir, "apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return string(m[1]), nil
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
