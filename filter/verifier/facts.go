package verifier

import "taproom/filter/helper"

// noFact marks an entry that no visit has filled in yet.
const noFact = -2

// noteRegion records what the instruction at v.pc accesses, and keeps only what
// all its visits agree on.
func (v *verifier) noteRegion(r Region, st string, m *mapInfo) {
	f := &v.facts[v.pc]
	switch {
	case f.Region == RegionNone:
		f.Region, f.Struct = r, st
	case f.Region != r || f.Struct != st:
		f.Region, f.Struct = RegionMixed, ""
	}
	if m != nil {
		v.noteMap(m)
	}
}

func (v *verifier) noteMap(m *mapInfo) {
	f := &v.facts[v.pc]
	if f.MapIndex == noFact {
		f.MapIndex = m.index
	} else if f.MapIndex != m.index {
		f.MapIndex = -1
	}
}

func (v *verifier) noteKey(key uint32, known bool) {
	f := &v.facts[v.pc]
	switch {
	case !f.keySeen:
		f.keySeen, f.ConstKey, f.Key = true, known, key
	case !known || f.Key != key:
		f.ConstKey = false
	}
}

func (v *verifier) noteCallee(start int) {
	f := &v.facts[v.pc]
	if f.Callee == noFact {
		f.Callee = int32(start)
	} else if f.Callee != int32(start) {
		f.Callee = -1
	}
}

// result gathers what the walk learned.
func (v *verifier) result() *Result {
	r := &Result{
		Processed: v.processed, TotalStates: v.totalStates, PeakStates: v.peakStates, MaxPath: v.maxPath,
		Insns: v.facts, MaxPacketOff: v.maxPacketOff, WritesPacket: v.writesPacket,
	}
	for i := range r.Insns {
		f := &r.Insns[i]
		f.MapIndex, f.Callee = max(f.MapIndex, -1), max(f.Callee, -1)
		if !f.ConstKey {
			f.Key = 0
		}
		in := v.insns[i]
		if f.Visited && in.IsHelperCall() {
			p := helper.Lookup(helper.ID(in.Imm))
			r.TailCalls = r.TailCalls || p.ID == helper.TailCall
			r.WritesPacket = r.WritesPacket || p.Is(helper.MovesData)
		}
		if f.Visited && in.IsWide() && i+1 < len(r.Insns) {
			r.Insns[i+1].Visited = true
		}
	}
	for i := range v.subprogs {
		s := &v.subprogs[i]
		r.Subprogs = append(r.Subprogs, Subprog{
			Start: s.start, End: s.end, StackDepth: s.depth, Callback: s.callback, Global: s.global,
		})
	}
	return r
}
