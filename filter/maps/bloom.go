package maps

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// bloom is the store of BloomFilter: a set of bits that hash functions choose.
type bloom struct {
	seeds seeds
	words []uint64 // in the map's region
	mask  uint32
	n     int // hash functions
}

// bloomDefault is the number of hash functions when map_extra gives none.
const bloomDefault = 5

func newBloom(m *Map) (store, error) {
	s := &m.spec
	b := &bloom{n: int(s.Extra & 0xf), seeds: newSeeds(s.Flags&ZeroSeed != 0)}
	if b.n == 0 {
		b.n = bloomDefault
	}
	// n functions fill half of the bits of an optimal filter: entries * n / ln 2
	// bits, rounded up to a power of two.
	want := min(uint64(s.MaxEntries)*uint64(b.n)*7/5, 1<<31)
	size := max(pow2(uint32(want)), 64)
	b.mask = size - 1
	r, err := m.alloc(uint64(size)/8, true)
	if err != nil {
		return nil, err
	}
	b.words = unsafe.Slice((*uint64)(r.base), size/64)
	return b, nil
}

// bit returns the position that hash function f gives a value.
func (b *bloom) bit(sum uint64, f int) uint32 {
	return (uint32(sum) + uint32(f)*(uint32(sum>>32)|1)) & b.mask
}

func (b *bloom) elem([]byte, int) []byte { return nil }

func (b *bloom) set(_, v []byte, flags uint64, _ int) syscall.Errno {
	if flags != UpdateAny {
		return syscall.EINVAL
	}
	sum := b.seeds.hash(v)
	for f := range b.n {
		i := b.bit(sum, f)
		atomic.OrUint64(&b.words[i/64], 1<<(i%64))
	}
	return 0
}

func (b *bloom) view(_, v []byte) syscall.Errno {
	sum := b.seeds.hash(v)
	for f := range b.n {
		if i := b.bit(sum, f); atomic.LoadUint64(&b.words[i/64])>>(i%64)&1 == 0 {
			return syscall.ENOENT
		}
	}
	return 0
}

func (b *bloom) unset([]byte) syscall.Errno     { return syscall.EOPNOTSUPP }
func (b *bloom) next(_, _ []byte) syscall.Errno { return syscall.EOPNOTSUPP }
