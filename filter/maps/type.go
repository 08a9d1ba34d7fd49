package maps

import "fmt"

// Type is a map type, numbered as enum bpf_map_type.
type Type uint32

// Map types of <linux/bpf.h>.
const (
	Unspec              Type = 0
	Hash                Type = 1
	Array               Type = 2
	ProgArray           Type = 3
	PerfEventArray      Type = 4
	PerCPUHash          Type = 5
	PerCPUArray         Type = 6
	StackTrace          Type = 7
	CGroupArray         Type = 8
	LRUHash             Type = 9
	LRUPerCPUHash       Type = 10
	LPMTrie             Type = 11
	ArrayOfMaps         Type = 12
	HashOfMaps          Type = 13
	DevMap              Type = 14
	SockMap             Type = 15
	CPUMap              Type = 16
	XSKMap              Type = 17
	SockHash            Type = 18
	CGroupStorage       Type = 19
	ReusePortSockArray  Type = 20
	PerCPUCGroupStorage Type = 21
	Queue               Type = 22
	Stack               Type = 23
	SKStorage           Type = 24
	DevMapHash          Type = 25
	StructOpsMap        Type = 26
	RingBuf             Type = 27
	InodeStorage        Type = 28
	TaskStorage         Type = 29
	BloomFilter         Type = 30
	UserRingBuf         Type = 31
	CGroupLocalStorage  Type = 32
	Arena               Type = 33
)

var typeNames = [...]string{
	"unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash", "percpu_array",
	"stack_trace", "cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps",
	"hash_of_maps", "devmap", "sockmap", "cpumap", "xskmap", "sockhash", "cgroup_storage",
	"reuseport_sockarray", "percpu_cgroup_storage", "queue", "stack", "sk_storage", "devmap_hash",
	"struct_ops", "ringbuf", "inode_storage", "task_storage", "bloom_filter", "user_ringbuf",
	"cgrp_storage", "arena",
}

// String returns bpftool's name of the type.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type_%d", uint32(t))
}

// ParseType is the inverse of Type.String.
func ParseType(s string) (Type, bool) {
	for n, name := range typeNames {
		if name == s {
			return Type(n), true
		}
	}
	return 0, false
}

// PerCPU reports whether each CPU has its own value under a key.
func (t Type) PerCPU() bool {
	return t == PerCPUHash || t == PerCPUArray || t == LRUPerCPUHash
}

// Keyless reports whether commands on the type take no key.
func (t Type) Keyless() bool { return t == Queue || t == Stack || t == BloomFilter }

// OfMaps reports whether values are maps.
func (t Type) OfMaps() bool { return t == ArrayOfMaps || t == HashOfMaps }

// Flags of BPF_MAP_CREATE (enum in <linux/bpf.h>).
const (
	NoPrealloc   = 1 << 0
	NoCommonLRU  = 1 << 1
	NumaNode     = 1 << 2
	RdOnly       = 1 << 3 // for the system call
	WrOnly       = 1 << 4
	StackBuildID = 1 << 5
	ZeroSeed     = 1 << 6
	RdOnlyProg   = 1 << 7 // for programs
	WrOnlyProg   = 1 << 8
	Clone        = 1 << 9
	Mmapable     = 1 << 10
	PreserveElem = 1 << 11
	InnerMap     = 1 << 12
)

// Flags of lookups and updates.
const (
	UpdateAny     = 0
	UpdateNoExist = 1
	UpdateExist   = 2
	FlagLock      = 4 // BPF_F_LOCK: take the element's spin lock
)
