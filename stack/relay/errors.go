package relay

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"taproom/stack"
	"taproom/stack/packet"
)

// Kinds of unreachable, with their codes in ICMP (RFC 792, 1812) and ICMPv6
// (RFC 4443).
type unreachableKind struct{ code4, code6 uint8 }

var (
	codeNet      = unreachableKind{0, 0}
	codeHost     = unreachableKind{1, 3}
	codeProtocol = unreachableKind{2, 4}
	codePort     = unreachableKind{3, 4}
	codeAdmin    = unreachableKind{13, 1}
)

func unreachable(h []byte, k unreachableKind) stack.ICMPError {
	if h[0]>>4 == 4 {
		return stack.ICMPError{Type: 3, Code: k.code4}
	}
	return stack.ICMPError{Type: 1, Code: k.code6}
}

func timeExceeded(h []byte) stack.ICMPError {
	if h[0]>>4 == 4 {
		return stack.ICMPError{Type: 11}
	}
	return stack.ICMPError{Type: 3}
}

func tooBig(h []byte, mtu int) stack.ICMPError {
	if h[0]>>4 == 4 {
		return stack.ICMPError{Type: 3, Code: 4, Info: uint32(mtu)}
	}
	return stack.ICMPError{Type: 2, Info: uint32(max(mtu, 1280))}
}

// fromErrno says what the container is to be told of a host socket's error,
// and whether it is to be told anything.
func fromErrno(h []byte, err error) (stack.ICMPError, bool) {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return unreachable(h, codePort), true
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EHOSTDOWN):
		return unreachable(h, codeHost), true
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		return unreachable(h, codeNet), true
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return unreachable(h, codeAdmin), true
	}
	return stack.ICMPError{}, false
}

// quote keeps the start of a packet for errors about it that come later: the
// network header and what an error must quote of the transport's.
func quote(p *packet.Packet, l4 int) *packet.Packet {
	q := packet.Alloc(min(p.Len(), l4+20))
	p.CopyTo(q.Head(), 0)
	q.In, q.Type, q.Proto = p.In, packet.Host, p.Proto
	q.SetL3(0)
	return q
}

// socketErrors drains a socket's error queue (IP_RECVERR) and returns the
// last ICMP error in it, in the name of the router that sent it.
func socketErrors(fd int, h []byte) (e stack.ICMPError, ok bool) {
	var data [512]byte
	var oob [512]byte
	for {
		_, n, _, _, err := unix.Recvmsg(fd, data[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return e, ok
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			continue
		}
		for _, m := range msgs {
			if k, good := parseExtendedError(m.Data, h); good {
				e, ok = k, true
			}
		}
	}
}

// parseExtendedError reads a struct sock_extended_err with the offender's
// address behind it (uapi linux/errqueue.h).
func parseExtendedError(b []byte, h []byte) (stack.ICMPError, bool) {
	if len(b) < 16 {
		return stack.ICMPError{}, false
	}
	errno := unix.Errno(binary.LittleEndian.Uint32(b))
	origin := b[4]
	e := stack.ICMPError{Type: b[5], Code: b[6], Info: binary.LittleEndian.Uint32(b[8:])}
	switch origin {
	case unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6:
	case unix.SO_EE_ORIGIN_LOCAL:
		if errno == unix.EMSGSIZE {
			return tooBig(h, int(e.Info)), true
		}
		return fromErrno(h, errno)
	default:
		return stack.ICMPError{}, false
	}
	sa := b[16:]
	switch {
	case len(sa) >= 8 && binary.LittleEndian.Uint16(sa) == unix.AF_INET:
		e.From = netip.AddrFrom4([4]byte(sa[4:8]))
	case len(sa) >= 24 && binary.LittleEndian.Uint16(sa) == unix.AF_INET6:
		e.From = netip.AddrFrom16([16]byte(sa[8:24]))
	}
	if e.From.IsLoopback() || e.From.IsUnspecified() || e.From.IsValid() && e.From.Is4() != (h[0]>>4 == 4) {
		e.From = netip.Addr{}
	}
	return e, true
}
