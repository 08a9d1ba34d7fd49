package cbpf

// opcode is an operation of the direct runner. Loads from a fixed offset that are
// followed by a comparison with a constant, which is most of what tcpdump makes,
// are one operation.
type opcode uint8

const (
	opRetK opcode = iota
	opRetA
	opLdW // A = bytes at k
	opLdH
	opLdB
	opLdWJeq // A = bytes at k; A == k2
	opLdHJeq
	opLdBJeq
	opLdHJset
	opLdBJset
	opIndW // A = bytes at X + k
	opIndH
	opIndB
	opIndHJeq
	opMsh
	opAnc
	opJa
	opJeq
	opJgt
	opJge
	opJset
	opJeqX
	opJgtX
	opJgeX
	opJsetX
	opImm
	opLen
	opMem
	opXImm
	opXLen
	opXMem
	opSt
	opStX
	opTax
	opTxa
	opAdd
	opSub
	opMul
	opDiv
	opMod
	opAnd
	opOr
	opXor
	opLsh
	opRsh
	opNeg
	opAddX
	opSubX
	opMulX
	opDivX
	opModX
	opAndX
	opOrX
	opXorX
	opLshX
	opRshX
)

// op is a decoded instruction. jt and jf are places in the program; an operation
// that does not branch goes on at jt.
type op struct {
	code   opcode
	jt, jf uint16
	k, k2  uint32
}

// Filter is a checked filter, ready to run.
type Filter struct {
	insns []Insn
	prog  []op
}

// New checks a filter and compiles it.
func New(insns []Insn) (*Filter, error) {
	if err := Check(insns); err != nil {
		return nil, err
	}
	f := &Filter{insns: append([]Insn(nil), insns...), prog: make([]op, len(insns))}
	for pc, i := range insns {
		f.prog[pc] = decode(i, pc)
	}
	f.thread()
	f.fuse()
	return f, nil
}

// Insns returns the filter's instructions. The caller must not change them.
func (f *Filter) Insns() []Insn { return f.insns }

var plain = map[uint16]opcode{
	ClassRET | SrcK: opRetK, ClassRET | RetA: opRetA,
	ClassLD | SizeW | ModeAbs: opLdW, ClassLD | SizeH | ModeAbs: opLdH, ClassLD | SizeB | ModeAbs: opLdB,
	ClassLD | SizeW | ModeInd: opIndW, ClassLD | SizeH | ModeInd: opIndH, ClassLD | SizeB | ModeInd: opIndB,
	ClassLDX | SizeB | ModeMsh: opMsh, ClassLD | ModeImm: opImm, ClassLD | ModeLen: opLen, ClassLD | ModeMem: opMem,
	ClassLDX | ModeImm: opXImm, ClassLDX | ModeLen: opXLen, ClassLDX | ModeMem: opXMem,
	ClassST: opSt, ClassSTX: opStX, ClassMISC | MiscTAX: opTax, ClassMISC | MiscTXA: opTxa,
	ClassJMP | JmpA: opJa, ClassJMP | JmpEq: opJeq, ClassJMP | JmpGT: opJgt, ClassJMP | JmpGE: opJge, ClassJMP | JmpSet: opJset,
	ClassJMP | JmpEq | SrcX: opJeqX, ClassJMP | JmpGT | SrcX: opJgtX, ClassJMP | JmpGE | SrcX: opJgeX, ClassJMP | JmpSet | SrcX: opJsetX,
	ClassALU | OpAdd: opAdd, ClassALU | OpSub: opSub, ClassALU | OpMul: opMul, ClassALU | OpDiv: opDiv, ClassALU | OpMod: opMod,
	ClassALU | OpAnd: opAnd, ClassALU | OpOr: opOr, ClassALU | OpXor: opXor, ClassALU | OpLsh: opLsh, ClassALU | OpRsh: opRsh,
	ClassALU | OpNeg:        opNeg,
	ClassALU | OpAdd | SrcX: opAddX, ClassALU | OpSub | SrcX: opSubX, ClassALU | OpMul | SrcX: opMulX, ClassALU | OpDiv | SrcX: opDivX,
	ClassALU | OpMod | SrcX: opModX, ClassALU | OpAnd | SrcX: opAndX, ClassALU | OpOr | SrcX: opOrX, ClassALU | OpXor | SrcX: opXorX,
	ClassALU | OpLsh | SrcX: opLshX, ClassALU | OpRsh | SrcX: opRshX,
}

func decode(i Insn, pc int) op {
	o := op{code: plain[i.Code], k: i.K, jt: uint16(pc + 1)}
	switch {
	case i.Code == ClassJMP|JmpA:
		o.jt = uint16(pc + 1 + int(i.K))
	case i.Code&7 == ClassJMP:
		o.jt, o.jf = uint16(pc+1+int(i.JT)), uint16(pc+1+int(i.JF))
	case o.code == opLdW || o.code == opLdH || o.code == opLdB:
		if what, ok := ancillary(i.K); ok {
			o.code, o.k = opAnc, what
		}
	}
	return o
}

// thread makes jumps to jumps go to their end.
func (f *Filter) thread() {
	end := func(at uint16) uint16 {
		for int(at) < len(f.prog) && f.prog[at].code == opJa {
			at = f.prog[at].jt
		}
		return at
	}
	for pc := range f.prog {
		o := &f.prog[pc]
		if o.code != opRetK && o.code != opRetA {
			o.jt = end(o.jt)
			if o.code >= opJeq && o.code <= opJsetX {
				o.jf = end(o.jf)
			}
		}
	}
}

var fused = map[[2]opcode]opcode{
	{opLdW, opJeq}: opLdWJeq, {opLdH, opJeq}: opLdHJeq, {opLdB, opJeq}: opLdBJeq,
	{opLdH, opJset}: opLdHJset, {opLdB, opJset}: opLdBJset, {opIndH, opJeq}: opIndHJeq,
}

// fuse joins a load with the comparison that follows it. The comparison stays
// where it is, for those who jump to it.
func (f *Filter) fuse() {
	for pc := range f.prog {
		o := &f.prog[pc]
		if o.code < opLdW || o.code > opIndB || int(o.jt) >= len(f.prog) {
			continue
		}
		then := f.prog[o.jt]
		if code, ok := fused[[2]opcode{o.code, then.code}]; ok {
			o.code, o.k2, o.jt, o.jf = code, then.k, then.jt, then.jf
		}
	}
}
