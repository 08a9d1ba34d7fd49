package verifier

import (
	"encoding/binary"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/filter/verifier/tnum"
)

// access is one load, store or atomic, or a helper's use of memory.
type access struct {
	n      uint8 // register that holds the pointer, for messages
	off    int32
	size   int
	write  bool
	signed bool
	strict bool // must be aligned whatever the memory
}

// stepLoad is LDX: dst = *(size *)(src + off).
func (v *verifier) stepLoad(in ebpf.Insn) error {
	src, err := v.read(in.Src())
	if err != nil {
		return err
	}
	if _, err := v.write(in.Dst()); err != nil {
		return err
	}
	a := access{n: in.Src(), off: int32(in.Off), size: in.Width(), signed: in.Mode() == ebpf.ModeMemSX}
	value, err := v.load(src, a)
	if err != nil {
		return err
	}
	v.cur.frame().regs[in.Dst()] = value
	return nil
}

// stepStore is ST and STX: *(size *)(dst + off) = src.
func (v *verifier) stepStore(in ebpf.Insn) error {
	value := &v.scratch.operand
	if in.Class() == ebpf.ClassSTX {
		r, err := v.read(in.Src())
		if err != nil {
			return err
		}
		value = r
	} else {
		value.set(uint64(int64(in.Imm)))
	}
	dst, err := v.read(in.Dst())
	if err != nil {
		return err
	}
	return v.store(dst, access{n: in.Dst(), off: int32(in.Off), size: in.Width(), write: true}, value)
}

// load checks a load through p and returns what it yields.
func (v *verifier) load(p *reg, a access) (reg, error) {
	if err := v.checkAlignment(p, a); err != nil {
		return reg{}, err
	}
	value := unknownReg()
	switch p.kind {
	case ptrStack:
		v.noteRegion(RegionStack, "", nil)
		r, err := v.loadStack(p, a)
		if err != nil {
			return reg{}, err
		}
		value = r
	case ptrCtx:
		r, err := v.loadCtx(p, a)
		if err != nil {
			return reg{}, err
		}
		value = r
	case ptrKernel:
		r, err := v.loadKernel(p, a)
		if err != nil {
			return reg{}, err
		}
		value = r
	case ptrMap:
		if err := v.checkFixed(a.n, p, false); err != nil {
			return reg{}, err
		}
		off := int(p.off) + int(a.off)
		if off < 0 || helper.Structs["bpf_map"].At(off, a.size) == nil {
			return reg{}, v.denied("R%d invalid access to map_ptr off=%d size=%d", a.n, off, a.size)
		}
		v.noteRegion(RegionMap, "bpf_map", p.m)
	default:
		if err := v.checkAccess(p, a); err != nil {
			return reg{}, err
		}
		if p.kind == ptrMapValue {
			if c, ok := v.constData(p, a); ok {
				return c, nil
			}
		}
	}
	if value.kind == number && a.size < 8 {
		if a.signed {
			value.num.LoadSigned(a.size)
		} else {
			value.num.Load(a.size)
		}
	}
	return value, nil
}

// store checks a store of value through p and carries it out.
func (v *verifier) store(p *reg, a access, value *reg) error {
	if err := v.checkAlignment(p, a); err != nil {
		return err
	}
	switch p.kind {
	case ptrStack:
		v.noteRegion(RegionStack, "", nil)
		return v.storeStack(p, a, value)
	case ptrCtx:
		return v.storeCtx(p, a)
	case ptrMap:
		return v.denied("only read from bpf_map is supported")
	case ptrKernel:
		return v.denied("only read is supported")
	}
	return v.checkAccess(p, a)
}

// checkAccess checks an access to memory in which no types are kept.
func (v *verifier) checkAccess(p *reg, a access) error {
	if p.maybeNull() {
		return v.denied("R%d invalid mem access '%s'", a.n, p.typeName())
	}
	switch p.kind {
	case ptrMapValue:
		v.noteRegion(RegionMapValue, "", p.m)
		return v.checkMapValue(p, a)
	case ptrMapKey:
		v.noteRegion(RegionMapKey, "", p.m)
		if a.write {
			return v.denied("write to change key R%d not allowed", a.n)
		}
		return v.checkWithin(p, a, uint64(p.m.spec.KeySize))
	case ptrMem:
		v.noteRegion(RegionMem, "", nil)
		if a.write && p.flags&readOnly != 0 {
			return v.denied("R%d cannot write into %s", a.n, p.typeName())
		}
		return v.checkWithin(p, a, uint64(p.size))
	case ptrPacket, ptrPacketMeta:
		v.noteRegion(RegionPacket, "", nil)
		return v.checkPacket(p, a)
	case ptrSock, ptrSockCommon, ptrTCPSock:
		return v.checkSock(p, a)
	}
	return v.denied("R%d invalid mem access '%s'", a.n, p.typeName())
}

// checkWithin checks that an access stays in an object of limit bytes, whatever
// the variable part of the pointer is.
func (v *verifier) checkWithin(p *reg, a access, limit uint64) error {
	off := int64(p.off) + int64(a.off)
	within := func(o int64) bool {
		return o >= 0 && a.size >= 0 && uint64(o)+uint64(a.size) <= limit
	}
	if p.num.IsConst() {
		if o := off + int64(p.num.Value()); !within(o) {
			return v.outside(p, a, o, limit)
		}
		return nil
	}
	if p.num.SMin < 0 && (p.num.SMin < -maxVarOff || off+p.num.SMin < 0) {
		return v.denied("R%d min value is negative, either use unsigned index or do a if (index >=0) check.", a.n)
	}
	if o := off + p.num.SMin; !within(o) {
		return v.denied("R%d min value is outside of the allowed memory range", a.n)
	}
	if p.num.UMax >= maxVarOff {
		return v.denied("R%d unbounded memory access, make sure to bounds check any such access", a.n)
	}
	if !within(off + int64(p.num.UMax)) {
		return v.denied("R%d max value is outside of the allowed memory range", a.n)
	}
	return nil
}

func (v *verifier) outside(p *reg, a access, off int64, limit uint64) error {
	switch p.kind {
	case ptrMapValue:
		return v.denied("invalid access to map value, value_size=%d off=%d size=%d", limit, off, a.size)
	case ptrMapKey:
		return v.denied("invalid access to map key, key_size=%d off=%d size=%d", limit, off, a.size)
	}
	return v.denied("invalid access to memory, mem_size=%d off=%d size=%d", limit, off, a.size)
}

// checkMapValue checks bounds, the map's access flags, and that locks and timers
// in the value are left alone.
func (v *verifier) checkMapValue(p *reg, a access) error {
	m := p.m
	if a.write && !m.writable() || !a.write && !m.readable() {
		return v.denied("%s into map forbidden, value_size=%d off=%d size=%d",
			map[bool]string{true: "write", false: "read"}[a.write], m.spec.ValueSize, int(p.off)+int(a.off), a.size)
	}
	if err := v.checkWithin(p, a, uint64(m.spec.ValueSize)); err != nil {
		return err
	}
	lo := int64(p.off) + int64(a.off) + p.num.SMin
	hi := int64(p.off) + int64(a.off) + int64(p.num.UMax) + int64(a.size)
	if f, size := int64(m.spec.SpinLock)-1, int64(4); f >= 0 && lo < f+size && f < hi {
		return v.denied("bpf_spin_lock cannot be accessed directly by load/store")
	}
	if f, size := int64(m.spec.Timer)-1, int64(16); f >= 0 && lo < f+size && f < hi {
		return v.denied("bpf_timer cannot be accessed directly by load/store")
	}
	return nil
}

// constData loads from a frozen read-only map: its contents are known.
func (v *verifier) constData(p *reg, a access) (reg, bool) {
	m := p.m
	if m.m == nil || m.spec.Type != maps.Array || m.spec.MaxEntries != 1 || m.spec.Flags&maps.RdOnlyProg == 0 ||
		!m.m.Frozen() || !p.num.IsConst() {
		return reg{}, false
	}
	var key [4]byte
	val, ok := m.m.Elem(key[:], 0)
	off := p.constOff() + int64(a.off)
	if !ok || off < 0 || off+int64(a.size) > int64(len(val)) {
		return reg{}, false
	}
	var b [8]byte
	copy(b[:], val[off:off+int64(a.size)])
	n := binary.LittleEndian.Uint64(b[:])
	if a.signed {
		s := 64 - 8*a.size
		n = uint64(int64(n<<s) >> s)
	}
	return constReg(n), true
}

// checkPacket checks a direct packet access against what was compared with the
// packet's end.
func (v *verifier) checkPacket(p *reg, a access) error {
	if a.write && !v.packetWritable() {
		return v.denied("cannot write into packet")
	}
	if p.num.SMin < 0 {
		return v.denied("R%d min value is negative, either use unsigned index or do a if (index >=0) check.", a.n)
	}
	off := int64(p.off) + int64(a.off)
	if p.rng < 0 || off < 0 || off+int64(a.size) > int64(p.rng) {
		return v.denied("R%d offset is outside of the packet: invalid access to packet, off=%d size=%d, R%d(id=%d,off=%d,r=%d)",
			a.n, off, a.size, a.n, p.id, p.off, p.rng)
	}
	if end := off + int64(p.num.UMax) + int64(a.size) - 1; p.kind == ptrPacket && end <= maxPacketOff {
		v.maxPacketOff = max(v.maxPacketOff, uint32(end))
	}
	v.writesPacket = v.writesPacket || a.write
	return nil
}

func (v *verifier) packetWritable() bool {
	return v.progs.Has(helper.Classifier) || v.progs.Has(helper.XDP)
}

// checkAlignment checks what must be aligned: the stack always, atomics always,
// the rest on request.
func (v *verifier) checkAlignment(p *reg, a access) error {
	strict := v.opt.Strict || a.strict
	what := ""
	extra := int32(0)
	switch p.kind {
	case ptrStack:
		strict, what = true, "stack "
	case ptrMapValue:
		what = "value "
	case ptrCtx:
		what = "context "
	case ptrPacket, ptrPacketMeta:
		// The network header would be 2 off where loads must be aligned.
		what, extra = "packet ", 0
		if v.opt.Strict {
			extra = 2
		}
	}
	if !strict || a.size <= 1 {
		return nil
	}
	off := tnum.Add(p.num.Bits, tnum.Const(uint64(int64(extra)+int64(p.off)+int64(a.off))))
	if !off.Aligned(uint64(a.size)) {
		return v.denied("misaligned %saccess off %v+%d+%d size %d", what, p.num.Bits, p.off, a.off, a.size)
	}
	return nil
}

// stepAtomic is STX with mode ATOMIC.
func (v *verifier) stepAtomic(in ebpf.Insn) error {
	size := in.Width()
	switch in.Imm {
	case ebpf.AtomicLoadAcq:
		if src, err := v.read(in.Src()); err != nil {
			return err
		} else if !atomicOK(src) {
			return v.denied("BPF_ATOMIC loads from R%d %s is not allowed", in.Src(), src.typeName())
		}
		return v.stepLoadAs(in)
	case ebpf.AtomicStRel:
		dst, err := v.read(in.Dst())
		if err != nil {
			return err
		}
		if !atomicOK(dst) {
			return v.denied("BPF_ATOMIC stores into R%d %s is not allowed", in.Dst(), dst.typeName())
		}
		return v.stepStore(in)
	case ebpf.AtomicAdd, ebpf.AtomicAnd, ebpf.AtomicOr, ebpf.AtomicXor,
		ebpf.AtomicAdd | ebpf.AtomicFetch, ebpf.AtomicAnd | ebpf.AtomicFetch, ebpf.AtomicOr | ebpf.AtomicFetch,
		ebpf.AtomicXor | ebpf.AtomicFetch, ebpf.AtomicXchg, ebpf.AtomicCmpXchg:
	default:
		return v.invalid("BPF_ATOMIC uses invalid atomic opcode %02x", in.Imm)
	}
	if size != 4 && size != 8 {
		return v.invalid("invalid atomic operand size")
	}
	if _, err := v.read(in.Src()); err != nil {
		return err
	}
	dst, err := v.read(in.Dst())
	if err != nil {
		return err
	}
	f := v.cur.frame()
	if in.Imm == ebpf.AtomicCmpXchg {
		if _, err := v.read(0); err != nil {
			return err
		}
	}
	if !atomicOK(dst) {
		return v.denied("BPF_ATOMIC stores into R%d %s is not allowed", in.Dst(), dst.typeName())
	}
	into := uint8(255)
	if in.Imm == ebpf.AtomicCmpXchg {
		into = 0
	} else if in.Imm&ebpf.AtomicFetch != 0 {
		into = in.Src()
		if _, err := v.write(into); err != nil {
			return err
		}
	}
	a := access{n: in.Dst(), off: int32(in.Off), size: size, strict: true}
	old, err := v.load(dst, a)
	if err != nil {
		return err
	}
	if into == in.Dst() {
		// The result would overwrite the address half way through the check.
		return v.denied("R%d invalid mem access 'scalar'", in.Dst())
	}
	a.write = true
	// What the location holds afterwards is not tracked.
	value := unknownReg()
	if err := v.store(dst, a, &value); err != nil {
		return err
	}
	if into != 255 {
		f.regs[into] = old
	}
	return nil
}

// stepLoadAs is a load with acquire order.
func (v *verifier) stepLoadAs(in ebpf.Insn) error {
	src, err := v.read(in.Src())
	if err != nil {
		return err
	}
	if _, err := v.write(in.Dst()); err != nil {
		return err
	}
	value, err := v.load(src, access{n: in.Src(), off: int32(in.Off), size: in.Width(), strict: true})
	if err != nil {
		return err
	}
	v.cur.frame().regs[in.Dst()] = value
	return nil
}

// atomicOK reports whether atomics may go through the pointer: not where the
// kernel rewrites accesses or where nothing else could race.
func atomicOK(r *reg) bool {
	return r.kind != ptrCtx && !r.isPacket() && r.kind != ptrSock && r.kind != ptrSockCommon && r.kind != ptrTCPSock
}
