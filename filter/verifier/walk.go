package verifier

import (
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
)

// verifier is one run of Verify.
type verifier struct {
	prog     *ebpf.Program
	opt      Options
	budget   int
	progs    helper.Progs // the one bit of the program's kind
	insns    []ebpf.Insn
	maps     []*mapInfo
	info     []insnInfo
	facts    []Fact
	subprogs []subprog

	cur     *state // the running path
	pc      int
	pending []pending // paths still to walk, last first
	track   tracker
	lastID  uint32

	processed     int
	jumps         int
	prevProcessed int // at the last saved state
	prevJumps     int
	states        int // saved now
	totalStates   int
	peakStates    int
	maxPath       int
	maxPacketOff  uint32
	writesPacket  bool

	noPrune    bool // tests: walk every path to its end
	rootGlobal int  // index of the global function being verified on its own, 0 for the program

	freeFrames []*frame
	freeStates []*state
	ids        idMap
	scratch    scratch
}

// scratch holds registers that would otherwise escape to the heap.
type scratch struct {
	operand reg
}

type pending struct {
	st *state
	pc int
}

func progKind(t ebpf.ProgType) helper.Progs {
	switch t {
	case ebpf.SocketFilter:
		return helper.SocketFilter
	case ebpf.SchedCLS, ebpf.SchedACT:
		return helper.Classifier
	case ebpf.XDP:
		return helper.XDP
	case ebpf.Netfilter:
		return helper.Netfilter
	}
	return 0
}

func newVerifier(p *ebpf.Program, o Options) (*verifier, error) {
	v := &verifier{
		prog: p, opt: o, budget: o.Budget, progs: progKind(p.Type), insns: p.Insns,
		info: make([]insnInfo, len(p.Insns)+1), facts: make([]Fact, len(p.Insns)), track: newTracker(),
	}
	if v.budget <= 0 {
		v.budget = MaxProcessed
	}
	for i, m := range p.Maps {
		s := m.Spec()
		mi := &mapInfo{spec: s, m: m, index: int32(i)}
		if s.Inner != nil {
			mi.inner = &mapInfo{spec: *s.Inner, index: -1}
		}
		v.maps = append(v.maps, mi)
	}
	if len(p.Maps) > 64 {
		return nil, v.reject(-1, syscall.E2BIG, "program uses %d maps, 64 are allowed", len(p.Maps))
	}
	for i := range v.facts {
		v.facts[i].MapIndex, v.facts[i].Callee = noFact, noFact
	}
	return v, nil
}

func (v *verifier) nextID() uint32 {
	v.lastID++
	return v.lastID
}

// checkPaths walks the program, then every global function it called.
func (v *verifier) checkPaths() error {
	if err := v.walk(0); err != nil {
		return err
	}
	for again := true; again; {
		again = false
		for i := range v.subprogs {
			s := &v.subprogs[i]
			if !s.called {
				continue
			}
			s.called, again = false, true
			s.callback = false
			if v.facts[s.start].Visited {
				continue
			}
			if err := v.walk(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// walk visits all paths from the start of function sub.
func (v *verifier) walk(sub int) error {
	for i := range v.info {
		v.info[i].states = nil
	}
	v.track = newTracker()
	v.pending = v.pending[:0]
	v.rootGlobal = sub
	v.states = 0
	st := v.clone(&state{top: -1})
	f := v.newFrame()
	f.reset(-1, sub)
	st.frames[0], st.top = f, 0
	f.regs[10] = pointer(ptrStack)
	if sub == 0 {
		f.regs[1] = pointer(ptrCtx)
	} else if err := v.globalArgs(sub, f); err != nil {
		return err
	}
	v.cur, v.pc = st, v.subprogs[sub].start
	for v.cur != nil {
		if err := v.runPath(); err != nil {
			return err
		}
		v.finish()
	}
	return nil
}

// runPath follows the running path to its end.
func (v *verifier) runPath() error {
	for {
		if v.pc < 0 || v.pc >= len(v.insns) {
			return v.reject(-1, syscall.EFAULT, "invalid insn idx %d insn_cnt %d", v.pc, len(v.insns))
		}
		if v.processed++; v.processed > v.budget {
			return v.reject(v.pc, syscall.ENOSPC, "BPF program is too large. Processed %d insn", v.processed)
		}
		info := &v.info[v.pc]
		if info.prune {
			pruned, err := v.visit(info)
			if err != nil {
				return err
			}
			if pruned {
				return nil
			}
		}
		v.cur.path++
		in := v.insns[v.pc]
		if in.IsJump() {
			v.jumps++
		}
		if !info.checked {
			if err := v.checkFields(v.pc); err != nil {
				return err
			}
			info.checked = true
			v.facts[v.pc].Visited = true
		}
		if v.logging(1) {
			v.logInsn()
		}
		end, err := v.step(in)
		if err != nil {
			return err
		}
		if end {
			return nil
		}
	}
}

// finish ends the running path and takes up the next one.
func (v *verifier) finish() {
	v.maxPath = max(v.maxPath, v.cur.path)
	for p := v.cur.parent; p != nil; {
		if p.branches--; p.branches > 0 {
			break
		}
		up := p.parent
		if p.retired {
			v.drop(p)
		}
		p = up
	}
	v.drop(v.cur)
	v.cur = nil
	if n := len(v.pending); n > 0 {
		v.cur, v.pc = v.pending[n-1].st, v.pending[n-1].pc
		v.pending = v.pending[:n-1]
	}
}

// fork queues a copy of the running path that goes on at slot pc.
func (v *verifier) fork(pc int) (*state, error) {
	if len(v.pending) >= maxJumps {
		return nil, v.reject(v.pc, syscall.E2BIG, "The sequence of %d jumps is too complex.", len(v.pending)+1)
	}
	st := v.clone(v.cur)
	if st.parent != nil {
		st.parent.branches++
	}
	v.pending = append(v.pending, pending{st, pc})
	return st, nil
}

// step executes one instruction on the running path. It moves v.pc, and reports
// whether the path ended.
func (v *verifier) step(in ebpf.Insn) (end bool, err error) {
	switch in.Class() {
	case ebpf.ClassALU, ebpf.ClassALU64:
		err = v.stepALU(in)
	case ebpf.ClassLDX:
		err = v.stepLoad(in)
	case ebpf.ClassST, ebpf.ClassSTX:
		if in.Class() == ebpf.ClassSTX && in.Mode() == ebpf.ModeAtomic {
			err = v.stepAtomic(in)
		} else {
			err = v.stepStore(in)
		}
	case ebpf.ClassLD:
		if in.IsWide() {
			err = v.stepWide(in)
			v.pc++
		} else {
			return false, v.stepPacketLoad(in)
		}
	default:
		return v.stepJump(in)
	}
	v.pc++
	return false, err
}

// read returns register n for reading.
func (v *verifier) read(n uint8) (*reg, error) {
	r := &v.cur.frame().regs[n]
	if r.kind == notInit {
		return nil, v.denied("R%d !read_ok", n)
	}
	return r, nil
}

// write returns register n for writing.
func (v *verifier) write(n uint8) (*reg, error) {
	if n == 10 {
		return nil, v.denied("frame pointer is read only")
	}
	return &v.cur.frame().regs[n], nil
}

// stepWide loads a 64-bit number, a map, the address of a map value or of a
// function.
func (v *verifier) stepWide(in ebpf.Insn) error {
	dst, err := v.write(in.Dst())
	if err != nil {
		return err
	}
	hi := v.insns[v.pc+1]
	switch in.Src() {
	case ebpf.PseudoMap:
		*dst = reg{kind: ptrMap, m: v.maps[in.Imm]}
	case ebpf.PseudoMapValue:
		*dst = reg{kind: ptrMapValue, m: v.maps[in.Imm], off: hi.Imm}
	case ebpf.PseudoFunc:
		*dst = reg{kind: ptrFunc, off: int32(v.pc) + 1 + in.Imm}
	default:
		dst.set(ebpf.Imm64(in, hi))
	}
	return nil
}

// stepPacketLoad is LD_ABS and LD_IND: a big-endian load from the packet that
// ends the program with 0 where there is no such byte.
func (v *verifier) stepPacketLoad(in ebpf.Insn) error {
	if !v.progs.Has(helper.SocketFilter) && !v.progs.Has(helper.Classifier) {
		return v.invalid("BPF_LD_[ABS|IND] instructions not allowed for this program type")
	}
	f := v.cur.frame()
	if v.cur.top > 0 && !v.returnsInt(f.subprog) {
		return v.invalid("LD_ABS is only allowed in functions that return 'int'")
	}
	if err := v.checkLeaks("BPF_LD_[ABS|IND]"); err != nil {
		return err
	}
	ctx, err := v.read(6)
	if err != nil {
		return err
	}
	if ctx.kind != ptrCtx {
		return v.invalid("at the time of BPF_LD_ABS|IND R6 != pointer to skb")
	}
	if err := v.checkCtxPointer(6, ctx); err != nil {
		return err
	}
	if in.Mode() == ebpf.ModeInd {
		if _, err := v.read(in.Src()); err != nil {
			return err
		}
	}
	for n := range 6 {
		f.regs[n] = reg{}
	}
	f.regs[0].setUnknown()
	if v.cur.top > 0 {
		return v.hiddenExit(constReg(0), false)
	}
	v.pc++
	return nil
}

// readable and writable tell what programs may do with the map's values.
func (m *mapInfo) readable() bool { return m.spec.Flags&maps.WrOnlyProg == 0 }

// Values of device maps are the devices' own: redirects rely on them.
func (m *mapInfo) writable() bool {
	dev := m.spec.Type == maps.DevMap || m.spec.Type == maps.DevMapHash
	return m.spec.Flags&maps.RdOnlyProg == 0 && !dev
}
