package packet

import "encoding/binary"

// PullVLAN moves the outer tag of a frame from its bytes to the metadata and
// sets Proto and the network offset anew. It reports false if the frame is
// too short for the tag it announces.
func (p *Packet) PullVLAN() bool {
	if !p.Pull(EthernetLen + 4) {
		return false
	}
	h := p.Head()
	p.VLAN = VLAN{Present: true, Proto: binary.BigEndian.Uint16(h[12:]), TCI: binary.BigEndian.Uint16(h[14:])}
	copy(h[4:16], h[0:12])
	p.Trim(4)
	return p.ParseLink()
}

// PushVLAN writes the tag of the metadata into the bytes of the frame.
func (p *Packet) PushVLAN() {
	h := p.Push(4)
	copy(h[0:12], h[4:16])
	binary.BigEndian.PutUint16(h[12:], p.VLAN.Proto)
	binary.BigEndian.PutUint16(h[14:], p.VLAN.TCI)
	p.Proto = p.VLAN.Proto
	p.VLAN = VLAN{}
	p.SetMAC(0)
}
