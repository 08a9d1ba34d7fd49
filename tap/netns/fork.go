package netns

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Entering a user namespace is allowed to single-threaded processes only
// (user_namespaces(7)), and a Go program has threads before its first line
// runs. What is single-threaded is a child between fork and exec. Package
// syscall has no setns there, so this file forks by hand, with the hooks of
// the runtime that package syscall uses (and that are kept for gVisor, which
// does the same).

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// The stages of a child that can fail, as it reports them.
const (
	stageUser = 1 + iota
	stageNet
	stageExec
)

var stageNames = [...]string{stageUser: "enter the user namespace", stageNet: "enter the network namespace", stageExec: "start"}

// inside is all that the child needs, prepared before the fork because it
// cannot allocate after.
type inside struct {
	user, net int   // namespaces to enter; user is -1 for none
	ctl       int   // becomes descriptor 3; -1 for none
	report    int   // where a failure is written: stage and errno, one byte each
	argv0     *byte // the program
	argv, env **byte
	leash     bool // killed when the calling thread dies
}

type (
	capHeader struct {
		version uint32
		pid     int32
	}
	capData [2]struct{ effective, permitted, inheritable uint32 }
)

const (
	capVersion3    = 0x20080522
	sysSetns       = 308
	cloneNewUser   = 0x10000000
	cloneNewNet    = 0x40000000
	prSetDeathSig  = 1
	prCapAmbient   = 47
	prAmbientRaise = 2
	lastCapability = 40
	controlFD      = 3
	fSetFD         = 2
)

// fork starts the program of c inside its namespaces and returns its process
// number. The caller reaps it.
//
//go:noinline
//go:norace
//go:nocheckptr
func fork(c *inside) (pid int, errno syscall.Errno) {
	var failure [2]byte
	var header capHeader
	var caps capData
	header.version = capVersion3

	syscall.ForkLock.Lock()
	runtimeBeforeFork()
	r, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || r != 0 {
		runtimeAfterFork()
		syscall.ForkLock.Unlock()
		return int(r), errno
	}

	// The child: a copy of one thread. No allocation, no locks, no growing
	// stack from here on.
	runtimeAfterForkInChild()
	if c.user >= 0 {
		if _, _, errno = syscall.RawSyscall(sysSetns, uintptr(c.user), cloneNewUser, 0); errno != 0 {
			failure[0] = stageUser
			goto fail
		}
	}
	if _, _, errno = syscall.RawSyscall(sysSetns, uintptr(c.net), cloneNewNet, 0); errno != 0 {
		failure[0] = stageNet
		goto fail
	}
	// Be root there if there is a root there. If not, keep the capabilities
	// over exec by making them ambient (capabilities(7)).
	syscall.RawSyscall(syscall.SYS_SETRESGID, 0, 0, 0)
	syscall.RawSyscall(syscall.SYS_SETRESUID, 0, 0, 0)
	if u, _, _ := syscall.RawSyscall(syscall.SYS_GETEUID, 0, 0, 0); u != 0 {
		syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps)), 0)
		caps[0].inheritable, caps[1].inheritable = caps[0].permitted, caps[1].permitted
		syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps)), 0)
		for i := uintptr(0); i <= lastCapability; i++ {
			syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, prAmbientRaise, i, 0, 0, 0)
		}
	}
	if c.leash { // after the identity has changed, which would undo it
		syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDeathSig, uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	}
	if c.ctl >= 0 {
		if c.ctl == controlFD {
			syscall.RawSyscall(syscall.SYS_FCNTL, controlFD, fSetFD, 0)
		} else {
			syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.ctl), controlFD, 0)
		}
	}
	_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(c.argv0)),
		uintptr(unsafe.Pointer(c.argv)), uintptr(unsafe.Pointer(c.env)))
	failure[0] = stageExec
fail:
	failure[1] = byte(errno)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(c.report), uintptr(unsafe.Pointer(&failure)), 2)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT, 126, 0, 0)
	}
}

// childFailure is the error that the two bytes of a failing child mean.
func childFailure(b []byte, program string) error {
	what := "start"
	if int(b[0]) < len(stageNames) && b[0] > 0 {
		what = stageNames[b[0]]
	}
	return fmt.Errorf("netns: cannot %s for %s: %w", what, program, syscall.Errno(b[1]))
}
