package rxe

import (
	"bufio"
	"context"
	"debug/elf"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

//go:embed verbx/verbx.c
var verbxSource []byte

// modules are loaded in this order. One that the kernel does not have is built
// in, or not needed by it.
var modules = strings.Fields(`virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_mmio failover
	net_failover virtio_net virtio_console e1000 crc32_generic crc32-pclmul udp_tunnel ip6_udp_tunnel ib_core ib_uverbs
	rdma_rxe configfs ib_cm iw_cm rdma_cm rdma_ucm ib_umad`)

// guestFiles are what the guest takes from the packages: directories whole.
// Libraries follow from what the programs are linked with.
var guestFiles = strings.Fields("bin sbin usr/bin usr/sbin etc/libibverbs.d/rxe.driver usr/lib/x86_64-linux-gnu/libibverbs")

// programPackages are the packages whose programs go into the guest; of the
// others only libraries do.
var programPackages = []string{"busybox-static_", "dash_", "ibverbs-utils_", "ibverbs-providers_", "rdmacm-utils_", "perftest_", "iproute2_", "ethtool_"}

// image is a guest ready to boot.
type image struct {
	kernel string // an ELF
	initrd string
	verbx  bool // there was a C compiler
}

// cacheDir is where everything that is downloaded or built is kept.
func cacheDir() (string, error) {
	c, err := os.UserCacheDir()
	if err != nil {
		c = filepath.Join(os.TempDir(), "cache")
	}
	c = filepath.Join(c, "taproom", "rxe")
	return c, os.MkdirAll(c, 0o755)
}

// buildImage returns the image, building what the cache does not have. Processes
// that do so at once wait for each other.
func buildImage(ctx context.Context) (*image, error) {
	if t := missingTool(); t != "" {
		return nil, fmt.Errorf("%w: %s is missing", ErrUnavailable, t)
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	p, err := download(ctx, filepath.Join(cache, "debs"))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, p.key())
	if !exists(filepath.Join(dir, "base.cpio")) {
		removeImages(cache)
		if err := p.unpack(ctx, dir); err != nil {
			os.RemoveAll(dir)
			return nil, err
		}
	}
	img := &image{kernel: filepath.Join(dir, "vmlinux"), initrd: filepath.Join(dir, "initrd.cpio")}
	img.verbx, err = addOwn(ctx, dir)
	return img, err
}

// removeImages removes images of older packages: 180 MB each. A guest that runs
// has its own in memory.
func removeImages(cache string) {
	old, _ := filepath.Glob(filepath.Join(cache, "*", "vmlinux"))
	for _, f := range old {
		os.RemoveAll(filepath.Dir(f))
	}
}

// lock takes an exclusive lock on a file.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("rxe: lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// unpack extracts the packages and writes kernel and base.cpio, which hold all
// that does not come from this repository.
func (p *packages) unpack(ctx context.Context, dir string) error {
	for _, d := range []string{"kernel", "programs", "libraries", "headers"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	extract := func(deb, to string) error {
		return command(ctx, "", "dpkg-deb", "-x", filepath.Join(p.dir, deb), filepath.Join(dir, to))
	}
	for _, deb := range p.Debs {
		to := "libraries"
		if slices.ContainsFunc(programPackages, func(s string) bool { return strings.HasPrefix(deb, s) }) {
			to = "programs"
		}
		if err := extract(deb, to); err != nil {
			return err
		}
	}
	if err := extract(p.Kernel, "kernel"); err != nil {
		return err
	}
	if err := extract(p.Header, "headers"); err != nil {
		return err
	}
	bz, err := filepath.Glob(filepath.Join(dir, "kernel/boot/vmlinuz-*"))
	if err != nil || len(bz) != 1 {
		return fmt.Errorf("rxe: %d kernels in %s", len(bz), p.Kernel)
	}
	b, err := os.ReadFile(bz[0])
	if err != nil {
		return err
	}
	if b, err = vmlinux(ctx, b); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "vmlinux"), b, 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "base.tmp"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(w)
	if err := a.base(ctx, dir); err != nil {
		return err
	}
	if err := a.close(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	os.RemoveAll(filepath.Join(dir, "kernel"))
	return os.Rename(f.Name(), filepath.Join(dir, "base.cpio"))
}

// base adds modules, programs and the libraries they are linked with.
func (a *archive) base(ctx context.Context, dir string) error {
	a.console()
	for _, d := range []string{"proc", "sys", "tmp", "run", "applets"} {
		a.dir(d)
	}
	if err := a.modules(ctx, filepath.Join(dir, "kernel")); err != nil {
		return err
	}
	a.link("bin/sh", "dash")
	libs := &linker{roots: []string{filepath.Join(dir, "programs"), filepath.Join(dir, "libraries")}}
	for _, name := range guestFiles {
		if err := a.tree(filepath.Join(dir, "programs"), name, libs); err != nil {
			return err
		}
	}
	libs.find("libgcc_s.so.1") // pthread_exit opens it by name
	return libs.add(a)
}

// modules adds the kernel's modules, named so that their order shows.
func (a *archive) modules(ctx context.Context, root string) error {
	found := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(p), ".ko"); ok {
			found[strings.ReplaceAll(name, "_", "-")] = p
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, m := range modules {
		p, ok := found[strings.ReplaceAll(m, "_", "-")]
		if !ok {
			continue
		}
		b, err := os.ReadFile(p)
		if strings.HasSuffix(p, ".xz") {
			b, err = output(ctx, "", "xz", "-dc", p)
		}
		if err != nil {
			return err
		}
		a.file(fmt.Sprintf("modules/%02d-%s.ko", i, m), 0o644, b)
	}
	return nil
}

// tree adds a file or a directory, and notes what libraries its programs need.
func (a *archive) tree(root, name string, libs *linker) error {
	top := filepath.Join(root, name)
	if _, err := os.Lstat(top); err != nil {
		return nil // releases differ in where they keep a program
	}
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			a.link(rel, target)
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		a.file(rel, 0o755, b)
		libs.need(p)
		return nil
	})
}

// linker collects shared libraries, as the dynamic linker would.
type linker struct {
	roots []string
	names []string // found, in order
	paths map[string]string
}

var libraryDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "lib", "usr/lib"}

// need notes the libraries that an ELF file, and they in turn, are linked with.
// What is no ELF file needs none.
func (l *linker) need(file string) {
	f, err := elf.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	libs, _ := f.ImportedLibraries()
	if s := f.Section(".interp"); s != nil {
		libs = append(libs, "ld-linux-x86-64.so.2")
	}
	l.find(libs...)
}

// find notes libraries by name.
func (l *linker) find(names ...string) {
	if l.paths == nil {
		l.paths = map[string]string{}
	}
	for _, name := range names {
		for _, root := range l.roots {
			for _, d := range libraryDirs {
				p := filepath.Join(root, d, name)
				if l.paths[name] == "" && exists(p) {
					l.paths[name], l.names = p, append(l.names, name)
					l.need(p)
				}
			}
		}
	}
}

// add adds the libraries, all in one directory and by the name they are asked
// for.
func (l *linker) add(a *archive) error {
	for _, name := range l.names {
		b, err := os.ReadFile(l.paths[name])
		if err != nil {
			return err
		}
		a.file(path.Join("lib/x86_64-linux-gnu", name), 0o755, b)
	}
	a.link("lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	return nil
}

// addOwn writes initrd.cpio: base.cpio and, behind it, what comes from this
// repository.
func addOwn(ctx context.Context, dir string) (verbx bool, err error) {
	init := filepath.Join(dir, "init")
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", init, "taproom/integration/rxe/guest")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		return false, fmt.Errorf("rxe: building the guest's init: %w: %s", err, out)
	}
	base, err := os.ReadFile(filepath.Join(dir, "base.cpio"))
	if err != nil {
		return false, err
	}
	tmp, err := os.Create(filepath.Join(dir, "initrd.tmp"))
	if err != nil {
		return false, err
	}
	defer tmp.Close()
	w := bufio.NewWriterSize(tmp, 1<<20)
	if _, err := w.Write(base); err != nil {
		return false, err
	}
	a := newArchive(w)
	b, err := os.ReadFile(init)
	if err != nil {
		return false, err
	}
	a.file("init", 0o755, b)
	if b, err = compileVerbx(ctx, dir); err != nil {
		return false, err
	}
	if b != nil {
		a.file("usr/local/bin/verbx", 0o755, b)
	}
	if err := a.close(); err != nil {
		return false, err
	}
	if err := w.Flush(); err != nil {
		return false, err
	}
	return b != nil, os.Rename(tmp.Name(), filepath.Join(dir, "initrd.cpio"))
}

// compileVerbx returns the program, or nil where there is no C compiler.
func compileVerbx(ctx context.Context, dir string) ([]byte, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return nil, nil
	}
	src, bin := filepath.Join(dir, "verbx.c"), filepath.Join(dir, "verbx")
	if old, err := os.ReadFile(src); err == nil && string(old) == string(verbxSource) && exists(bin) {
		return os.ReadFile(bin)
	}
	os.Remove(bin)
	if err := os.WriteFile(src, verbxSource, 0o644); err != nil {
		return nil, err
	}
	lib, err := filepath.Glob(filepath.Join(dir, "libraries/usr/lib/*/libibverbs.so.1"))
	if err != nil || len(lib) == 0 {
		return nil, fmt.Errorf("rxe: no libibverbs.so.1 among the packages")
	}
	err = command(ctx, dir, gcc, "-O1", "-Wall", "-I", filepath.Join(dir, "headers/usr/include"), "-o", bin, src, lib[0],
		"-Wl,--unresolved-symbols=ignore-in-shared-libs")
	if err != nil {
		return nil, err
	}
	return os.ReadFile(bin)
}
