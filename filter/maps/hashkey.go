package maps

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// seeds are the secrets of a hash map. They are random for each map, so that who
// chooses keys cannot choose buckets.
type seeds [4]uint64

func newSeeds(zero bool) seeds {
	// Without randomness (BPF_F_ZERO_SEED) still constants with many bits set: a
	// zero factor would make every product zero.
	s := seeds{0x9e3779b97f4a7c15, 0xd6e8feb86659fd93, 0xa0761d6478bd642f, 0xe7037ed1a0b428db}
	if !zero {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails
		for n := range s {
			s[n] ^= binary.LittleEndian.Uint64(b[8*n:])
		}
	}
	s[0] |= 1 // odd factors lose no low bits
	s[3] |= 1
	return s
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hash computes what Layout documents. Compiled programs compute the same.
func (s *seeds) hash(key []byte) uint64 {
	if len(key) <= 8 {
		return fold(word(key)^s[1], s[0])
	}
	h := s[0]
	for len(key) >= 16 {
		h = fold(binary.LittleEndian.Uint64(key)^s[1], binary.LittleEndian.Uint64(key[8:])^h)
		key = key[16:]
	}
	if len(key) > 8 {
		h = fold(binary.LittleEndian.Uint64(key)^s[1], word(key[8:])^h)
	} else if len(key) > 0 {
		h = fold(word(key)^s[1], h)
	}
	return fold(h^s[2], s[3])
}

// word reads up to 8 bytes as a little-endian number.
func word(b []byte) uint64 {
	switch len(b) {
	case 8:
		return binary.LittleEndian.Uint64(b)
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	var w uint64
	for n := min(len(b), 8) - 1; n >= 0; n-- {
		w = w<<8 | uint64(b[n])
	}
	return w
}
