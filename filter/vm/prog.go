package vm

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/filter/verifier"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// DefaultBudget is how many instructions a run may spend, counted where it jumps
// backwards. Linux's verifier bounds programs at about the same amount of work.
const DefaultBudget = 1 << 27

// Options tell New what to do with a program. The zero value interprets it with the
// default budget.
type Options struct {
	// Proof is what verifier.Verify returned for this very program. Nothing is
	// compiled without it.
	Proof *verifier.Result
	// Unproven compiles without a proof. Such a program can do to the process whatever
	// its author likes: this is for tests of the instruction set, whose programs no
	// verifier would take.
	Unproven bool
	// NoJIT keeps a verified program in the interpreter. The environment variable
	// TAPROOM_JIT=off does so for all.
	NoJIT bool
	// Budget is the number of instructions a run may spend; 0 means DefaultBudget.
	Budget int64
}

// Prog is a program that is ready to run. It is safe for concurrent use.
type Prog struct {
	src     *ebpf.Program
	code    *code.Code
	maps    []*maps.Map
	handles []*handle // of the maps
	static  regions   // values that LD_IMM64 names; read only after New
	kind    ctxKind
	budget  int64
	id      uint32
	refs    atomic.Int32
	native  *native // nil: interpreted
	use     ctxUse  // of compiled code
}

// native is the machine code of a program.
type native struct {
	code  *jit.Code
	entry uintptr
	// Addresses of two pieces of the code, see jit.Output.
	returned, unwind uint64
}

// New prepares a program. It holds no reference on the program's maps beyond the
// program's own: the program must not be closed while it can still run.
func New(src *ebpf.Program, o Options) (*Prog, error) {
	p := &Prog{src: src, maps: src.Maps, budget: o.Budget, kind: kindOf(src.Type)}
	if p.budget <= 0 {
		p.budget = DefaultBudget
	}
	for _, m := range src.Maps {
		p.handles = append(p.handles, newHandle(m))
	}
	kfuncs := make([]int64, len(src.Kfuncs))
	for i, k := range src.Kfuncs {
		if f := helper.LookupKfunc(k.Name); f != nil {
			kfuncs[i] = int64(f.ID)
		}
	}
	var err error
	p.code, err = code.Decode(code.Source{
		Dead:  deadIn(o.Proof),
		Insns: src.Insns,
		Map:   p.handle,
		Value: p.value,
		Kfunc: func(i int) (int64, bool) {
			if i < 0 || i >= len(kfuncs) {
				return 0, false
			}
			return kfuncs[i], true
		},
	})
	if err != nil {
		return nil, fmt.Errorf("vm: %q: %w", src.Name, err)
	}
	p.restrict()
	for _, m := range src.Maps {
		if m.Type() == maps.ProgArray && !m.BindTail(p.TailType()) {
			return nil, fmt.Errorf("vm: %q: map %q has programs of another type: %w", src.Name, m.Name(), syscall.EINVAL)
		}
	}
	p.refs.Store(1)
	p.id = lastID.Add(1)
	if (o.Proof != nil || o.Unproven) && !o.NoJIT && jitOn() {
		if err := p.compile(o.Proof); err != nil {
			return nil, fmt.Errorf("vm: %q: %w", src.Name, err)
		}
	}
	return p, nil
}

// deadIn says which instructions a proof found unreachable, nil without a proof.
func deadIn(proof *verifier.Result) func(slot int) bool {
	if proof == nil {
		return nil
	}
	return func(slot int) bool { return slot < len(proof.Insns) && !proof.Insns[slot].Visited }
}

// jitOn reads the switch for all programs once.
var jitOn = sync.OnceValue(func() bool { return os.Getenv("TAPROOM_JIT") != "off" })

// value finds the memory of a map's value 0 for a direct reference, and remembers it
// as the program's.
func (p *Prog) value(i int) (addr uint64, size uint32, ok bool) {
	if i < 0 || i >= len(p.maps) {
		return 0, 0, false
	}
	m := p.maps[i]
	if m.Type() != maps.Array {
		return 0, 0, false
	}
	v, ok := m.Elem(make([]byte, 4), 0)
	if !ok || len(v) == 0 {
		return 0, 0, false
	}
	g := regionOf(v, m.Flags()&maps.RdOnlyProg == 0)
	p.static.add(g)
	return g.base, uint32(g.size), true
}

// Source returns the program that p was made from.
func (p *Prog) Source() *ebpf.Program { return p.src }

// Compiled reports whether p runs as machine code.
func (p *Prog) Compiled() bool { return p.native != nil }

// Machine returns the machine code, nil if the program is interpreted. It must not
// be changed.
func (p *Prog) Machine() []byte {
	if p.native == nil {
		return nil
	}
	return p.native.code.Bytes()
}

// ID returns the program's number, unique in this process and never 0.
func (p *Prog) ID() uint32 { return p.id }

// TailType implements maps.Prog: programs may call each other if type and attach type
// agree. Linux also wants them to be all compiled or all interpreted; here either calls
// the other.
func (p *Prog) TailType() uint64 { return uint64(p.src.Type)<<32 | uint64(p.src.AttachType) }

// Entry implements maps.Prog.
func (p *Prog) Entry() uintptr {
	if p.native == nil {
		return 0
	}
	return p.native.entry
}

// Hold implements maps.Prog.
func (p *Prog) Hold() { p.refs.Add(1) }

// Release implements maps.Prog, and gives up the reference that New returned.
func (p *Prog) Release() {
	if p.refs.Add(-1) != 0 {
		return
	}
	if n := p.native; n != nil {
		// A run on another goroutine may still be inside: it found the address in
		// a program array a moment ago. Once every Run has been idle, none is.
		go func() {
			quiesce()
			n.code.Free()
			runtime.KeepAlive(p)
		}()
	}
}

// lastID numbers the programs of this process.
var lastID atomic.Uint32

// locate adds the place to an error that a helper reported.
func (p *Prog) locate(i int, err error) error {
	if _, ok := err.(*Fault); ok {
		return err
	}
	return p.fault(i, -1, 0, err)
}
