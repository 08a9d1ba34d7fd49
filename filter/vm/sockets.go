package vm

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"taproom/filter/helper"
	"taproom/stack/packet"
)

func init() {
	helpers[helper.SkLookupTCP] = func(r *Run, _, t, n, ns, flags uint64) uint64 {
		return r.skLookup(packet.ProtoTCP, t, n, ns, flags)
	}
	helpers[helper.SkcLookupTCP] = helpers[helper.SkLookupTCP]
	helpers[helper.SkLookupUDP] = func(r *Run, _, t, n, ns, flags uint64) uint64 {
		return r.skLookup(packet.ProtoUDP, t, n, ns, flags)
	}
	helpers[helper.SkRelease] = zero
	helpers[helper.SkFullsock] = func(_ *Run, sk, _, _, _, _ uint64) uint64 { return sk }
	helpers[helper.TCPSock] = zero // what struct bpf_tcp_sock tells is not known here
	helpers[helper.GetListenerSock] = func(r *Run, sk, _, _, _, _ uint64) uint64 {
		if s := r.socket(sk); s != nil && s.State == tcpListen {
			return sk
		}
		return 0
	}
	helpers[helper.SkAssign] = skAssign
	for _, id := range []helper.ID{
		helper.TCPCheckSyncookie, helper.TCPGenSyncookie, helper.TCPRawGenSyncookieIpv4,
		helper.TCPRawGenSyncookieIpv6, helper.TCPRawCheckSyncookieIpv4, helper.TCPRawCheckSyncookieIpv6,
	} {
		// As on a kernel without CONFIG_SYN_COOKIES.
		helpers[id] = func(*Run, uint64, uint64, uint64, uint64, uint64) uint64 { return eNotSup }
	}
}

// Layout of struct bpf_sock (uapi linux/bpf.h).
const (
	sockLen     = 80
	sockBound   = 0
	sockFamily  = 4
	sockType    = 8
	sockProto   = 12
	sockMark    = 16
	sockPrio    = 20
	sockSrc4    = 24
	sockSrc6    = 28
	sockSrcPort = 44 // host order
	sockDstPort = 48 // network order
	sockDst4    = 52
	sockDst6    = 56
	sockState   = 72

	tcpListen = 10

	// Struct bpf_sock_tuple: addresses, then ports, of the packet.
	tuple4Len = 12
	tuple6Len = 36
)

// sockMem is what a socket pointer points to.
type sockMem struct {
	info [sockLen]byte
	sock Socket
}

// skLookup is bpf_sk_lookup_tcp and bpf_sk_lookup_udp: the address of a struct bpf_sock,
// 0 if there is none.
func (r *Run) skLookup(proto uint8, tuple, n, netns, flags uint64) uint64 {
	b := r.mem(tuple, uint64(uint32(n)), false)
	if b == nil || flags != 0 || int64(netns) != -1 && int32(netns) >= 0 || r.env == nil {
		return 0
	}
	q := SocketQuery{Proto: proto, Ifindex: r.device0(), Listen: true}
	be := binary.BigEndian
	switch len(b) {
	case tuple4Len:
		q.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), be.Uint16(b[8:]))
		q.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), be.Uint16(b[10:]))
	case tuple6Len:
		q.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), be.Uint16(b[32:]))
		q.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:])), be.Uint16(b[34:]))
	default:
		return 0
	}
	s, ok := r.env.Socket(q)
	if !ok {
		return 0
	}
	m := &sockMem{sock: s}
	m.fill()
	r.socks = append(r.socks, m)
	return r.grant(m.info[:], false)
}

func (m *sockMem) fill() {
	le, b, s := binary.LittleEndian, m.info[:], &m.sock
	le.PutUint32(b[sockBound:], uint32(s.Bound))
	le.PutUint32(b[sockFamily:], s.Family)
	le.PutUint32(b[sockType:], s.Type)
	le.PutUint32(b[sockProto:], s.Protocol)
	le.PutUint32(b[sockMark:], s.Mark)
	le.PutUint32(b[sockPrio:], s.Priority)
	le.PutUint32(b[sockState:], s.State)
	le.PutUint32(b[sockSrcPort:], uint32(s.Local.Port()))
	binary.BigEndian.PutUint16(b[sockDstPort:], s.Remote.Port())
	put := func(a netip.Addr, at4, at6 int) {
		switch {
		case !a.IsValid():
		case a.Is4():
			copy(b[at4:], a.AsSlice())
		default:
			copy(b[at6:], a.AsSlice())
		}
	}
	put(s.Local.Addr(), sockSrc4, sockSrc6)
	put(s.Remote.Addr(), sockDst4, sockDst6)
}

// socket returns the socket that a pointer stands for, nil if none.
func (r *Run) socket(p uint64) *Socket {
	for _, m := range r.socks {
		if addressOf(m.info[:]) == p {
			return &m.sock
		}
	}
	return nil
}

// skAssign is bpf_sk_assign: the packet goes to the socket whatever its addresses say.
func skAssign(r *Run, _, sk, flags, _, _ uint64) uint64 {
	s := r.socket(sk)
	switch {
	case flags != 0 || r.env == nil:
		return eInval
	case s == nil:
		return errno(syscall.ENOENT)
	case r.skb.Out != 0:
		return eNotSup // only on the way in
	}
	return errno(r.env.Assign(r.skb, *s))
}
