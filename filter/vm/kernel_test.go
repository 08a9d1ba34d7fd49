package vm

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"taproom/filter/ebpf"

	"golang.org/x/sys/unix"
)

// kernelProg is a program in the running kernel.
type kernelProg int

// errNoKernel says that there is no bpf(2) here to compare with.
var errNoKernel = errors.New("no bpf(2) here")

// loadKernel loads raw instructions.
func loadKernel(typ ebpf.ProgType, insns []ebpf.Insn) (kernelProg, error) {
	raw, license := ebpf.Encode(insns), []byte("GPL\x00")
	attr := struct {
		typ, count     uint32
		insns, license uint64
		_              [104]byte
	}{typ: uint32(typ), count: uint32(len(insns)), insns: addressOf(raw), license: addressOf(license)}
	var fd uintptr
	e := unix.EAGAIN // also the answer when a signal came while the kernel was verifying
	for tries := 0; e == unix.EAGAIN && tries < 100; tries++ {
		fd, _, e = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	}
	runtime.KeepAlive(raw)
	runtime.KeepAlive(license)
	switch e {
	case 0:
		return kernelProg(fd), nil
	case unix.EPERM, unix.ENOSYS:
		return 0, errNoKernel
	}
	return 0, e
}

func (k kernelProg) close() { unix.Close(int(k)) }

// run is BPF_PROG_TEST_RUN: the program's result and the packet afterwards.
func (k kernelProg) run(t testing.TB, in []byte) (uint32, []byte) {
	t.Helper()
	out := make([]byte, 1<<17)
	attr := struct {
		fd, ret, sizeIn, sizeOut uint32
		in, out                  uint64
		repeat, duration         uint32
		_                        [40]byte
	}{fd: uint32(k), sizeIn: uint32(len(in)), sizeOut: uint32(len(out)), in: addressOf(in), out: addressOf(out)}
	_, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(in)
	if e != 0 {
		t.Fatalf("BPF_PROG_TEST_RUN: %v", e)
	}
	return attr.ret, out[:attr.sizeOut]
}
