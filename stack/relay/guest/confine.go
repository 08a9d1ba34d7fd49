package guest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confinement says what Confine takes away. The zero value takes all but the
// ability to gain privileges.
type Confinement struct {
	// BindPorts keeps CAP_NET_BIND_SERVICE: forwards may be added on ports
	// below 1024 where this process is privileged.
	BindPorts bool
	// Seccomp refuses system calls that no relay needs.
	Seccomp bool
	// Files, if not nil, are the only files and folders that may be read from
	// then on, and nothing may be written (Landlock, Linux 5.13).
	Files []string
}

// Confine gives up what a relay does not need any more after its set-up: all
// capabilities, and whatever c says. It is for the whole process and for good.
// What the kernel does not have is left out, and named in the error.
func Confine(c Confinement) error {
	var errs []error
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		errs = append(errs, fmt.Errorf("guest: no_new_privs: %w", e))
	}
	if c.Files != nil {
		errs = append(errs, landlock(c.Files))
	}
	errs = append(errs, dropCapabilities(c.BindPorts))
	if c.Seccomp {
		errs = append(errs, seccomp())
	}
	return errors.Join(errs...)
}

func dropCapabilities(keepBind bool) error {
	var keep uint32
	if keepBind {
		keep = 1 << unix.CAP_NET_BIND_SERVICE
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&head, &have[0]); err != nil {
		return fmt.Errorf("guest: capget: %w", err)
	}
	for n := uintptr(0); n <= unix.CAP_LAST_CAP; n++ {
		if keep>>n&1 == 0 && have[0].Effective>>unix.CAP_SETPCAP&1 != 0 { // needs CAP_SETPCAP
			_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0)
		}
	}
	_, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	keep &= have[0].Permitted
	set := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	head.Pid = 0
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&set[0])), 0)
	runtime.KeepAlive(&set)
	if e != 0 {
		return fmt.Errorf("guest: capset: %w", e)
	}
	return nil
}

// landlock leaves only reading of the given files and what is below them.
func landlock(files []string) error {
	const all = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all}
	r, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
	if e != 0 {
		return fmt.Errorf("guest: landlock: %w", e)
	}
	fd := int(r)
	defer unix.Close(fd)
	for _, f := range files {
		path, err := os.OpenFile(f, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // what is not there cannot be read
		}
		allowed := uint64(unix.LANDLOCK_ACCESS_FS_READ_FILE)
		if st, err := path.Stat(); err == nil && st.IsDir() {
			allowed |= unix.LANDLOCK_ACCESS_FS_READ_DIR
		}
		rule := unix.LandlockPathBeneathAttr{Allowed_access: allowed, Parent_fd: int32(path.Fd())}
		_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		_ = path.Close()
		if e != 0 {
			return fmt.Errorf("guest: landlock: %s: %w", f, e)
		}
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); e != 0 {
		return fmt.Errorf("guest: landlock: %w", e)
	}
	return nil
}
