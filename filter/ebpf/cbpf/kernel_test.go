package cbpf

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelSocket is a pair of sockets, the second of which filters.
type kernelSocket struct {
	t    *testing.T
	pair [2]int
}

func newKernelSocket(t *testing.T) *kernelSocket {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no unix sockets: %v", err)
	}
	k := &kernelSocket{t, pair}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	return k
}

// attach asks the kernel for its verdict on a filter.
func (k *kernelSocket) attach(insns []Insn) error {
	fp := unix.SockFprog{Len: uint16(len(insns)), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(insns)))}
	return unix.SetsockoptSockFprog(k.pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fp)
}

// keep sends a datagram through the filter and returns what is left of it.
func (k *kernelSocket) keep(data []byte) int {
	if _, err := unix.Write(k.pair[0], data); err != nil && !errors.Is(err, unix.EPERM) {
		k.t.Fatal(err)
	}
	buf := make([]byte, len(data)+1)
	n, err := unix.Read(k.pair[1], buf)
	if errors.Is(err, unix.EAGAIN) {
		return 0
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}

// randomInsn makes an instruction that is mostly sensible.
func randomInsn(r *rand.Rand, behind int) Insn {
	codes := []uint16{}
	for code, ok := range allowed {
		if ok {
			codes = append(codes, uint16(code))
		}
	}
	i := Insn{Code: codes[r.IntN(len(codes))], K: uint32(r.IntN(40))}
	switch r.IntN(60) {
	case 0:
		i.Code = uint16(r.IntN(256))
	case 1:
		i.K = r.Uint32()
	case 2:
		i.Code |= uint16(r.IntN(4)) << 8
	}
	if r.IntN(4) == 0 {
		i.K = []uint32{0, 1, 15, 16, 31, 32, 255, 1 << 31, ^uint32(0), ADOffset + ADAluXorX, LLOffset}[r.IntN(11)]
	}
	if i.Code&7 == ClassJMP && behind > 0 {
		if i.Code == ClassJMP|JmpA {
			i.K = uint32(r.IntN(behind + behind/8 + 1))
		}
		i.JT, i.JF = uint8(r.IntN(min(behind+1, 200))), uint8(r.IntN(min(behind+1, 200)))
	}
	return i
}

// comparable reports whether a filter only asks for what both sides know alike:
// not for what a socket is.
func comparable(insns []Insn) bool {
	for _, i := range insns {
		what, ok := ancillary(i.K)
		if i.Code&7 > ClassLDX || i.K < LLOffset || ok && i.Code&0xe0 == ModeAbs && what == ADAluXorX {
			continue
		}
		return false
	}
	return true
}

// TestKernelFilters gives random filters to the running kernel and to us: both must
// agree on whether they are filters, and on what they keep.
func TestKernelFilters(t *testing.T) {
	k := newKernelSocket(t)
	r := rand.New(rand.NewPCG(3, 4))
	accepted, ran := 0, 0
	for range 60000 {
		insns := make([]Insn, 1+r.IntN(24))
		for n := range insns {
			insns[n] = randomInsn(r, len(insns)-n-1)
		}
		if r.IntN(10) > 0 {
			insns[len(insns)-1] = Insn{Code: ClassRET | uint16(r.IntN(2))*RetA, K: uint32(r.IntN(100))}
		}
		f, err := New(insns)
		kerr := k.attach(insns)
		if (err == nil) != (kerr == nil) {
			t.Fatalf("%v: we say %v, the kernel %v", insns, err, kerr)
		}
		if err != nil {
			if !errors.Is(err, syscall.EINVAL) || !errors.Is(kerr, syscall.EINVAL) {
				t.Fatalf("%v: we say %v, the kernel %v", insns, err, kerr)
			}
			continue
		}
		accepted++
		if !comparable(insns) {
			continue
		}
		for range 3 {
			data := make([]byte, 1+r.IntN(60))
			for n := range data {
				data[n] = byte(r.Uint32())
			}
			ran++
			if got, want := f.Keep(data, nil), k.keep(data); got != want {
				t.Fatalf("%v over %x: we keep %d, the kernel %d", insns, data, got, want)
			}
		}
	}
	t.Logf("%d filters accepted by both, %d runs", accepted, ran)
}
