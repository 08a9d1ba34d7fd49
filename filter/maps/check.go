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
	hashOverhead = 48 // sizeof(struct htab_elem): part of an element's size limit
	lpmOverhead  = 40 // sizeof(struct lpm_trie_node)
)

const accessFlags = RdOnly | WrOnly | RdOnlyProg | WrOnlyProg

func (s *Spec) fail(op string, err error, why string) error {
	name := s.Name
	if name == "" {
		name = s.Type.String()
	}
	e, ok := err.(syscall.Errno)
	if !ok {
		return fmt.Errorf("maps: %s %s: %w", op, name, err)
	}
	return &Error{Op: op, Map: name, Why: why, Errno: e}
}

func sizeText(what string, have, want int) string {
	return fmt.Sprintf("%s is %d bytes, not %d", what, have, want)
}

// check applies the rules that BPF_MAP_CREATE applies to each type, in its order.
func (s *Spec) check() error {
	no := func(e syscall.Errno, why string) error { return s.fail("create", e, why) }
	if both := s.Flags & (RdOnly | WrOnly); both == RdOnly|WrOnly {
		return no(syscall.EINVAL, "read-only and write-only at once")
	}
	rule, ok := rules[s.Type]
	if !ok {
		if s.Type == Unspec || int(s.Type) >= len(typeNames) {
			return no(syscall.EINVAL, "unknown map type")
		}
		return no(syscall.EOPNOTSUPP, "map type "+s.Type.String()+" is not supported by taproom")
	}
	if s.Extra != 0 && s.Type != BloomFilter {
		return no(syscall.EINVAL, "map_extra is only for bloom filters")
	}
	if e, why := rule(s); e != 0 {
		return no(e, why)
	}
	return s.checkFields()
}

// rules holds each supported type's own conditions.
var rules = map[Type]func(*Spec) (syscall.Errno, string){
	Array:       arrayRule,
	PerCPUArray: arrayRule,
}

func arrayRule(s *Spec) (syscall.Errno, string) {
	allowed := uint32(NumaNode | Mmapable | accessFlags | PreserveElem | InnerMap)
	percpu := s.Type == PerCPUArray
	switch {
	case s.MaxEntries == 0 || s.KeySize != 4 || s.ValueSize == 0:
		return syscall.EINVAL, "array needs 4-byte keys, values and entries"
	case s.Flags&^allowed != 0 || !progAccessOK(s.Flags):
		return syscall.EINVAL, "flags"
	case percpu && s.Flags&NumaNode != 0:
		return syscall.EINVAL, "per-CPU map on a NUMA node"
	case s.Type != Array && s.Flags&(Mmapable|InnerMap) != 0:
		return syscall.EINVAL, "flags are only for plain arrays"
	case s.ValueSize > 1<<31-1-8:
		return syscall.E2BIG, "value size"
	case percpu && round8(s.ValueSize) > maxPerCPU:
		return syscall.E2BIG, "per-CPU value size"
	}
	return 0, ""
}

// progAccessOK is bpf_map_flags_access_ok: not both restrictions for programs.
func progAccessOK(flags uint32) bool {
	return flags&(RdOnlyProg|WrOnlyProg) != RdOnlyProg|WrOnlyProg
}

// checkFields tests that special fields lie inside the value, aligned and apart.
func (s *Spec) checkFields() error {
	field := func(name string, off, size, align uint32) error {
		if off == 0 {
			return nil
		}
		if o := off - 1; o%align != 0 || uint64(o)+uint64(size) > uint64(s.ValueSize) {
			return s.fail("create", syscall.EINVAL, name+" lies outside the value or is misaligned")
		}
		return nil
	}
	if err := field("spin lock", s.SpinLock, 4, 4); err != nil {
		return err
	}
	return field("timer", s.Timer, 16, 8)
}

// userValueSize is bpf_map_value_size: what a lookup copies.
func (s *Spec) userValueSize() uint32 {
	switch s.Type {
	case PerCPUArray, PerCPUHash, LRUPerCPUHash:
		return round8(s.ValueSize) * uint32(s.CPUs)
	case ArrayOfMaps, HashOfMaps, ProgArray, PerfEventArray:
		return 4
	}
	return s.ValueSize
}

// pow2 rounds up to a power of two; n is at most 1<<31.
func pow2(n uint32) uint32 {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len32(n-1)
}
