package cbpf

import "encoding/binary"

// EtherTypes and protocols on the way to a payload.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	protoICMP    = 1
	protoIGMP    = 2
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

// payload returns the offset of what follows the transport header, as far as it
// can be found in the linear bytes (SKF_AD_PAY_OFFSET): of the transport header if
// that is unknown or a later fragment's, 0 if there is none.
func payload(data []byte, network int, ether uint16) uint32 {
	at := network
	for ether == etherVLAN || ether == etherQinQ {
		if !has(data, at, 4) {
			return 0
		}
		ether, at = binary.BigEndian.Uint16(data[at+2:]), at+4
	}
	var proto uint8
	later := false // a fragment other than the first
	switch ether {
	case etherIPv4:
		if !has(data, at, 20) || data[at]&0xf < 5 {
			return 0
		}
		proto = data[at+9]
		later = binary.BigEndian.Uint16(data[at+6:])&0x1fff != 0
		at += int(data[at]&0xf) * 4
	case etherIPv6:
		if !has(data, at, 40) {
			return 0
		}
		if proto, at, later = skipIPv6(data, at); at == 0 {
			return 0
		}
	default:
		return 0
	}
	if later {
		return uint32(at)
	}
	switch proto {
	case protoTCP:
		if !has(data, at, 13) {
			return uint32(at)
		}
		return uint32(at + max(20, int(data[at+12]&0xf0)>>2))
	case protoUDP, protoUDPLite, protoICMP, protoICMPv6, protoIGMP:
		return uint32(at + 8)
	case protoDCCP, protoSCTP:
		return uint32(at + 12)
	}
	return uint32(at)
}

// skipIPv6 walks over extension headers (RFC 8200, 4). at is 0 if they are cut off.
func skipIPv6(data []byte, start int) (proto uint8, at int, later bool) {
	const hopByHop, routing, fragment, auth, destination = 0, 43, 44, 51, 60
	proto, at = data[start+6], start+40
	for {
		switch proto {
		case hopByHop, routing, destination:
			if !has(data, at, 2) {
				return 0, 0, false
			}
			proto, at = data[at], at+int(data[at+1])*8+8
		case auth:
			if !has(data, at, 2) {
				return 0, 0, false
			}
			proto, at = data[at], at+int(data[at+1])*4+8
		case fragment:
			if !has(data, at, 8) {
				return 0, 0, false
			}
			later = binary.BigEndian.Uint16(data[at+2:])&^7 != 0
			proto, at = data[at], at+8
			if later {
				return proto, at, true
			}
		default:
			return proto, at, false
		}
	}
}

func has(data []byte, at, n int) bool { return at >= 0 && at+n <= len(data) }
