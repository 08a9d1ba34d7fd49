package maps

import (
	"fmt"
	"math/bits"
	"syscall"
)

// Limits of BPF_MAP_CREATE.
const (
	maxAlloc     = 4 << 20  // KMALLOC_MAX_SIZE: greatest size of one element
	maxPerCPU    = 32 << 10 // PCPU_MIN_UNIT_SIZE: greatest per-CPU value
	maxLPMData   = 256
	maxBuckets   = 1<<32/16 - 1 // U32_MAX / sizeof(struct bucket)
	maxStack     = 127          // kernel.perf_event_max_stack
	hashOverhead = 48           // sizeof(struct htab_elem): part of an element's size limit
	lpmOverhead  = 40           // sizeof(struct lpm_trie_node)
)

const accessFlags = RdOnly | WrOnly | RdOnlyProg | WrOnlyProg

// check applies the rules that BPF_MAP_CREATE applies, in its order.
func (s *Spec) check() error {
	no := func(e syscall.Errno, why string) error { return s.fail("create", e, why) }
	if s.Type == Unspec || int(s.Type) >= len(typeNames) {
		return no(syscall.EINVAL, "unknown map type")
	}
	rule := rules[s.Type]
	switch {
	case rule == nil:
		return no(syscall.EOPNOTSUPP, "map type "+s.Type.String()+" is not supported by taproom")
	case s.Flags&(RdOnly|WrOnly) == RdOnly|WrOnly:
		return no(syscall.EINVAL, "read-only and write-only at once")
	case s.Extra != 0 && s.Type != BloomFilter:
		return no(syscall.EINVAL, "map_extra is only for bloom filters")
	case !validName(s.Name):
		return no(syscall.EINVAL, fmt.Sprintf("name %q has characters other than letters, digits, _ and .", s.Name))
	}
	if e, why := rule(s); e != 0 {
		return no(e, why)
	}
	if s.Type.OfMaps() {
		if err := s.Inner.check(); err != nil {
			return no(syscall.EINVAL, err.Error())
		}
	}
	return s.checkFields()
}

func validName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// rules holds each supported type's own conditions.
var rules = map[Type]func(*Spec) (syscall.Errno, string){
	Array: arrayRule, PerCPUArray: arrayRule, ProgArray: fdArrayRule, PerfEventArray: fdArrayRule,
	CGroupArray: fdArrayRule, ArrayOfMaps: ofMapsRule, HashOfMaps: ofMapsRule,
	Hash: hashRule, PerCPUHash: hashRule, LRUHash: hashRule, LRUPerCPUHash: hashRule,
	LPMTrie: lpmRule, Queue: queueRule, Stack: queueRule, BloomFilter: bloomRule,
	RingBuf: ringRule, StackTrace: stackRule,
	DevMap: devRule, DevMapHash: devRule, CPUMap: cpuRule, XSKMap: xskRule,
}

func arrayRule(s *Spec) (syscall.Errno, string) {
	const allowed = NumaNode | Mmapable | accessFlags | PreserveElem | InnerMap
	percpu := s.Type == PerCPUArray
	switch {
	case s.MaxEntries == 0 || s.KeySize != 4 || s.ValueSize == 0:
		return syscall.EINVAL, "needs 4-byte keys, a value size and entries"
	case s.Flags&^allowed != 0 || !progAccessOK(s.Flags):
		return syscall.EINVAL, "flags"
	case percpu && s.Flags&NumaNode != 0:
		return syscall.EINVAL, "per-CPU map on a NUMA node"
	case s.Type != Array && s.Flags&(Mmapable|InnerMap) != 0:
		return syscall.EINVAL, "flags are only for plain arrays"
	case s.Type != PerfEventArray && s.Flags&PreserveElem != 0:
		return syscall.EINVAL, "flag is only for perf event arrays"
	case s.ValueSize > 1<<31-1:
		return syscall.E2BIG, "value size"
	case percpu && round8(s.ValueSize) > maxPerCPU:
		return syscall.E2BIG, "per-CPU value size"
	}
	return 0, ""
}

func fdArrayRule(s *Spec) (syscall.Errno, string) {
	switch {
	case s.ValueSize != 4:
		return syscall.EINVAL, "needs 4-byte values"
	case s.Flags&(RdOnlyProg|WrOnlyProg) != 0:
		return syscall.EINVAL, "access flags for programs"
	}
	return arrayRule(s)
}

func ofMapsRule(s *Spec) (syscall.Errno, string) {
	var e syscall.Errno
	var why string
	if s.Type == HashOfMaps {
		if s.ValueSize != 4 {
			return syscall.EINVAL, "needs 4-byte values"
		}
		e, why = hashRule(s)
	} else {
		e, why = fdArrayRule(s)
	}
	if e != 0 {
		return e, why
	}
	in := s.Inner
	switch {
	case in == nil:
		return syscall.EINVAL, "no inner map"
	case in.Type.OfMaps():
		return syscall.EINVAL, "inner map is a map of maps"
	case in.Type == ProgArray:
		return ENOTSUPP, "inner map type " + in.Type.String()
	}
	return 0, ""
}

func hashRule(s *Spec) (syscall.Errno, string) {
	const allowed = NoPrealloc | NoCommonLRU | NumaNode | accessFlags | ZeroSeed
	lru := s.Type == LRUHash || s.Type == LRUPerCPUHash
	switch {
	case s.Flags&^allowed != 0 || !progAccessOK(s.Flags):
		return syscall.EINVAL, "flags"
	case !lru && s.Flags&NoCommonLRU != 0:
		return syscall.EINVAL, "BPF_F_NO_COMMON_LRU on a map that is not LRU"
	case lru && s.Flags&NoPrealloc != 0:
		return ENOTSUPP, "BPF_F_NO_PREALLOC on an LRU map"
	case s.Flags&NumaNode != 0 && (s.Type.PerCPU() || s.Flags&NoCommonLRU != 0):
		return syscall.EINVAL, "per-CPU map on a NUMA node"
	case s.MaxEntries == 0 || s.KeySize == 0 || s.ValueSize == 0:
		return syscall.EINVAL, "needs a key size, a value size and entries"
	case uint64(s.KeySize)+uint64(s.ValueSize) >= maxAlloc-hashOverhead:
		return syscall.E2BIG, "element size"
	case s.Type.PerCPU() && round8(s.ValueSize) > maxPerCPU:
		return syscall.E2BIG, "per-CPU value size"
	case s.MaxEntries > 1<<31 || pow2(s.MaxEntries) > maxBuckets:
		return syscall.E2BIG, "too many entries"
	}
	return 0, ""
}

func lpmRule(s *Spec) (syscall.Errno, string) {
	const allowed = NoPrealloc | NumaNode | accessFlags
	switch {
	case s.MaxEntries == 0:
		return syscall.EINVAL, "needs entries"
	case s.Flags&NoPrealloc == 0:
		return syscall.EINVAL, "needs BPF_F_NO_PREALLOC"
	case s.Flags&^allowed != 0 || !progAccessOK(s.Flags):
		return syscall.EINVAL, "flags"
	case s.KeySize < 4+1 || s.KeySize > 4+maxLPMData:
		return syscall.EINVAL, "needs keys of 5 to 260 bytes"
	case s.ValueSize < 1 || s.ValueSize > maxAlloc-maxLPMData-lpmOverhead:
		return syscall.EINVAL, "value size"
	}
	return 0, ""
}

// progAccessOK is bpf_map_flags_access_ok: not both restrictions for programs.
func progAccessOK(flags uint32) bool {
	return flags&(RdOnlyProg|WrOnlyProg) != RdOnlyProg|WrOnlyProg
}

// pow2 rounds up to a power of two; n is at most 1<<31.
func pow2(n uint32) uint32 {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len32(n-1)
}
