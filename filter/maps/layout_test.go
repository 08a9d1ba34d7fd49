package maps

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// at reads memory as native code would.
func at[T any](addr uintptr) T {
	// The address lies in a mapping, outside the Go heap.
	return *(*T)(*(*unsafe.Pointer)(unsafe.Pointer(&addr)))
}

// TestLayouts finds elements by nothing but the documented layout.
func TestLayouts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range []Spec{
		{Type: Array, KeySize: 4, ValueSize: 5, MaxEntries: 10},
		{Type: PerCPUArray, KeySize: 4, ValueSize: 12, MaxEntries: 10, CPUs: 3},
		{Type: Hash, KeySize: 4, ValueSize: 8, MaxEntries: 30},
		{Type: Hash, KeySize: 7, ValueSize: 3, MaxEntries: 30, Flags: NoPrealloc},
		{Type: Hash, KeySize: 8, ValueSize: 3, MaxEntries: 30},
		{Type: Hash, KeySize: 13, ValueSize: 8, MaxEntries: 30},
		{Type: Hash, KeySize: 16, ValueSize: 8, MaxEntries: 30},
		{Type: Hash, KeySize: 40, ValueSize: 24, MaxEntries: 30},
		{Type: LRUHash, KeySize: 20, ValueSize: 8, MaxEntries: 30},
		{Type: PerCPUHash, KeySize: 4, ValueSize: 20, MaxEntries: 30, CPUs: 3},
		{Type: LRUPerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 30, CPUs: 3},
		{Type: LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 60, Flags: NoPrealloc},
		{Type: LPMTrie, KeySize: 20, ValueSize: 4, MaxEntries: 60, Flags: NoPrealloc},
		{Type: LPMTrie, KeySize: 7, ValueSize: 4, MaxEntries: 60, Flags: NoPrealloc},
	} {
		if s.CPUs == 0 {
			s.CPUs = 2
		}
		m := mustNew(t, s)
		for range 200 {
			key := randomKey(r, &s)
			if s.Type == LPMTrie {
				key[0] = max(key[0], byte(m.Layout().LPM.RootBits))
			}
			value := make([]byte, s.ValueSize)
			for n := range value {
				value[n] = byte(r.Uint32())
			}
			m.Set(key, value, 0, r.IntN(s.CPUs))
			key = randomKey(r, &s)
			if s.Type == LPMTrie {
				key[0] = max(key[0], byte(m.Layout().LPM.RootBits))
			}
			cpu := r.IntN(s.CPUs)
			want, ok := m.Elem(key, cpu)
			addr := walk(m.Layout(), key, uint64(m.KeySize()))
			if (addr != 0) != ok {
				t.Fatalf("%v key %x: address %#x, element %v", s.Type, key, addr, ok)
			}
			if !ok {
				continue
			}
			addr += uintptr(cpu) * m.Layout().CPUStride
			if addr != uintptr(unsafe.Pointer(&want[0])) {
				t.Fatalf("%v key %x cpu %d: value at %#x, not at %p", s.Type, key, cpu, addr, &want[0])
			}
		}
	}
}

func walk(l Layout, key []byte, size uint64) uintptr {
	switch l.Kind {
	case LayoutArray:
		if i := binary.LittleEndian.Uint32(key); i < l.Entries {
			return l.Base + uintptr(i)*l.Stride
		}
	case LayoutHash:
		return walkHash(l, key)
	case LayoutLPM:
		return walkLPM(l, key)
	}
	return 0
}

func walkHash(l Layout, key []byte) uintptr {
	padded := append(bytes.Clone(key), make([]byte, 16-len(key)%16)...)
	h := l.Seed[0]
	for n := 0; n < len(key); n += 16 {
		h = fold(binary.LittleEndian.Uint64(padded[n:])^l.Seed[1], binary.LittleEndian.Uint64(padded[n+8:])^h)
	}
	if len(key) > 8 {
		h = fold(h^l.Seed[2], l.Seed[3])
	}
	b := uint32(h) & l.BucketMask
	link := at[uint32](l.Buckets + uintptr(b)*4)
	for link>>31 == 0 {
		e := l.Base + uintptr(link)*8
		same := true
		for n := 0; n < len(key); n++ {
			same = same && at[byte](e+l.KeyOff+uintptr(n)) == key[n]
		}
		if same {
			return e + l.ValueOff
		}
		link = at[uint32](e)
	}
	if link != 1<<31|b {
		panic("chain ends elsewhere")
	}
	return 0
}

func walkLPM(l Layout, key []byte) uintptr {
	n := binary.LittleEndian.Uint32(key)
	data := make([]byte, (l.LPM.DataSize+7)&^7)
	copy(data, key[4:])
	max := l.LPM.DataSize * 8
	if n > max {
		return 0
	}
	if at[uint32](l.Seq)&1 != 0 {
		panic("being changed")
	}
	first := binary.BigEndian.Uint64(data) >> (64 - l.LPM.RootBits)
	entry := l.LPM.Roots + uintptr(first)*8
	link, best := at[uint32](entry), at[uint32](entry+4)
	for link != 0 {
		node := l.Base + uintptr(link)*8
		plen := at[uint32](node + 8)
		if plen > n {
			break
		}
		same := true
		for bit := range plen {
			have := at[uint64](node+16+uintptr(bit/64*8)) >> (63 - bit%64) & 1
			same = same && have == uint64(data[bit/8]>>(7-bit%8)&1)
		}
		if !same {
			break
		}
		if at[uint32](node+12) != 0 {
			best = link
		}
		if plen == max {
			break
		}
		link = at[uint32](node + 4*uintptr(data[plen/8]>>(7-plen%8)&1))
	}
	if best == 0 {
		return 0
	}
	return l.Base + uintptr(best)*8 + l.ValueOff
}
