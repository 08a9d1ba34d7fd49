package maps

import "github.com/cilium/ebpf/btf"

// KV is one initial element. Value is raw bytes, or for arrays and hashes of maps
// an inner map, or for program arrays a program.
type KV struct {
	Key   []byte
	Value []byte
	Map   *Map
	Prog  Prog
}

// Spec describes a map: the arguments of BPF_MAP_CREATE and what an object file
// says beyond them. The zero value of optional fields is the default.
type Spec struct {
	Name       string // up to 15 characters of [A-Za-z0-9_.]; longer names are cut
	Type       Type
	KeySize    uint32 // bytes
	ValueSize  uint32 // bytes
	MaxEntries uint32
	Flags      uint32 // BPF_F_* create flags
	Extra      uint64 // map_extra: hash functions of a bloom filter

	// Inner is the pattern that maps in this map must follow; required for
	// arrays and hashes of maps, unused otherwise.
	Inner *Spec

	// Contents are put into the map by New before Frozen takes effect.
	Contents []KV
	// Frozen makes the map read-only for the system call side (BPF_MAP_FREEZE).
	Frozen bool

	// SpinLock and Timer are the offsets of a struct bpf_spin_lock and a struct
	// bpf_timer in the value plus one; 0 means there is none. The kernel learns
	// them from BTF.
	SpinLock uint32
	Timer    uint32

	// KeyType and ValueType describe keys and values for those who print them; nil
	// if the object has no BTF.
	KeyType, ValueType btf.Type

	// Interface tells whether a network interface index exists, for maps of
	// devices; nil accepts all.
	Interface func(index uint32) bool

	// Budget pays for the memory; nil means the process-wide default.
	Budget *Budget
	// CPUs is how many values a per-CPU element has; 0 means NumCPU().
	CPUs int
}
