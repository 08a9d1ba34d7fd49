package object

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where things are in a directory of pins.
const (
	pinDir    = "pins"
	objectDir = "objects"
	lockFile  = "lock"
	tempMark  = ".tmp-"
)

// writeFile puts a whole file in place, or leaves what was there, whatever happens
// in between: the name changes over only when the contents are on the disk.
func writeFile(path string, data []byte) error {
	tmp := path + tempMark + newIdentity()
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a change of names durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func newIdentity() identity {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// validIdentity keeps what a file says from leading elsewhere.
func validIdentity(s identity) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16
}

// cleanName checks the name of a pin: a relative path without dots.
func cleanName(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." || strings.Contains(name, tempMark) || len(name) > 255 {
		return "", fmt.Errorf("object: %q is not a name for a pin", name)
	}
	return name, nil
}

// lock keeps other processes from changing the directory until unlock is called.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("object: lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}
