//go:build linux

package verifier

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"taproom/filter/ebpf"
	"taproom/filter/maps"

	"golang.org/x/sys/unix"
)

// kernel asks the running kernel's verifier.
type kernel struct {
	t   testing.TB
	fds []int32
}

type loadAttr struct {
	progType, insnCnt uint32
	insns, license    uint64
	logLevel, logSize uint32
	logBuf            uint64
	version, flags    uint32
	name              [16]byte
	ifindex, attach   uint32
	_                 [80]byte
}

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (int, unix.Errno) {
	fd, _, e := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
	return int(fd), e
}

func newKernel(t testing.TB, specs []maps.Spec) *kernel {
	k := &kernel{t: t}
	for _, s := range specs {
		attr := struct{ typ, key, value, entries, flags uint32 }{uint32(s.Type), s.KeySize, s.ValueSize, s.MaxEntries, s.Flags}
		fd, e := bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		if e != 0 {
			t.Skipf("no bpf(2) here to compare with (BPF_MAP_CREATE: %v)", e)
		}
		k.fds = append(k.fds, int32(fd))
		t.Cleanup(func() { unix.Close(fd) })
	}
	var u unix.Utsname
	unix.Uname(&u)
	if r := unix.ByteSliceToString(u.Release[:]); !strings.HasPrefix(r, "6.18") {
		t.Skipf("kernel %s; the rules are those of 6.18", r)
	}
	return k
}

// load returns whether the kernel accepts the program, and its log if asked.
func (k *kernel) load(typ ebpf.ProgType, insns []ebpf.Insn, logLevel uint32) (bool, string) {
	insns = append([]ebpf.Insn(nil), insns...)
	for i := range insns {
		in := &insns[i]
		if in.IsWide() && (in.Src() == ebpf.PseudoMap || in.Src() == ebpf.PseudoMapValue) {
			if uint32(in.Imm) < uint32(len(k.fds)) {
				in.Imm = k.fds[in.Imm]
			} else {
				in.Imm = 1 << 20
			}
		}
	}
	raw := ebpf.Encode(insns)
	if len(raw) == 0 {
		return false, ""
	}
	license := []byte("GPL\x00")
	attr := loadAttr{progType: uint32(typ), insnCnt: uint32(len(insns)),
		insns: uint64(uintptr(unsafe.Pointer(&raw[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	if typ == ebpf.Netfilter {
		attr.attach = ebpf.AttachNetfilter
	}
	var log []byte
	if logLevel > 0 {
		log = make([]byte, 1<<20)
		attr.logLevel, attr.logSize, attr.logBuf = logLevel, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0])))
	}
	fd, e := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	for e == unix.EAGAIN {
		// A signal of the Go runtime interrupted the kernel's verifier.
		fd, e = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	if e == 0 {
		unix.Close(fd)
	}
	text, _, _ := bytes.Cut(log, []byte{0})
	if e == unix.EPERM {
		k.t.Skip("BPF_PROG_LOAD is not permitted")
	}
	if e != 0 && logLevel > 0 {
		text = fmt.Appendf(text, "errno %d", e)
	}
	return e == 0, string(text)
}

// TestKernelAgrees compares verdicts on random programs with the running
// kernel's. Refusing what it accepts is a shortcoming, accepting what it refuses
// a hole, unless the reason is listed.
func TestKernelAgrees(t *testing.T) {
	// A program array takes programs of one type: each type has maps of its own.
	types := []ebpf.ProgType{ebpf.SchedCLS, ebpf.SchedCLS, ebpf.SchedCLS, ebpf.XDP, ebpf.SocketFilter, ebpf.Netfilter}
	kernels := map[ebpf.ProgType]*kernel{}
	for _, typ := range types {
		kernels[typ] = newKernel(t, testMaps)
	}
	ours := liveMaps(t, testMaps)
	n, seed := setting("VERIFIER_PROGRAMS", 600), setting("VERIFIER_SEED", 1)
	verbose := os.Getenv("VERIFIER_VERBOSE") != ""
	accepted, strict, wide := 0, 0, 0
	for i := range n {
		rng := rand.New(rand.NewPCG(seed, i))
		typ := types[rng.IntN(len(types))]
		k := kernels[typ]
		insns := generate(rng, typ)
		if rng.IntN(4) == 0 {
			mutate(rng, insns)
		}
		p := &ebpf.Program{Type: typ, License: "GPL", Insns: insns, Maps: ours, Funcs: []ebpf.Func{{}}}
		begin := time.Now()
		res, err := Verify(p, Options{})
		if d := time.Since(begin); verbose && d > 300*time.Millisecond {
			t.Logf("program %d: %v %v %+v", i, d, err, res != nil)
		}
		yes, _ := k.load(typ, insns, 0)
		if yes {
			accepted++
		}
		if yes == (err == nil) {
			continue
		}
		if yes {
			strict++
			if verbose {
				t.Logf("program %d (%v): stricter: %v", i, typ, err)
			}
			continue
		}
		_, log := k.load(typ, insns, 1)
		if why := widerThanKernel(log); why != "" {
			if verbose {
				t.Logf("program %d: wider: %s", i, why)
			}
			wide++
			continue
		}
		tail := log
		if len(tail) > 3000 {
			tail = tail[len(tail)-3000:]
		}
		t.Errorf("program %d (%v): we accept, the kernel refuses:\n%s", i, typ, tail)
	}
	t.Logf("kernel: %d programs, %d accepted by it, %d refused by us alone, %d accepted by us alone", n, accepted, strict, wide)
	if strict*50 > accepted {
		t.Errorf("more than 2 %% of the accepted programs are refused")
	}
}

// widerThanKernel names the reasons for which we may accept what the kernel
// refuses, by its message. They are about its patience, not about safety: we
// prune better in places.
func widerThanKernel(log string) string {
	for _, m := range []string{"BPF program is too large", "jumps is too complex"} {
		if strings.Contains(log, m) {
			return m
		}
	}
	return ""
}
