package verifier

import (
	"slices"
	"sort"
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
)

// insnInfo is what is known of a slot before the walk, and gathered in it.
type insnInfo struct {
	live     uint16 // registers that may still be read before they are written
	prune    bool   // states are compared here
	force    bool   // and saved every time
	callback bool   // a call that runs a callback
	checked  bool   // checkFields was satisfied
	states   *state // saved here
}

type subprog struct {
	start, end int
	depth      int // stack bytes used
	tailCall   bool
	callback   bool
	async      bool
	loadAbs    bool
	global     bool
	called     bool // as a global function: verify it on its own
	moves      bool // may move the packet
}

// findSubprogs finds where functions begin: at slot 0 and wherever a call or a
// function pointer leads.
func (v *verifier) findSubprogs() error {
	starts := []int{0}
	for pc := 0; pc < len(v.insns); pc++ {
		in := v.insns[pc]
		wide := in.IsWide()
		if in.IsLocalCall() || wide && in.Src() == ebpf.PseudoFunc {
			to := pc + int(in.Imm) + 1
			if to < 0 || to >= len(v.insns) {
				return v.reject(pc, syscall.EINVAL, "call to invalid destination")
			}
			starts = append(starts, to)
			if wide {
				f := v.prog.FuncAt(to)
				if f == nil || f.Start != to || f.Type == nil {
					return v.reject(pc, syscall.EINVAL, "missing btf func_info")
				}
				if f.Global() {
					return v.reject(pc, syscall.EINVAL, "callback function not static")
				}
			}
		}
		if wide {
			pc++
		}
	}
	sort.Ints(starts)
	starts = slices.Compact(starts)
	if len(starts) > 256 {
		return v.reject(-1, syscall.E2BIG, "too many subprograms")
	}
	v.subprogs = make([]subprog, len(starts))
	for i, s := range starts {
		end := len(v.insns)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		v.subprogs[i] = subprog{start: s, end: end}
		if f := v.prog.FuncAt(s); i > 0 && f != nil && f.Start == s && f.Global() {
			v.subprogs[i].global = true
		}
	}
	for i := range v.subprogs {
		if err := v.checkBorders(&v.subprogs[i]); err != nil {
			return err
		}
	}
	v.markMovers()
	return nil
}

// subprogAt returns the index of the function that starts at slot pc, -1 if
// none does.
func (v *verifier) subprogAt(pc int) int {
	i := sort.Search(len(v.subprogs), func(i int) bool { return v.subprogs[i].start >= pc })
	if i < len(v.subprogs) && v.subprogs[i].start == pc {
		return i
	}
	return -1
}

// jumpTarget returns where a jump goes, and false for what is not a jump.
func jumpTarget(pc int, in ebpf.Insn) (int, bool) {
	switch {
	case !in.IsJump() || in.Op == ebpf.OpCall || in.Op == ebpf.OpExit:
		return 0, false
	case in.Op == ebpf.OpJaLong:
		return pc + 1 + int(in.Imm), true
	}
	return pc + 1 + int(in.Off), true
}

// checkBorders keeps jumps inside their function, and control from running off
// its end.
func (v *verifier) checkBorders(s *subprog) error {
	for pc := s.start; pc < s.end; pc++ {
		in := v.insns[pc]
		if to, ok := jumpTarget(pc, in); ok && (to < s.start || to >= s.end) {
			return v.reject(pc, syscall.EINVAL, "jump out of range from insn %d to %d", pc, to)
		}
		if in.IsHelperCall() && helper.ID(in.Imm) == helper.TailCall {
			s.tailCall = true
		}
		if in.Class() == ebpf.ClassLD && !in.IsWide() {
			s.loadAbs = true
		}
		if in.IsWide() {
			pc++
		}
	}
	switch v.insns[s.end-1].Op {
	case ebpf.OpExit, ebpf.OpJa, ebpf.OpJaLong:
		// The last slot could be the second half of a wide instruction that looks
		// like none of these: its opcode is 0.
		return nil
	}
	return v.reject(s.end-1, syscall.EINVAL, "last insn is not an exit or jmp")
}

// markMovers finds functions that may move the packet, themselves or through
// calls: a call of a global one then invalidates packet pointers.
func (v *verifier) markMovers() {
	for changed := true; changed; {
		changed = false
		for i := range v.subprogs {
			s := &v.subprogs[i]
			for pc := s.start; pc < s.end && !s.moves; pc++ {
				in := v.insns[pc]
				switch {
				case in.IsHelperCall():
					p := helper.Lookup(helper.ID(in.Imm))
					s.moves = p != nil && (p.Is(helper.MovesData) || p.ID == helper.TailCall)
				case in.IsLocalCall() || in.IsWide() && in.Src() == ebpf.PseudoFunc:
					if t := v.subprogAt(pc + 1 + int(in.Imm)); t >= 0 {
						s.moves = v.subprogs[t].moves
					}
				}
				changed = changed || s.moves
			}
		}
	}
}

// successors appends the slots that control may reach right after pc.
func (v *verifier) successors(pc int, to []int) []int {
	in := v.insns[pc]
	switch {
	case in.Op == ebpf.OpExit:
		return to
	case in.Op == ebpf.OpJa || in.Op == ebpf.OpJaLong:
		t, _ := jumpTarget(pc, in)
		return append(to, t)
	case in.IsWide():
		return append(to, pc+2)
	}
	to = append(to, pc+1)
	if t, ok := jumpTarget(pc, in); ok {
		to = append(to, t)
	}
	return to
}

// checkFlow finds unreachable instructions and jumps into the middle of wide
// ones, and marks where states are worth comparing.
func (v *verifier) checkFlow() error {
	seen := make([]bool, len(v.insns))
	todo := []int{0}
	seen[0] = true
	var next []int
	for len(todo) > 0 {
		pc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		in := v.insns[pc]
		next = v.successors(pc, next[:0])
		for _, to := range next {
			if to >= len(v.insns) {
				return v.reject(pc, syscall.EINVAL, "jump out of range from insn %d to %d", pc, to)
			}
		}
		v.markPrunePoints(pc, in)
		if in.IsLocalCall() || in.IsWide() && in.Src() == ebpf.PseudoFunc {
			next = append(next, pc+1+int(in.Imm))
		}
		for _, to := range next {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	for pc := 0; pc < len(v.insns); pc++ {
		if !seen[pc] {
			return v.reject(pc, syscall.EINVAL, "unreachable insn %d", pc)
		}
		if v.insns[pc].IsWide() {
			if seen[pc+1] {
				return v.reject(pc, syscall.EINVAL, "jump into the middle of ldimm64 insn %d", pc)
			}
			pc++
		}
	}
	return nil
}

func (v *verifier) markPrunePoints(pc int, in ebpf.Insn) {
	switch {
	case in.IsLocalCall():
		v.info[pc+1].prune = true
	case in.IsHelperCall():
		if p := helper.Lookup(helper.ID(in.Imm)); p != nil && p.Is(helper.Callback) {
			v.info[pc].prune, v.info[pc].callback = true, true
			v.info[pc].force = p.ID != helper.TimerSetCallback
			v.info[pc+1].prune = true
		}
	case in.IsKfuncCall():
		if v.prog.Kfuncs[in.Imm].Name == "bpf_iter_num_next" {
			v.info[pc].prune, v.info[pc].force = true, true
		}
	case in.Op == ebpf.OpJa || in.Op == ebpf.OpJaLong:
		t, _ := jumpTarget(pc, in)
		v.info[t].prune = true
	case in.Class() == ebpf.ClassJMP && in.ALUOp() == ebpf.JmpCond:
		t, _ := jumpTarget(pc, in)
		v.info[pc].prune, v.info[pc].force, v.info[t].prune = true, true, true
	default:
		if to, ok := jumpTarget(pc, in); ok {
			v.info[pc].prune, v.info[to].prune = true, true
		}
	}
}
