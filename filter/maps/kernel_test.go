package maps

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelMap is a map of the running kernel, driven by bpf(2).
type kernelMap int

type createAttr struct {
	typ, key, value, max, flags, inner, numa uint32
	name                                     [16]byte
	ifindex, btf, btfKey, btfValue, btfVm    uint32
	extra                                    uint64
}

type elemAttr struct {
	fd    uint32
	_     uint32
	key   unsafe.Pointer
	value unsafe.Pointer
	flags uint64
}

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (int, syscall.Errno) {
	r, _, e := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
	return int(r), e
}

func kernelCreate(s *Spec, inner kernelMap) (kernelMap, syscall.Errno) {
	a := createAttr{
		typ: uint32(s.Type), key: s.KeySize, value: s.ValueSize, max: s.MaxEntries,
		flags: s.Flags, extra: s.Extra, inner: uint32(inner),
	}
	fd, e := bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return kernelMap(fd), e
}

func (k kernelMap) close() { unix.Close(int(k)) }

func (k kernelMap) elem(cmd int, key, value []byte, flags uint64) syscall.Errno {
	a := elemAttr{fd: uint32(k), key: unsafe.Pointer(unsafe.SliceData(key)), value: unsafe.Pointer(unsafe.SliceData(value)), flags: flags}
	_, e := bpf(cmd, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return e
}

// needKernel skips without the right to use bpf(2).
func needKernel(t *testing.T) {
	t.Helper()
	k, e := kernelCreate(&Spec{Type: Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}, 0)
	if e != 0 {
		t.Skipf("bpf(2) is not available: %v", e)
	}
	k.close()
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err != nil || bytes.Compare(b, []byte("6.12")) < 0 || b[0] != '6' {
		t.Skipf("kernel %s: its errno differ from 6.18's in places", bytes.TrimSpace(b))
	}
}

// TestKernelCreate asks the running kernel for maps of all kinds of shapes and
// compares the verdicts.
func TestKernelCreate(t *testing.T) {
	needKernel(t)
	sizes := []uint32{0, 1, 3, 4, 5, 7, 8, 12, 16, 32, 64, 127, 260, 261, 512, 1016, 1024, 32768, 32769, 1 << 20, 4<<20 - 60, 4 << 20, 4<<20 + 1}
	entries := []uint32{0, 1, 2, 3, 1000, 4096, 8192, 12288, 1 << 16, 1 << 27, 1<<27 + 1, 1 << 31, 1<<31 + 1, ^uint32(0)}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from []uint32) uint32 { return from[r.IntN(len(from))] }
	differ := map[string]int{}
	n := 0
	for typ := Unspec; typ <= Arena+2; typ++ {
		if typ.OfMaps() {
			continue
		}
		for range 150 {
			s := Spec{Type: typ, KeySize: pick(sizes), ValueSize: pick(sizes), MaxEntries: pick(entries)}
			if r.IntN(3) > 0 {
				s.KeySize = pick([]uint32{0, 4, 4, 8})
			}
			if r.IntN(3) > 0 {
				s.ValueSize = pick([]uint32{0, 4, 4, 8})
			}
			if typ == LPMTrie {
				s.Flags = NoPrealloc
			}
			for range r.IntN(3) {
				s.Flags ^= 1 << r.IntN(14)
			}
			if r.IntN(8) == 0 {
				s.Extra = uint64(r.IntN(20))
			}
			// Shapes that would make the kernel set memory aside in earnest.
			if uint64(s.MaxEntries)*uint64(s.KeySize+s.ValueSize+64) > 16<<20 {
				if s.Type != Hash || s.MaxEntries <= 1<<27 {
					continue
				}
			}
			want := kernelVerdict(&s)
			m, err := New(s)
			if err == nil {
				m.Close()
			}
			n++
			if got := errnoName(err); got != want {
				key := fmt.Sprintf("%v: kernel %q, we %q", s.Type, want, got)
				if differ[key]++; differ[key] <= 2 && !allowedVerdict(key) {
					t.Logf("%s: %+v (%v)", key, s, err)
				}
			}
		}
	}
	for d, n := range differ {
		if !allowedVerdict(d) {
			t.Errorf("%d times %s", n, d)
		}
	}
	t.Logf("%d creations compared", n)
}

func kernelVerdict(s *Spec) string {
	k, e := kernelCreate(s, 0)
	if e == 0 {
		k.close()
		return ""
	}
	return errnoName(e)
}

// allowedVerdict knows the differences that are meant: types that taproom refuses,
// and the kernel's build-time number of processors.
func allowedVerdict(d string) bool {
	for typ := range Type(len(typeNames)) {
		if makers[typ] == nil && strings.HasPrefix(d, typ.String()+":") {
			return true
		}
	}
	return d == `cpumap: kernel "E2BIG", we ""`
}

// TestKernelCommands runs random commands on the running kernel's maps and on ours.
func TestKernelCommands(t *testing.T) {
	needKernel(t)
	cases := []Spec{
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 8},
		{Type: Hash, KeySize: 3, ValueSize: 3, MaxEntries: 8, Flags: NoPrealloc},
		{Type: Hash, KeySize: 9, ValueSize: 1, MaxEntries: 16, Flags: WrOnly},
		{Type: Array, KeySize: 4, ValueSize: 3, MaxEntries: 5},
		{Type: Array, KeySize: 4, ValueSize: 8, MaxEntries: 5, Flags: RdOnly},
		{Type: PerCPUArray, KeySize: 4, ValueSize: 5, MaxEntries: 4},
		{Type: PerCPUHash, KeySize: 4, ValueSize: 12, MaxEntries: 6},
		{Type: PerCPUHash, KeySize: 4, ValueSize: 12, MaxEntries: 6, Flags: NoPrealloc},
		{Type: LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 64},
		{Type: LRUPerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 64},
		{Type: LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 4},
		{Type: LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 18},
		{Type: LRUPerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 9},
		{Type: LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: 24, Flags: NoPrealloc},
		{Type: LPMTrie, KeySize: 6, ValueSize: 3, MaxEntries: 12, Flags: NoPrealloc},
		{Type: LPMTrie, KeySize: 20, ValueSize: 4, MaxEntries: 100, Flags: NoPrealloc},
		{Type: Queue, ValueSize: 4, MaxEntries: 5},
		{Type: Stack, ValueSize: 7, MaxEntries: 5},
		{Type: ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: PerfEventArray, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: CGroupArray, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: StackTrace, KeySize: 4, ValueSize: 16, MaxEntries: 4},
		{Type: RingBuf, MaxEntries: 4096},
		{Type: DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: DevMap, KeySize: 4, ValueSize: 8, MaxEntries: 4},
		{Type: DevMapHash, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: DevMapHash, KeySize: 4, ValueSize: 8, MaxEntries: 4},
		{Type: CPUMap, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4},
		{Type: BloomFilter, ValueSize: 4, MaxEntries: 100},
		{Type: Queue, ValueSize: 4, MaxEntries: 5, Flags: RdOnly},
		{Type: Stack, ValueSize: 4, MaxEntries: 5, Flags: WrOnly},
		{Type: LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: 24, Flags: NoPrealloc | RdOnly},
		{Type: LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: 24, Flags: NoPrealloc | WrOnly},
		{Type: PerCPUArray, KeySize: 4, ValueSize: 4, MaxEntries: 4, Flags: RdOnly},
		{Type: LRUHash, KeySize: 4, ValueSize: 4, MaxEntries: 4, Flags: WrOnly},
		{Type: BloomFilter, ValueSize: 4, MaxEntries: 100, Flags: WrOnly},
		{Type: BloomFilter, ValueSize: 4, MaxEntries: 100, Flags: RdOnly, Extra: 3},
		{Type: DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 4, Flags: RdOnly},
		{Type: StackTrace, KeySize: 4, ValueSize: 8, MaxEntries: 4, Flags: WrOnly},
		{Type: XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4, Flags: WrOnly},
	}
	for n, s := range cases {
		t.Run(fmt.Sprintf("%d_%v", n, s.Type), func(t *testing.T) {
			stayOnCPU(t) // LRU maps have a stock for each
			for seed := range uint64(10) {
				compareCommands(t, s, seed)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// stayOnCPU ties the test to the processor that it runs on.
func stayOnCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Skip(err)
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Skip(err)
	}
}

func compareCommands(t *testing.T, s Spec, seed uint64) {
	k, e := kernelCreate(&s, 0)
	if e != 0 {
		t.Skipf("kernel has no such map: %v", e)
	}
	defer k.close()
	s.Interface = func(i uint32) bool { _, err := net.InterfaceByIndex(int(i)); return err == nil }
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	r := rand.New(rand.NewPCG(seed, 7))
	ordered := s.Type != Hash && s.Type != PerCPUHash && s.Type != LRUHash && s.Type != LRUPerCPUHash && s.Type != DevMapHash
	for n := range 500 {
		key := randomKey(r, &s)
		value := make([]byte, m.UserValueSize())
		for i := range value {
			value[i] = byte(r.Uint32())
		}
		if s.Type == DevMap || s.Type == DevMapHash || s.Type == CPUMap {
			clear(value)
			value[0] = byte(r.IntN(3))
			if len(value) == 8 && r.IntN(4) == 0 {
				value[4] = 200
				value[7] = byte(r.IntN(2) * 255)
			}
		}
		if s.Type.PerCPU() {
			// The kernel keeps the padding out.
			each := int(round8(s.ValueSize))
			for c := 0; c < len(value); c += each {
				clear(value[c+int(s.ValueSize) : c+each])
			}
		}
		var flags uint64
		if r.IntN(2) == 0 {
			flags = uint64(r.IntN(10))
		}
		var got error
		var want syscall.Errno
		have, out := make([]byte, len(value)), make([]byte, len(value))
		op := r.IntN(10)
		switch {
		case r.IntN(300) == 0:
			got, want = m.Freeze(), k.elem(unix.BPF_MAP_FREEZE, nil, nil, 0)
		case op < 4:
			got, want = m.Update(key, value, flags), k.elem(unix.BPF_MAP_UPDATE_ELEM, key, value, flags)
		case op < 6:
			if s.Type == BloomFilter {
				copy(have, value)
				copy(out, value)
			}
			got, want = m.LookupInto(key, have, flags), k.elem(unix.BPF_MAP_LOOKUP_ELEM, key, out, flags)
		case op < 7:
			got, want = m.Delete(key), k.elem(unix.BPF_MAP_DELETE_ELEM, key, nil, 0)
		case op < 8:
			var b []byte
			b, got = m.LookupAndDelete(key, flags)
			want = k.elem(unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, out, flags)
			copy(have, b)
		default:
			if r.IntN(8) == 0 {
				key = nil
			}
			var b []byte
			b, got = m.NextKey(key)
			out = make([]byte, s.KeySize)
			want = k.elem(unix.BPF_MAP_GET_NEXT_KEY, key, out, 0)
			have = append([]byte(nil), b...)
			if !ordered || b == nil {
				have = out
			}
			if !ordered {
				got, want = nil, 0
			}
		}
		if s.Type == BloomFilter && op >= 4 && op < 6 && flags == 0 {
			continue // each side has its own false positives
		}
		if errnoName(got) != errnoName(want) && !(want == 0 && got == nil) {
			t.Fatalf("%v seed %d step %d op %d key %x value %x flags %d: kernel %q, we %q", s.Type, seed, n, op, key, value, flags, errnoName(want), errnoName(got))
		}
		if want == 0 && !bytes.Equal(have, out) {
			t.Fatalf("%v seed %d step %d op %d key %x flags %d: kernel %x, we %x", s.Type, seed, n, op, key, flags, out, have)
		}
	}
}

func randomKey(r *rand.Rand, s *Spec) []byte {
	if s.KeySize == 0 {
		return nil
	}
	key := make([]byte, s.KeySize)
	switch {
	case s.Type == LPMTrie:
		bits := int(s.KeySize-4) * 8
		key[0] = byte(r.IntN(bits + 2))
		for i := range key[4:] {
			key[4+i] = []byte{0, 0x80, 0x81, 0xff, 0x0a}[r.IntN(5)]
		}
	default:
		key[0] = byte(r.IntN(int(min(s.MaxEntries, 24)) + 2))
	}
	return key
}
