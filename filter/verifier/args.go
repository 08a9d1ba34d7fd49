package verifier

import (
	"bytes"

	"taproom/filter/helper"
	"taproom/filter/maps"
)

// checkArg checks argument i (from 0) of a helper call.
func (v *verifier) checkArg(p *helper.Proto, i int, meta *callMeta) error {
	arg := p.Args[i]
	if arg.Kind == helper.None {
		return nil
	}
	n := uint8(i + 1)
	r, err := v.read(n)
	if err != nil {
		return err
	}
	if arg.Kind == helper.Any {
		return nil
	}
	if arg.Flags&helper.Nullable != 0 && r.isNull() {
		return nil
	}
	if r.isPacket() && !p.Is(helper.PacketArgs) && memoryKind(arg.Kind) {
		return v.denied("helper access to the packet is not allowed")
	}
	if err := v.checkArgOffset(n, r, arg); err != nil {
		return err
	}
	if r.ref != 0 && r.isPtr() {
		if meta.ref != 0 && r.ref != meta.ref {
			return v.invalid("more than one arg with ref_obj_id R%d %d %d", n, r.ref, meta.ref)
		}
		meta.ref = r.ref
	}
	write := arg.Flags&helper.Write != 0
	fresh := arg.Flags&helper.Uninit != 0
	switch arg.Kind {
	case helper.MapPtr:
		meta.m, meta.uid = r.m, r.uid
	case helper.MapKey:
		if meta.m == nil {
			return v.denied("invalid map_ptr to access map->key")
		}
		meta.key, meta.keyOK = 0, false
		if p.ID == helper.MapLookupElem && meta.m.spec.KeySize == 4 {
			meta.key, meta.keyOK = v.constKey(r)
		}
		return v.useMem(n, r, int(meta.m.spec.KeySize), false, false)
	case helper.MapValue:
		if meta.m == nil {
			return v.denied("invalid map_ptr to access map->value")
		}
		return v.useMem(n, r, int(meta.m.spec.ValueSize), write, fresh)
	case helper.FixedMem:
		if arg.Flags&helper.Aligned != 0 {
			a := access{n: n, size: int(arg.Size), write: write, strict: true}
			if err := v.checkAlignment(r, a); err != nil {
				return err
			}
		}
		return v.useMem(n, r, int(arg.Size), write, fresh)
	case helper.Size, helper.SizeOrZero:
		return v.checkSize(p, i, r)
	case helper.AllocSize:
		if !r.num.IsConst() {
			return v.denied("R%d is not a known constant", n)
		}
		v.track.need(r.node)
		// No allocation that large succeeds: what it would return is NULL.
		meta.memSize = uint32(min(r.num.Value(), 1<<32-1))
	case helper.SpinLock:
		return v.useLock(n, r, p.ID == helper.SpinLockID)
	case helper.Timer:
		return v.useTimer(n, r, meta)
	case helper.Func:
		meta.fn = int(r.off)
	case helper.ConstStr:
		return v.checkString(n, r)
	case helper.Dynptr:
		return v.useDynptr(p, n, r, arg, meta)
	}
	if arg.Flags&helper.Release != 0 {
		if r.ref == 0 {
			return v.invalid("R%d must be referenced when passed to release function", n)
		}
		if !v.cur.hasRef(r.ref) {
			return v.invalid("R%d: reference %d is not held", n, r.ref)
		}
		meta.release = r.ref
	}
	return nil
}

func memoryKind(k helper.Kind) bool {
	switch k {
	case helper.Mem, helper.FixedMem, helper.MapKey, helper.MapValue:
		return true
	}
	return false
}

// expected names what each kind of argument wants, in the kernel's words.
var expected = map[helper.Kind]string{
	helper.Ctx: "ctx", helper.MapPtr: "map_ptr", helper.MapKey: memoryTypes, helper.MapValue: memoryTypes,
	helper.Mem: memoryTypes, helper.FixedMem: memoryTypes, helper.Size: "scalar", helper.SizeOrZero: "scalar",
	helper.AllocSize: "scalar", helper.SpinLock: "map_value", helper.Timer: "map_value",
	helper.SockCommon: "sock_common, sock, tcp_sock", helper.BTFSock: "sock_common, sock, tcp_sock",
	helper.Record: "ringbuf_mem", helper.Dynptr: "fp, dynptr_ptr", helper.Func: "func",
	helper.StackOrNull: "fp", helper.ConstStr: "map_value",
}

const memoryTypes = "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem"

// argType reports whether a register's type suits an argument.
func argType(r *reg, arg helper.Arg) bool {
	if r.maybeNull() {
		return false
	}
	switch arg.Kind {
	case helper.Ctx:
		return r.kind == ptrCtx
	case helper.MapPtr:
		return r.kind == ptrMap
	case helper.MapKey, helper.MapValue, helper.Mem, helper.FixedMem:
		switch r.kind {
		case ptrStack, ptrPacket, ptrPacketMeta, ptrMapKey, ptrMapValue, ptrMem:
			return true
		}
		return false
	case helper.Size, helper.SizeOrZero, helper.AllocSize:
		return r.kind == number
	case helper.SpinLock, helper.Timer, helper.ConstStr:
		return r.kind == ptrMapValue
	case helper.SockCommon, helper.BTFSock:
		return r.kind == ptrSock || r.kind == ptrSockCommon || r.kind == ptrTCPSock
	case helper.Record:
		return r.kind == ptrMem && r.flags&record != 0
	case helper.Dynptr:
		return r.kind == ptrStack
	case helper.Func:
		return r.kind == ptrFunc
	case helper.StackOrNull:
		return r.kind == ptrStack || r.isNull()
	}
	return false
}

// checkArgOffset checks a register's type and where in its object it points.
func (v *verifier) checkArgOffset(n uint8, r *reg, arg helper.Arg) error {
	nullMem := arg.Kind == helper.Mem && arg.Flags&helper.Nullable != 0 && r.isNull()
	if !argType(r, arg) && !nullMem {
		return v.denied("R%d type=%s expected=%s", n, r.typeName(), expected[arg.Kind])
	}
	if !r.isPtr() {
		return nil
	}
	if arg.Flags&helper.Release != 0 && arg.Kind != helper.Dynptr && (r.off != 0 || !r.num.Is(0)) {
		return v.invalid("R%d must have zero offset when passed to release func or trusted arg to kfunc", n)
	}
	switch r.kind {
	case ptrStack, ptrPacket, ptrPacketMeta, ptrMapKey, ptrMapValue, ptrMem:
		return nil
	}
	if r.kind == ptrFunc {
		if !r.num.Is(0) || v.subprogAt(int(r.off)) < 0 {
			return v.denied("R%d is not the address of a function", n)
		}
		return nil
	}
	return v.checkFixed(n, r, true)
}

// checkSize checks a size and the memory in the argument before it.
func (v *verifier) checkSize(p *helper.Proto, i int, r *reg) error {
	n := uint8(i + 1)
	zeroOK := p.Args[i].Kind == helper.SizeOrZero
	mem := p.Args[i-1]
	size := &r.num
	if size.SMin < 0 {
		return v.denied("R%d min value is negative, either use unsigned or 'var &= const'", n)
	}
	if size.UMin == 0 && !zeroOK {
		return v.denied("R%d invalid zero-sized read: u64=[%d,%d]", n, size.UMin, size.UMax)
	}
	if size.UMax >= maxVarOff {
		return v.denied("R%d unbounded memory access, use 'var &= const' or 'if (var < const)'", n)
	}
	v.track.need(r.node)
	m := &v.cur.frame().regs[i]
	write := mem.Flags&helper.Write != 0
	// Only a helper that surely writes all of it spares us looking at what is there.
	fresh := mem.Flags&helper.Uninit != 0 && size.IsConst()
	if m.isNull() && zeroOK && size.UMax == 0 {
		return nil
	}
	if m.isNull() {
		return v.denied("R%d type=scalar expected=fp", i)
	}
	return v.useMem(uint8(i), m, int(size.UMax), write, fresh)
}

// useMem checks that a helper may use size bytes at r.
func (v *verifier) useMem(n uint8, r *reg, size int, write, fresh bool) error {
	a := access{n: n, size: size, write: write}
	switch r.kind {
	case ptrStack:
		return v.useStack(r, a, fresh)
	case ptrPacket, ptrPacketMeta:
		if err := v.checkPacket(r, a); err != nil {
			return err
		}
		return nil
	case ptrMapValue:
		return v.checkMapValue(r, a)
	case ptrMapKey:
		if write {
			return v.denied("R%d cannot write into map_key", n)
		}
		return v.checkWithin(r, a, uint64(r.m.spec.KeySize))
	case ptrMem:
		if write && r.flags&readOnly != 0 {
			return v.denied("R%d cannot write into %s", n, r.typeName())
		}
		return v.checkWithin(r, a, uint64(r.size))
	}
	return v.denied("R%d type=%s expected=%s", n, r.typeName(), memoryTypes)
}

// fieldOffset checks that r points at the special field of its map value that
// begins at off1-1.
func (v *verifier) fieldOffset(n uint8, r *reg, name string, off1 uint32) error {
	switch {
	case !r.num.IsConst():
		return v.invalid("R%d doesn't have constant offset. %s has to be at the constant offset", n, name)
	case off1 == 0:
		return v.invalid("map '%s' has no valid %s", r.m.spec.Name, name)
	case r.constOff() != int64(off1-1):
		return v.invalid("off %d doesn't point to 'struct %s' that is at %d", r.constOff(), name, off1-1)
	}
	return nil
}

// useLock is bpf_spin_lock or bpf_spin_unlock.
func (v *verifier) useLock(n uint8, r *reg, lock bool) error {
	if err := v.fieldOffset(n, r, "bpf_spin_lock", r.m.spec.SpinLock); err != nil {
		return err
	}
	held := &v.cur.lock
	if lock {
		if held.held {
			return v.invalid("locking two bpf_spin_locks are not allowed")
		}
		*held = lockState{true, r.m, r.id}
		return nil
	}
	if !held.held {
		return v.invalid("bpf_spin_unlock without taking a lock")
	}
	if held.m != r.m || held.id != r.id {
		return v.invalid("bpf_spin_unlock of different lock")
	}
	*held = lockState{}
	return nil
}

func (v *verifier) useTimer(n uint8, r *reg, meta *callMeta) error {
	if err := v.fieldOffset(n, r, "bpf_timer", r.m.spec.Timer); err != nil {
		return err
	}
	meta.timer, meta.tuid = r.m, r.uid
	return nil
}

// checkString demands a NUL-terminated string whose bytes are known.
func (v *verifier) checkString(n uint8, r *reg) error {
	m := r.m
	if m.m == nil || m.spec.Type != maps.Array || m.spec.MaxEntries != 1 ||
		m.spec.Flags&maps.RdOnlyProg == 0 || !m.m.Frozen() {
		return v.denied("R%d does not point to a readonly map", n)
	}
	if !r.num.IsConst() {
		return v.denied("R%d is not a constant address", n)
	}
	off := r.constOff()
	val, ok := m.m.Elem(make([]byte, 4), 0)
	if !ok || off < 0 || off >= int64(len(val)) {
		return v.denied("R%d invalid access to map value, value_size=%d off=%d size=1", n, m.spec.ValueSize, off)
	}
	if bytes.IndexByte(val[off:], 0) < 0 {
		return v.invalid("string is not zero-terminated")
	}
	return nil
}
