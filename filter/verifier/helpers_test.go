//go:build linux

package verifier

import (
	"math/rand/v2"
	"os"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/maps"
)

// helperMaps has a map of each type that takes no other map.
var helperMaps = []maps.Spec{
	{Type: maps.Array, KeySize: 4, ValueSize: 64, MaxEntries: 4},
	{Type: maps.Hash, KeySize: 8, ValueSize: 16, MaxEntries: 4},
	{Type: maps.RingBuf, MaxEntries: 4096},
	{Type: maps.ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 2},
	{Type: maps.PerfEventArray, KeySize: 4, ValueSize: 4, MaxEntries: 2},
	{Type: maps.PerCPUArray, KeySize: 4, ValueSize: 16, MaxEntries: 4},
	{Type: maps.PerCPUHash, KeySize: 4, ValueSize: 16, MaxEntries: 4},
	{Type: maps.LRUHash, KeySize: 4, ValueSize: 16, MaxEntries: 4},
	{Type: maps.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 4, Flags: maps.NoPrealloc},
	{Type: maps.Queue, ValueSize: 8, MaxEntries: 4},
	{Type: maps.Stack, ValueSize: 8, MaxEntries: 4},
	{Type: maps.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 4},
	{Type: maps.Array, KeySize: 4, ValueSize: 16, MaxEntries: 4, Flags: maps.RdOnlyProg},
	{Type: maps.Array, KeySize: 4, ValueSize: 16, MaxEntries: 4, Flags: maps.WrOnlyProg},
}

// helperCall writes a program around one call with arguments that mostly suit.
func helperCall(rng *rand.Rand, p *helper.Proto, typ ebpf.ProgType) []ebpf.Insn {
	g := &generator{rng: rng, typ: typ}
	mov := func(d, s uint8) { g.emit(ebpf.ClassALU64|ebpf.ALUMov|ebpf.SrcX, d, s, 0, 0) }
	imm := func(d uint8, v int32) { g.emit(ebpf.ClassALU64|ebpf.ALUMov, d, 0, 0, v) }
	var exits []int
	mov(6, 1)
	// R7: a map value of 64 bytes; R8: a packet pointer good for 14 bytes or a
	// number; R9: a number below 64.
	g.emit(ebpf.ClassST|ebpf.ModeMem|ebpf.SizeW, 10, 0, -8, 1)
	mov(2, 10)
	g.emit(ebpf.ClassALU64|ebpf.ALUAdd, 2, 0, 0, -8)
	g.loadMap(1, 0)
	g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.MapLookupElem))
	exits = append(exits, g.emit(ebpf.ClassJMP|ebpf.JmpEq, 0, 0, 0, 0))
	mov(7, 0)
	if typ == ebpf.SchedCLS || typ == ebpf.XDP {
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, 8, 6, g.data(), 0)
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeW, 3, 6, g.data()+4, 0)
		mov(2, 8)
		g.emit(ebpf.ClassALU64|ebpf.ALUAdd, 2, 0, 0, 14)
		exits = append(exits, g.emit(ebpf.ClassJMP|ebpf.JmpGT|ebpf.SrcX, 2, 3, 0, 0))
	} else {
		imm(8, 5)
	}
	g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.GetPrandomU32))
	mov(9, 0)
	g.emit(ebpf.ClassALU64|ebpf.ALUAnd, 9, 0, 0, 63)
	theMap := int32(rng.IntN(len(helperMaps)))
	if rng.IntN(3) != 0 {
		theMap = suitable(rng, p.ID)
	}
	acquired := false
	for i, a := range p.Args {
		r := uint8(i + 1)
		kind := a.Kind
		if rng.IntN(12) == 0 {
			kind = helper.Kind(rng.IntN(int(helper.ConstStr)))
		}
		switch kind {
		case helper.None:
			if rng.IntN(4) == 0 {
				imm(r, 0)
			}
		case helper.Ctx:
			mov(r, 6)
		case helper.MapPtr:
			g.loadMap(r, theMap)
		case helper.Any, helper.AllocSize:
			if rng.IntN(4) == 0 {
				mov(r, 9)
			} else {
				imm(r, int32(rng.IntN(20)))
			}
		case helper.Size, helper.SizeOrZero:
			switch rng.IntN(6) {
			case 0:
				mov(r, 9)
			case 1:
				mov(r, 9)
				g.emit(ebpf.ClassALU64|ebpf.ALUAdd, r, 0, 0, 1)
			case 2:
				imm(r, g.imm())
			default:
				imm(r, int32(rng.IntN(24)))
			}
		case helper.MapKey, helper.MapValue, helper.Mem, helper.FixedMem, helper.StackOrNull, helper.Dynptr:
			switch rng.IntN(8) {
			case 0:
				mov(r, 7)
			case 1:
				mov(r, 7)
				g.emit(ebpf.ClassALU64|ebpf.ALUAdd|ebpf.SrcX, r, 9, 0, 0)
			case 2:
				mov(r, 8)
			case 3:
				imm(r, 0)
			case 4:
				mov(r, 10)
				g.emit(ebpf.ClassALU64|ebpf.ALUAdd|ebpf.SrcX, r, 9, 0, 0)
				g.emit(ebpf.ClassALU64|ebpf.ALUAdd, r, 0, 0, -64-int32(rng.IntN(32)))
			default:
				mov(r, 10)
				g.emit(ebpf.ClassALU64|ebpf.ALUAdd, r, 0, 0, -int32(8*(1+rng.IntN(9))))
			}
		default:
			mov(r, []uint8{6, 7, 8, 9, 10}[rng.IntN(5)])
		}
	}
	g.emit(ebpf.OpCall, 0, 0, 0, int32(p.ID))
	switch p.ID {
	case helper.RingbufReserve:
		acquired = true
	}
	if acquired && rng.IntN(8) != 0 {
		exits = append(exits, g.emit(ebpf.ClassJMP|ebpf.JmpEq, 0, 0, 0, 0))
		mov(1, 0)
		imm(2, 0)
		g.emit(ebpf.OpCall, 0, 0, 0, int32(helper.RingbufDiscard))
	}
	switch rng.IntN(6) {
	case 0: // use the result
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeB, 1, 0, int16(rng.IntN(20)), 0)
	case 1:
		exits = append(exits, g.emit(ebpf.ClassJMP|ebpf.JmpEq, 0, 0, 0, 0))
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeB, 1, 0, int16(rng.IntN(20)), 0)
	case 2: // is the packet pointer still good?
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeB, 1, 8, 0, 0)
	case 3: // what did it leave on the stack?
		g.emit(ebpf.ClassLDX|ebpf.ModeMem|ebpf.SizeDW, 1, 10, -8*int16(1+rng.IntN(8)), 0)
	case 4:
		mov(2, 0)
	}
	end := len(g.insns)
	imm(0, 0)
	g.emit(ebpf.OpExit, 0, 0, 0, 0)
	for _, at := range exits {
		g.insns[at].Off = int16(end - at - 1)
	}
	return g.insns
}

// suitable picks a map that the helper takes.
func suitable(rng *rand.Rand, id helper.ID) int32 {
	var fit []int32
	for i, s := range helperMaps {
		list, special := only[s.Type]
		want, picky := needs[id]
		if (!special || contains(list, id)) && (!picky || contains(want, s.Type)) {
			fit = append(fit, int32(i))
		}
	}
	if len(fit) == 0 {
		return 0
	}
	return fit[rng.IntN(len(fit))]
}

// TestKernelAgreesOnHelpers calls every helper with random arguments.
func TestKernelAgreesOnHelpers(t *testing.T) {
	types := []ebpf.ProgType{ebpf.SchedCLS, ebpf.XDP, ebpf.SocketFilter, ebpf.Netfilter}
	kernels := map[ebpf.ProgType]*kernel{}
	for _, typ := range types {
		kernels[typ] = newKernel(t, helperMaps)
	}
	ours := liveMaps(t, helperMaps)
	n, seed := setting("VERIFIER_CALLS", 10), setting("VERIFIER_SEED", 1)
	total, accepted, strict := 0, 0, 0
	for id := helper.ID(1); helper.Lookup(id) != nil; id++ {
		proto := helper.Lookup(id)
		if !proto.Offered || proto.Is(helper.Callback) {
			continue
		}
		good := 0
		for _, typ := range types {
			if !proto.Progs.Has(progKind(typ)) {
				continue
			}
			for i := range n {
				rng := rand.New(rand.NewPCG(seed, uint64(id)<<32|i))
				insns := helperCall(rng, proto, typ)
				p := &ebpf.Program{Type: typ, License: "GPL", Insns: insns, Maps: ours, Funcs: []ebpf.Func{{}}}
				_, err := Verify(p, Options{})
				yes, _ := kernels[typ].load(typ, insns, 0)
				total++
				if yes {
					good++
				}
				if yes == (err == nil) {
					continue
				}
				if yes {
					strict++
					t.Logf("%v %v %d: stricter: %+v", id, typ, i, err)
					continue
				}
				_, log := kernels[typ].load(typ, insns, 1)
				t.Errorf("%v %v %d: we accept, the kernel refuses:\n%s", id, typ, i, log)
			}
		}
		accepted += good
		if good == 0 && os.Getenv("VERIFIER_VERBOSE") != "" {
			t.Logf("%v was never called rightly", id)
		}
	}
	t.Logf("helpers: %d programs, %d accepted by the kernel, %d refused by us alone", total, accepted, strict)
	if strict*50 > accepted {
		t.Errorf("more than 2 %% of the accepted programs are refused")
	}
}

// TestKernelAgreesOnContext tries every field, size and direction of each context.
func TestKernelAgreesOnContext(t *testing.T) {
	k := newKernel(t, nil)
	total := 0
	for _, typ := range []ebpf.ProgType{ebpf.SchedCLS, ebpf.SchedACT, ebpf.SocketFilter, ebpf.XDP, ebpf.Netfilter} {
		for off := int16(-8); off < 208; off++ {
			for n, size := range []uint8{ebpf.SizeB, ebpf.SizeH, ebpf.SizeW, ebpf.SizeDW} {
				for _, class := range []uint8{ebpf.ClassLDX | ebpf.ModeMem, ebpf.ClassLDX | ebpf.ModeMemSX, ebpf.ClassSTX | ebpf.ModeMem, ebpf.ClassST | ebpf.ModeMem} {
					if class == ebpf.ClassLDX|ebpf.ModeMemSX && size == ebpf.SizeDW {
						continue
					}
					in := ebpf.Insn{Op: class | size, Regs: ebpf.Regs(1, 0), Off: off}
					if in.Class() == ebpf.ClassLDX {
						in.Regs = ebpf.Regs(2, 1)
					}
					insns := []ebpf.Insn{{Op: 0xb7}, in, {Op: 0xb7}, {Op: 0x95}}
					p := &ebpf.Program{Type: typ, License: "GPL", Insns: insns, Funcs: []ebpf.Func{{}}}
					_, err := Verify(p, Options{})
					total++
					if yes, _ := k.load(typ, insns, 0); yes != (err == nil) {
						_, log := k.load(typ, insns, 1)
						t.Errorf("%v %v size %d at %d: kernel %v, we: %v\n%s", typ, class, 1<<n, off, yes, err, log)
					}
				}
			}
		}
	}
	t.Logf("context: %d accesses", total)
}

// TestKernelAgreesOnSockets does the same for the three views of a socket.
func TestKernelAgreesOnSockets(t *testing.T) {
	k := newKernel(t, nil)
	total := 0
	for _, cast := range []helper.ID{0, helper.SkFullsock, helper.TCPSock, helper.GetListenerSock} {
		for off := int16(-4); off < 130; off++ {
			for _, op := range []uint8{0x61, 0x69, 0x71, 0x79, 0x81, 0x63} {
				access := ebpf.Insn{Op: op, Regs: ebpf.Regs(2, 1), Off: off}
				if op == 0x63 {
					access.Regs = ebpf.Regs(1, 2)
				}
				insns := []ebpf.Insn{
					{Op: 0xb7, Regs: 2},
					{Op: 0x79, Regs: ebpf.Regs(1, 1), Off: skbSk},
					{Op: 0x55, Regs: 1, Off: 2}, {Op: 0xb7}, {Op: 0x95},
				}
				if cast != 0 {
					insns = append(insns, ebpf.Insn{Op: 0x85, Imm: int32(cast)},
						ebpf.Insn{Op: 0x55, Off: 2}, ebpf.Insn{Op: 0xb7}, ebpf.Insn{Op: 0x95},
						ebpf.Insn{Op: 0xbf, Regs: ebpf.Regs(1, 0)}, ebpf.Insn{Op: 0xb7, Regs: 2})
				}
				insns = append(insns, access, ebpf.Insn{Op: 0xb7}, ebpf.Insn{Op: 0x95})
				p := &ebpf.Program{Type: ebpf.SchedCLS, License: "GPL", Insns: insns, Funcs: []ebpf.Func{{}}}
				_, err := Verify(p, Options{})
				total++
				if yes, _ := k.load(p.Type, insns, 0); yes != (err == nil) {
					_, log := k.load(p.Type, insns, 1)
					t.Errorf("%v: op %#x at %d: kernel %v, we: %v\n%s", cast, op, off, yes, err, log)
				}
			}
		}
	}
	t.Logf("sockets: %d accesses", total)
}

// TestKernelAgreesOnEncodings tries every opcode with odd fields.
func TestKernelAgreesOnEncodings(t *testing.T) {
	k := newKernel(t, testMaps)
	ours := liveMaps(t, testMaps)
	total, accepted := 0, 0
	var prologue []ebpf.Insn
	for r := range uint8(10) {
		if r != 6 {
			prologue = append(prologue, ebpf.Insn{Op: 0xb7, Regs: r, Imm: int32(r)})
		} else {
			prologue = append(prologue, ebpf.Insn{Op: 0xbf, Regs: ebpf.Regs(6, 1)})
		}
	}
	// R1 was overwritten before R6 could keep it: begin with R6.
	prologue[0], prologue[6] = prologue[6], prologue[0]
	for op := range 256 {
		rng := rand.New(rand.NewPCG(1, uint64(op)))
		for range setting("VERIFIER_ENCODINGS", 10) {
			in := ebpf.Insn{Op: uint8(op), Regs: ebpf.Regs(uint8(rng.IntN(12)), uint8(rng.IntN(12))),
				Off: []int16{0, 0, 0, 1, 8, 16, 32, -8, 2}[rng.IntN(9)], Imm: []int32{0, 0, 0, 1, 7, 16, 31, 32, 63, 64, -1, 0xf1}[rng.IntN(12)]}
			if rng.IntN(2) == 0 {
				in.Regs &= 0x0f
			}
			insns := append(append([]ebpf.Insn(nil), prologue...), in)
			if rng.IntN(2) == 0 {
				insns = append(insns, ebpf.Insn{})
			}
			for range 3 {
				insns = append(insns, ebpf.Insn{Op: 0xb7})
			}
			insns = append(insns, ebpf.Insn{Op: 0x95})
			p := &ebpf.Program{Type: ebpf.SchedCLS, License: "GPL", Insns: insns, Maps: ours, Funcs: []ebpf.Func{{}}}
			_, err := Verify(p, Options{})
			total++
			yes, _ := k.load(p.Type, insns, 0)
			if yes {
				accepted++
			}
			if yes != (err == nil) {
				_, log := k.load(p.Type, insns, 1)
				t.Errorf("%+v: kernel %v, we: %v\n%s", in, yes, err, log)
			}
		}
	}
	t.Logf("encodings: %d programs, %d accepted", total, accepted)
}
