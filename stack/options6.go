package stack

import "taproom/stack/packet"

// hopByHop judges the options every node has to look at (RFC 8200 4.2, 4.3),
// in the order and with the answers of Linux: unknown ones by the top bits of
// their type. It reports whether the packet lives; if not it is gone.
func (i *Interface) hopByHop(p *packet.Packet) bool {
	h := p.Head()
	if h[6] != packet.ProtoHopByHop {
		return true
	}
	if !p.Pull(min(48, p.Len())) || p.Len() < 48 {
		i.dropIn(p, packet.TooShort)
		return false
	}
	n := (int(p.Head()[41]) + 1) * 8
	if !p.Pull(40 + n) {
		i.dropIn(p, packet.TooShort)
		return false
	}
	h = p.Head()
	for at, end, pad := 42, 40+n, 0; at < end; {
		kind := h[at]
		if kind == 0 { // Pad1
			at++
			if pad++; pad > 7 {
				i.dropIn(p, packet.BadHeader)
				return false
			}
			continue
		}
		if at+2 > end || at+2+int(h[at+1]) > end {
			i.dropIn(p, packet.BadHeader)
			return false
		}
		size := 2 + int(h[at+1])
		switch kind {
		case 1: // PadN
			if pad += size; pad > 7 || !zero(h[at+2:at+size]) {
				i.dropIn(p, packet.BadHeader)
				return false
			}
			at += size
			continue
		case 5: // router alert (RFC 2711)
			if size != 4 {
				i.dropIn(p, packet.BadHeader)
				return false
			}
		case 0x31: // IOAM: whoever is interested has filled it
		default:
			if kind>>6 != 0 {
				multicast := h[24] == 0xff
				if kind>>6 == 2 || kind>>6 == 3 && !multicast {
					i.node.icmp6Error(i, p, icmp6ParamProblem, 2, uint32(at))
				}
				i.dropIn(p, packet.OptionUnknown)
				return false
			}
		}
		pad = 0
		at += size
	}
	return true
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
