package code

import (
	"errors"
	"fmt"

	"taproom/filter/ebpf"
)

// ErrForm is what every error of Decode unwraps to.
var ErrForm = errors.New("code: malformed program")

// MaxSlots bounds the length of a program.
const MaxSlots = ebpf.MaxInsns

// Source is what Decode needs to know beside the instructions.
type Source struct {
	Insns []ebpf.Insn
	// Value returns the address of value 0 of the i-th map for LD_IMM64 of
	// PseudoMapValue, and its size.
	Value func(i int) (addr uint64, size uint32, ok bool)
	// Map returns the value that stands for the i-th map in a register.
	Map func(i int) (handle uint64, ok bool)
	// Kfunc returns the number under which CallKfunc finds the i-th function.
	Kfunc func(i int) (id int64, ok bool)
	// Dead reports whether it is known that no run reaches the instruction in a slot.
	// What is malformed there becomes Trap, where Linux takes the instruction out. nil:
	// nothing is known.
	Dead func(slot int) bool
}

// Code is a decoded program.
type Code struct {
	Insns []Insn
	Slot  []int32 // wire slot of each instruction
	Funcs []Func  // by Start; Funcs[0].Start == 0
}

// Func is one function: instructions Start to End (exclusive).
type Func struct{ Start, End int }

// FuncAt returns the function that starts at instruction start.
func (c *Code) FuncAt(start int) (int, bool) {
	for n, f := range c.Funcs {
		if f.Start == start {
			return n, true
		}
	}
	return 0, false
}

type decoder struct {
	Source
	index []int32 // slot -> instruction, -1 inside a wide one
	out   Code
	entry map[int]bool // instructions that begin functions
}

func (d *decoder) fail(slot int, format string, args ...any) error {
	return fmt.Errorf("%w: insn %d: %s", ErrForm, slot, fmt.Sprintf(format, args...))
}

// Decode translates a program.
func Decode(s Source) (*Code, error) {
	if len(s.Insns) == 0 || len(s.Insns) > MaxSlots {
		return nil, fmt.Errorf("%w: %d instructions", ErrForm, len(s.Insns))
	}
	d := &decoder{Source: s, entry: map[int]bool{0: true}}
	d.index = make([]int32, len(s.Insns))
	n := int32(0)
	for i := 0; i < len(s.Insns); i++ {
		d.index[i] = n
		n++
		if s.Insns[i].IsWide() {
			if i+1 == len(s.Insns) || s.Insns[i+1] != (ebpf.Insn{Imm: s.Insns[i+1].Imm}) {
				return nil, d.fail(i, "second half of a wide instruction is missing")
			}
			i++
			d.index[i] = -1
		}
	}
	d.out.Insns = make([]Insn, 0, n)
	d.out.Slot = make([]int32, 0, n)
	for i := 0; i < len(s.Insns); i++ {
		in, err := d.insn(i)
		if err != nil {
			if d.Dead == nil || !d.Dead(i) {
				return nil, err
			}
			in = Insn{Op: Trap}
		}
		d.out.Insns = append(d.out.Insns, in)
		d.out.Slot = append(d.out.Slot, int32(i))
		if s.Insns[i].IsWide() {
			i++
		}
	}
	return &d.out, d.functions()
}

// target resolves a jump from slot over dist slots.
func (d *decoder) target(slot int, dist int32) (int32, error) {
	to := int64(slot) + 1 + int64(dist)
	if to < 0 || to >= int64(len(d.Insns)) {
		return 0, d.fail(slot, "jump out of range to %d", to)
	}
	if d.index[to] < 0 {
		return 0, d.fail(slot, "jump into the middle of a wide instruction at %d", to)
	}
	return d.index[to], nil
}

// functions cuts the code at the targets of calls and checks that none runs off
// its end.
func (d *decoder) functions() error {
	c := &d.out
	for i := range c.Insns {
		if d.entry[i] {
			if n := len(c.Funcs); n > 0 {
				c.Funcs[n-1].End = i
			}
			c.Funcs = append(c.Funcs, Func{Start: i})
		}
	}
	c.Funcs[len(c.Funcs)-1].End = len(c.Insns)
	for _, f := range c.Funcs {
		switch c.Insns[f.End-1].Op {
		case Exit, Ja, Trap:
		default:
			return d.fail(int(c.Slot[f.End-1]), "last instruction of a function is neither exit nor jump")
		}
		for i := f.Start; i < f.End; i++ {
			in := c.Insns[i]
			if (in.Op.IsJump() || in.Op == Ja || in.Op == MayGoto) && (int(in.Off) < f.Start || int(in.Off) >= f.End) {
				return d.fail(int(c.Slot[i]), "jump from one function into another")
			}
		}
	}
	return nil
}

func (d *decoder) insn(i int) (Insn, error) {
	w := d.Insns[i]
	in := Insn{Dst: w.Dst(), Src: w.Src(), Off: int32(w.Off), Imm: int64(w.Imm)}
	if in.Dst > 10 {
		return in, d.fail(i, "no register R%d", in.Dst)
	}
	var err error
	switch w.Class() {
	case ebpf.ClassALU, ebpf.ClassALU64:
		in, err = d.alu(i, w, in)
	case ebpf.ClassJMP, ebpf.ClassJMP32:
		in, err = d.jump(i, w, in)
	case ebpf.ClassLD:
		in, err = d.ld(i, w, in)
	default:
		in, err = d.mem(i, w, in)
	}
	if err == nil && in.Src > 10 {
		err = d.fail(i, "no register R%d", in.Src)
	}
	if err == nil && in.Dst == 10 && writesDst(in.Op) {
		err = d.fail(i, "R10 is read only")
	}
	return in, err
}

// writesDst reports whether o sets Dst (a store only reads it).
func writesDst(o Op) bool {
	switch {
	case o.IsALU(), o.IsLoad(), o >= Neg64 && o <= LoadImm:
		return true
	}
	return false
}

// WritesDst reports whether o sets its Dst register.
func (o Op) WritesDst() bool { return writesDst(o) }
