package helper

// KfuncID numbers the kernel functions that we offer. The numbers are ours: a
// program names kfuncs, and numbers differ from kernel to kernel.
type KfuncID uint8

// The kernel functions that we offer.
const (
	NoKfunc KfuncID = iota
	DynptrFromSKB
	DynptrFromXDP
	DynptrSlice
	DynptrSliceRdwr
	DynptrAdjust
	DynptrIsNull
	DynptrIsRdonly
	DynptrSize
	DynptrClone
	IterNumNew
	IterNumNext
	IterNumDestroy
	RCUReadLock
	RCUReadUnlock
)

// KKind says what an argument of a kernel function must be.
type KKind uint8

// Kinds of kernel function arguments.
const (
	KNone        KKind = iota
	KScalar            // a number
	KSKB               // the context of an skb program, or a struct sk_buff *
	KCtx               // the program's context
	KDynptr            // an initialised dynptr
	KDynptrNew         // an uninitialised one, made here over the packet
	KDynptrClone       // an uninitialised one, made here like argument 1
	KBufOrNull         // writable memory of the constant size in the next argument
	KConstSize         // that size
	KIterNew           // an uninitialised iterator
	KIter              // a live one
)

// KRet says what a kernel function leaves in R0.
type KRet uint8

// Results of kernel functions.
const (
	KRetInt KRet = iota
	KRetVoid
	KRetSlice     // read-only memory of the KConstSize argument's size, or NULL
	KRetSliceRdwr // the same, writable; only where packet data may be written
	KRetIterElem  // read-only int, or NULL when the iterator is done
)

// Kfunc is what the verifier must know of one kernel function.
type Kfunc struct {
	ID    KfuncID
	Name  string
	Args  []KKind
	Ret   KRet
	Progs Progs
}

// Kfuncs lists what we offer. It must not be changed.
var Kfuncs = []Kfunc{
	{DynptrFromSKB, "bpf_dynptr_from_skb", []KKind{KSKB, KScalar, KDynptrNew}, KRetInt, skb | Netfilter},
	{DynptrFromXDP, "bpf_dynptr_from_xdp", []KKind{KCtx, KScalar, KDynptrNew}, KRetInt, xdp},
	{DynptrSlice, "bpf_dynptr_slice", []KKind{KDynptr, KScalar, KBufOrNull, KConstSize}, KRetSlice, all},
	{DynptrSliceRdwr, "bpf_dynptr_slice_rdwr", []KKind{KDynptr, KScalar, KBufOrNull, KConstSize}, KRetSliceRdwr, all},
	{DynptrAdjust, "bpf_dynptr_adjust", []KKind{KDynptr, KScalar, KScalar}, KRetInt, all},
	{DynptrIsNull, "bpf_dynptr_is_null", []KKind{KDynptr}, KRetInt, all},
	{DynptrIsRdonly, "bpf_dynptr_is_rdonly", []KKind{KDynptr}, KRetInt, all},
	{DynptrSize, "bpf_dynptr_size", []KKind{KDynptr}, KRetInt, all},
	{DynptrClone, "bpf_dynptr_clone", []KKind{KDynptr, KDynptrClone}, KRetInt, all},
	{IterNumNew, "bpf_iter_num_new", []KKind{KIterNew, KScalar, KScalar}, KRetInt, all},
	{IterNumNext, "bpf_iter_num_next", []KKind{KIter}, KRetIterElem, all},
	{IterNumDestroy, "bpf_iter_num_destroy", []KKind{KIter}, KRetVoid, all},
	{RCUReadLock, "bpf_rcu_read_lock", nil, KRetVoid, all},
	{RCUReadUnlock, "bpf_rcu_read_unlock", nil, KRetVoid, all},
}

// LookupKfunc returns a kernel function by name, nil if we do not offer it.
func LookupKfunc(name string) *Kfunc {
	for i := range Kfuncs {
		if Kfuncs[i].Name == name {
			return &Kfuncs[i]
		}
	}
	return nil
}
