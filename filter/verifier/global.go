package verifier

import (
	"slices"
	"strings"

	"taproom/filter/ebpf"
	"taproom/filter/helper"

	"github.com/cilium/ebpf/btf"
)

// A global function is verified on its own, with arguments that are only what
// its prototype says, and calls of it are checked against the prototype.

// paramKind is what a parameter's type stands for.
type paramKind uint8

const (
	paramNumber paramKind = iota
	paramCtx
	paramMem
)

type param struct {
	kind     paramKind
	size     uint32
	nullable bool
}

// ctxTypes names the context structure of each kind of program.
var ctxTypes = map[helper.Progs]string{
	helper.SocketFilter: "__sk_buff", helper.Classifier: "__sk_buff",
	helper.XDP: "xdp_md", helper.Netfilter: "bpf_nf_ctx",
}

// params reads a function's prototype.
func (v *verifier) params(sub int) ([]param, error) {
	f := v.prog.FuncAt(v.subprogs[sub].start)
	bad := func(format string, a ...any) error {
		return v.reject(v.subprogs[sub].start, 22, "global function %s: "+format, append([]any{f.Name}, a...)...)
	}
	proto, ok := f.Type.Type.(*btf.FuncProto)
	if !ok || len(proto.Params) > 5 {
		return nil, bad("has no usable prototype of at most 5 arguments")
	}
	switch btf.UnderlyingType(proto.Return).(type) {
	case *btf.Int, *btf.Enum:
	default:
		return nil, bad("doesn't return scalar. Only those are supported")
	}
	var all []param
	for i, p := range proto.Params {
		tagged := func(tag string) bool {
			return i < len(f.Type.ParamTags) && slices.Contains(f.Type.ParamTags[i], "arg:"+tag)
		}
		switch t := btf.UnderlyingType(p.Type).(type) {
		case *btf.Int, *btf.Enum:
			all = append(all, param{kind: paramNumber})
		case *btf.Pointer:
			target := btf.UnderlyingType(t.Target)
			if s, ok := target.(*btf.Struct); tagged("ctx") || ok && s.Name == ctxTypes[v.progs] {
				all = append(all, param{kind: paramCtx})
				continue
			}
			size, err := btf.Sizeof(target)
			if err != nil || size <= 0 || size >= maxVarOff {
				return nil, bad("arg#%d: size of what it points to cannot be determined", i)
			}
			all = append(all, param{paramMem, uint32(size), !tagged("nonnull")})
		default:
			return nil, bad("arg#%d type %s is not supported", i, strings.TrimSpace(p.Name))
		}
	}
	return all, nil
}

// globalArgs sets up the registers of a global function.
func (v *verifier) globalArgs(sub int, f *frame) error {
	params, err := v.params(sub)
	if err != nil {
		return err
	}
	for i, p := range params {
		r := &f.regs[i+1]
		switch p.kind {
		case paramNumber:
			r.setUnknown()
		case paramCtx:
			*r = pointer(ptrCtx)
		case paramMem:
			*r = reg{kind: ptrMem, size: p.size}
			if p.nullable {
				r.flags, r.id = mayBeNull, v.nextID()
			}
		}
	}
	return nil
}

// checkGlobalCall checks the arguments of a call of a global function.
func (v *verifier) checkGlobalCall(sub int) error {
	params, err := v.params(sub)
	if err != nil {
		return err
	}
	for i, p := range params {
		n := uint8(i + 1)
		r, err := v.read(n)
		if err != nil {
			return err
		}
		switch p.kind {
		case paramNumber:
			if r.kind != number {
				return v.invalid("R%d is not a scalar", n)
			}
		case paramCtx:
			if r.kind != ptrCtx {
				return v.invalid("arg#%d expects pointer to ctx", i)
			}
			if err := v.checkFixed(n, r, true); err != nil {
				return err
			}
		case paramMem:
			if p.nullable && r.isNull() {
				continue
			}
			plain := *r
			if p.nullable {
				plain.flags &^= mayBeNull
			}
			if plain.maybeNull() || !argType(&plain, helper.Arg{Kind: helper.Mem}) {
				return v.invalid("arg#%d expected pointer to memory of %d bytes, R%d is %s", i, p.size, n, r.typeName())
			}
			if err := v.useMem(n, &plain, int(p.size), false, false); err != nil {
				return err
			}
			if err := v.useMem(n, &plain, int(p.size), true, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// returnsInt reports whether a function is known to return a number, which
// LD_ABS may make it do at any time.
func (v *verifier) returnsInt(sub int) bool {
	f := v.prog.FuncAt(v.subprogs[sub].start)
	if f == nil || f.Type == nil {
		return false
	}
	proto, ok := f.Type.Type.(*btf.FuncProto)
	if !ok {
		return false
	}
	switch btf.UnderlyingType(proto.Return).(type) {
	case *btf.Int, *btf.Enum:
		return true
	}
	return false
}

// checkStackDepth adds up the stack of the deepest chain of calls.
func (v *verifier) checkStackDepth() error {
	above := make([]int, len(v.subprogs))  // bytes used by callers, at most
	frames := make([]int, len(v.subprogs)) // callers, on that chain
	height := make([]int, len(v.subprogs)) // callers, at most
	// Longest paths from the roots, by relaxation: 8 rounds suffice, a ninth
	// change means a chain too long or a recursion.
	for round := 0; ; round++ {
		changed := false
		for i := range v.subprogs {
			s := &v.subprogs[i]
			used := above[i] + roundUp(s.depth)
			for pc := s.start; pc < s.end; pc++ {
				in := v.insns[pc]
				wide := in.IsWide()
				if in.IsLocalCall() || wide && in.Src() == ebpf.PseudoFunc {
					t := v.subprogAt(pc + 1 + int(in.Imm))
					if v.subprogs[t].async && wide {
						continue // it gets a stack of its own
					}
					if used > above[t] {
						above[t], frames[t], changed = used, frames[i]+1, true
					}
					if height[i]+1 > height[t] {
						height[t], changed = height[i]+1, true
					}
					if height[t] >= maxFrames {
						return v.reject(pc, 7, "the call stack of %d frames is too deep", height[t]+1)
					}
				}
				if wide {
					pc++
				}
			}
		}
		if !changed {
			break
		}
	}
	for i := range v.subprogs {
		s := &v.subprogs[i]
		if total := above[i] + roundUp(s.depth); total > stackSize {
			return v.reject(s.start, 13, "combined stack size of %d calls is %d. Too large", frames[i]+1, total)
		}
		if i > 0 && s.tailCall && above[i] >= 256 {
			return v.reject(s.start, 13, "tail_calls are not allowed when call stack of previous frames is %d bytes. Too large", above[i])
		}
	}
	return nil
}

// roundUp is what a frame costs: machines keep their stack aligned.
func roundUp(n int) int { return (n + 15) &^ 15 }
