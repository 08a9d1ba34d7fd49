package helper

// Kind says what an argument must be.
type Kind uint8

// Argument kinds. A memory argument's length is the next argument where that is
// a size; otherwise it is the map's key or value size, or Arg.Size.
const (
	None        Kind = iota // the helper does not look at it
	Any                     // an initialised value of any type
	Ctx                     // the program's context, unmodified
	MapPtr                  // a map, from LD_IMM64 or out of a map of maps
	MapKey                  // key_size readable bytes
	MapValue                // value_size bytes
	Mem                     // memory whose size follows
	FixedMem                // memory of Arg.Size bytes
	Size                    // size of the memory before it, at least 1
	SizeOrZero              // size of the memory before it, which may be NULL if this is 0
	AllocSize               // constant size of the memory the call returns
	SpinLock                // the bpf_spin_lock of a map value
	Timer                   // the bpf_timer of a map value
	SockCommon              // a bpf_sock seen at least as sock_common
	BTFSock                 // as SockCommon, or a kernel struct sock_common pointer
	Record                  // a ring buffer record as reserved, offset 0
	Dynptr                  // an initialised (or with Uninit, fresh) dynptr on the stack
	Func                    // a subprogram of this program
	StackOrNull             // a pointer into the stack, or the constant 0
	ConstStr                // a NUL-terminated string in a read-only map
)

// Flags refine a Kind.
type Flags uint8

// Argument flags.
const (
	Nullable    Flags = 1 << iota // NULL will do
	Write                         // the helper writes the memory
	Uninit                        // and does not read it first
	Aligned                       // must be aligned to its size
	Release                       // gives up the reference; the register dies
	LocalDynptr                   // makes a dynptr over program memory
	RingDynptr                    // a dynptr over a ring buffer record
)

// Arg is the type of one argument.
type Arg struct {
	Kind  Kind
	Flags Flags
	Size  uint16 // bytes, FixedMem only
}

// Ret says what a call leaves in R0.
type Ret uint8

// Return kinds.
const (
	RetInt              Ret = iota // a number
	RetVoid                        // nothing: R0 is unreadable
	RetMapValueOrNull              // value_size bytes of the map in argument 1
	RetSocketOrNull                // struct bpf_sock
	RetSockCommonOrNull            // struct bpf_sock, common part only
	RetTCPSockOrNull               // struct bpf_tcp_sock
	RetRecordOrNull                // ring buffer record of AllocSize bytes
	RetDynptrMemOrNull             // AllocSize bytes of a dynptr's memory
)

// Progs is a set of program kinds.
type Progs uint8

// Program kinds. Classifier stands for SCHED_CLS and SCHED_ACT, which are
// offered the same helpers.
const (
	SocketFilter Progs = 1 << iota
	Classifier
	XDP
	Netfilter

	allProgs = SocketFilter | Classifier | XDP | Netfilter
)

// Has reports whether every kind in q is in s.
func (s Progs) Has(q Progs) bool { return s&q == q && q != 0 }

// Trait is a property of a helper beyond its types.
type Trait uint8

// Traits.
const (
	GPL        Trait = 1 << iota // only for programs with a GPL-compatible licence
	MovesData                    // may reallocate the packet: pointers into it die
	Acquires                     // the returned pointer carries a reference
	PacketArgs                   // memory arguments may point into the packet
	Casts                        // the result shares the argument's reference
	Callback                     // calls a subprogram of the program
)

// Proto is what the verifier must know of one helper.
type Proto struct {
	ID     ID
	Name   string // without the bpf_ prefix
	Args   [5]Arg
	Ret    Ret
	Progs  Progs
	Traits Trait
	// Offered is false for helpers that exist in Linux for one of our program
	// kinds but that we do not provide.
	Offered bool
}

// Is reports whether the helper has trait t.
func (p *Proto) Is(t Trait) bool { return p.Traits&t != 0 }

// Lookup returns the prototype of a helper number, nil if Linux 6.18 has none
// by that number. The result is shared and must not be changed.
func Lookup(id ID) *Proto {
	if id <= 0 || int(id) >= len(protos) {
		return nil
	}
	return &protos[id]
}

// String returns the uapi name with its bpf_ prefix.
func (id ID) String() string {
	if p := Lookup(id); p != nil {
		return "bpf_" + p.Name
	}
	return "unknown"
}

// ByName returns the number of a helper by its uapi name, with or without the
// bpf_ prefix, and 0 if there is none.
func ByName(name string) ID {
	if len(name) > 4 && name[:4] == "bpf_" {
		name = name[4:]
	}
	return byName[name]
}

var (
	protos [numIDs]Proto
	byName = make(map[string]ID, numIDs)
)

func init() {
	for id := ID(1); id < numIDs; id++ {
		protos[id] = Proto{ID: id, Name: names[id]}
		byName[names[id]] = id
	}
	for _, e := range table {
		p := &protos[e.id]
		p.Progs, p.Ret, p.Traits, p.Offered = e.progs, e.ret, e.traits, true
		copy(p.Args[:], e.args)
	}
	for progs, ids := range refused {
		for _, id := range ids {
			protos[id].Progs = progs
		}
	}
}
