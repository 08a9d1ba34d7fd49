package rxe

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// archive writes a cpio archive of the "newc" form, which the kernel unpacks as
// its first root file system. Several archives may follow each other in one
// file.
type archive struct {
	w    io.Writer
	seen map[string]bool
	ino  uint32
	err  error
}

func newArchive(w io.Writer) *archive { return &archive{w: w, seen: map[string]bool{}} }

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
	modeChar = 0o020000
)

// entry writes one entry; the kernel wants header and data each padded to four.
func (a *archive) entry(name string, mode uint32, major, minor uint32, data []byte) {
	if a.err != nil || a.seen[name] {
		return
	}
	if dir := path.Dir(name); dir != "." && name != "TRAILER!!!" {
		a.dir(dir)
	}
	a.seen[name] = true
	a.ino++
	h := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	h += strings.Repeat("\x00", -len(h)&3)
	if _, a.err = io.WriteString(a.w, h); a.err != nil {
		return
	}
	if _, a.err = a.w.Write(data); a.err != nil {
		return
	}
	_, a.err = io.WriteString(a.w, strings.Repeat("\x00", -len(data)&3))
}

func (a *archive) dir(name string) { a.entry(name, modeDir|0o755, 0, 0, nil) }
func (a *archive) file(name string, perm fs.FileMode, data []byte) {
	a.entry(name, modeFile|uint32(perm.Perm()), 0, 0, data)
}
func (a *archive) link(name, target string) { a.entry(name, modeLink|0o777, 0, 0, []byte(target)) }

// console makes the device that the kernel gives to init as its standard files.
func (a *archive) console() { a.entry("dev/console", modeChar|0o600, 5, 1, nil) }

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}
