package verifier

import "taproom/filter/ebpf"

// Disassemble prints the instruction at a slot of a program in the style of
// the kernel's log, its opcode in front: "(b7) r0 = 0". The program need not be
// valid; a slot outside it gives an empty string.
func Disassemble(p *ebpf.Program, slot int) string {
	if slot < 0 || slot >= len(p.Insns) {
		return ""
	}
	v := &verifier{prog: p, insns: p.Insns}
	for _, m := range p.Maps {
		i := new(mapInfo)
		i.spec = m.Spec()
		v.maps = append(v.maps, i)
	}
	return v.disassemble(slot)
}
