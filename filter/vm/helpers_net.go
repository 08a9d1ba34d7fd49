package vm

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/stack/packet"
)

// Verdicts that helpers return (TC_ACT_* and XDP_*).
const (
	tcShot      = 2
	tcRedirect  = 7
	xdpAborted  = 0
	xdpRedirect = 4
)

func init() {
	helpers[helper.Redirect] = redirect
	helpers[helper.RedirectPeer] = redirectPeer
	helpers[helper.RedirectNeigh] = redirectNeigh
	helpers[helper.RedirectMap] = redirectMap
	helpers[helper.CloneRedirect] = cloneRedirect
	helpers[helper.SKBSetTunnelKey] = setTunnelKey
	helpers[helper.SKBGetTunnelKey] = getTunnelKey
	helpers[helper.SKBSetTunnelOpt] = setTunnelOpt
	helpers[helper.SKBGetTunnelOpt] = getTunnelOpt
	helpers[helper.SKBGetXfrmState] = func(*Run, uint64, uint64, uint64, uint64, uint64) uint64 { return eInval }
}

// redirectTo notes where the packet is to go if the program's verdict is to redirect.
func (r *Run) redirectTo(ifindex, flags uint64) {
	r.skb.RedirectTo, r.skb.RedirectFlags = int(uint32(ifindex)), uint32(flags)
}

func redirect(r *Run, ifindex, flags, _, _, _ uint64) uint64 {
	if r.kind == ctxXDP {
		if flags != 0 {
			return xdpAborted
		}
		r.redirectTo(ifindex, 0)
		return xdpRedirect
	}
	if flags&^packet.RedirectIngress != 0 {
		return tcShot
	}
	r.redirectTo(ifindex, flags)
	return tcRedirect
}

func redirectPeer(r *Run, ifindex, flags, _, _, _ uint64) uint64 {
	if flags != 0 {
		return tcShot
	}
	r.redirectTo(ifindex, RedirectPeer)
	return tcRedirect
}

// neighLen is the size of struct bpf_redir_neigh: family, then an address.
const neighLen = 20

func redirectNeigh(r *Run, ifindex, params, n, flags, _ uint64) uint64 {
	n = uint64(uint32(n))
	if flags != 0 || n > 0 && n < neighLen {
		return tcShot
	}
	var via netip.Addr
	how := uint64(RedirectNeigh)
	if n > 0 {
		b := r.mem(params, n, false)
		if b == nil {
			return 0
		}
		how |= RedirectNextHop
		switch binary.LittleEndian.Uint32(b) {
		case syscall.AF_INET:
			via = netip.AddrFrom4([4]byte(b[4:8]))
		case syscall.AF_INET6:
			via = netip.AddrFrom16([16]byte(b[4:20]))
		default:
			return tcShot
		}
	}
	r.redirectTo(ifindex, how)
	if r.env != nil {
		r.env.NextHop(r.skb, via)
	}
	return tcRedirect
}

// redirectMap is bpf_redirect_map: the low bits of flags are the verdict for an empty
// slot.
func redirectMap(r *Run, handle, key, flags, _, _ uint64) uint64 {
	m := r.mapOf(handle)
	if m == nil {
		return 0
	}
	const verdict = 3
	if flags&^verdict != 0 {
		return xdpAborted
	}
	var k [4]byte
	binary.LittleEndian.PutUint32(k[:], uint32(key))
	v, ok := m.Elem(k[:min(4, m.KeySize())], 0)
	if !ok || len(v) < 4 || binary.LittleEndian.Uint32(v) == 0 {
		return flags & verdict
	}
	to := binary.LittleEndian.Uint32(v)
	if m.Type() != maps.DevMap && m.Type() != maps.DevMapHash {
		return flags & verdict
	}
	r.redirectTo(uint64(to), 0)
	return xdpRedirect
}

func cloneRedirect(r *Run, _, ifindex, flags, _, _ uint64) uint64 {
	if flags&^packet.RedirectIngress != 0 || r.env == nil {
		return eInval
	}
	r.pushMeta()
	clone := r.skb.Clone()
	e := r.env.Clone(clone, int(uint32(ifindex)), flags&packet.RedirectIngress != 0)
	return errno(e)
}

// Layout and flags of struct bpf_tunnel_key.
const (
	tunnelLen    = 44
	tunnelRemote = 4
	tunnelTOS    = 20
	tunnelTTL    = 21
	tunnelFlags  = 22
	tunnelLabel  = 24
	tunnelLocal  = 28
	tunnelMin    = 8 // tunnel_id and remote_ipv4

	tunIPv6      = 1 << 0 // BPF_F_TUNINFO_IPV6
	tunSetFlags  = 1<<1 | 1<<2 | 1<<3 | 1<<4
	tunGetFlags  = 1 << 4 // BPF_F_TUNINFO_FLAGS
	tunnelMaxOpt = 256
)

// tunnelSize reports whether programs of some time passed a key of n bytes.
func tunnelSize(n int) bool {
	switch n {
	case tunnelLen, tunnelLocal, tunnelLabel, tunnelFlags, tunnelMin:
		return true
	}
	return false
}

func setTunnelKey(r *Run, _, p, n, flags, _ uint64) uint64 {
	b := r.mem(p, uint64(uint32(n)), false)
	if b == nil {
		return 0
	}
	if flags&^(tunIPv6|tunSetFlags) != 0 || !tunnelSize(len(b)) || r.env == nil {
		return eInval
	}
	var k [tunnelLen]byte
	copy(k[:], b)
	le := binary.LittleEndian
	label := le.Uint32(k[tunnelLabel:])
	if flags&tunIPv6 == 0 && label != 0 || label>>20 != 0 {
		return eInval
	}
	t := Tunnel{ID: uint64(le.Uint32(k[:])), TOS: k[tunnelTOS], TTL: k[tunnelTTL], Label: label, Flags: uint16(flags)}
	if flags&tunIPv6 != 0 {
		t.Remote = netip.AddrFrom16([16]byte(k[tunnelRemote:]))
		t.Local = netip.AddrFrom16([16]byte(k[tunnelLocal:]))
	} else {
		t.Remote = hostAddr4(le.Uint32(k[tunnelRemote:]))
		t.Local = hostAddr4(le.Uint32(k[tunnelLocal:]))
	}
	return errno(r.env.SetTunnel(r.skb, t))
}

// hostAddr4 makes an address of a number in host order, as struct bpf_tunnel_key has.
func hostAddr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func addr4Host(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func getTunnelKey(r *Run, _, p, n, flags, _ uint64) uint64 {
	b := r.mem(p, uint64(uint32(n)), true)
	if b == nil {
		return 0
	}
	clear(b)
	if flags&^(tunIPv6|tunGetFlags) != 0 || r.env == nil || !tunnelSize(len(b)) {
		return eInval
	}
	t, ok := r.env.Tunnel(r.skb)
	if !ok {
		return eInval
	}
	if t.Remote.Is6() != (flags&tunIPv6 != 0) {
		return errno(syscall.EPROTO)
	}
	var k [tunnelLen]byte
	le := binary.LittleEndian
	le.PutUint32(k[:], uint32(t.ID))
	k[tunnelTOS], k[tunnelTTL] = t.TOS, t.TTL
	if flags&tunGetFlags != 0 {
		le.PutUint16(k[tunnelFlags:], t.Flags)
	}
	if t.Remote.Is6() {
		remote, local := t.Remote.As16(), t.Local.As16()
		copy(k[tunnelRemote:], remote[:])
		copy(k[tunnelLocal:], local[:])
		le.PutUint32(k[tunnelLabel:], t.Label)
	} else {
		le.PutUint32(k[tunnelRemote:], addr4Host(t.Remote))
		le.PutUint32(k[tunnelLocal:], addr4Host(t.Local))
	}
	copy(b, k[:])
	return 0
}

func setTunnelOpt(r *Run, _, p, n, _, _ uint64) uint64 {
	b := r.mem(p, uint64(uint32(n)), false)
	if b == nil {
		return 0
	}
	if r.env == nil || len(b)%4 != 0 {
		return eInval
	}
	if len(b) > tunnelMaxOpt {
		return eNoMem
	}
	t, ok := r.env.Tunnel(r.skb)
	if !ok {
		return eInval
	}
	t.Opt = append([]byte(nil), b...)
	return errno(r.env.SetTunnel(r.skb, t))
}

func getTunnelOpt(r *Run, _, p, n, _, _ uint64) uint64 {
	b := r.mem(p, uint64(uint32(n)), true)
	if b == nil {
		return 0
	}
	clear(b)
	if r.env == nil {
		return eInval
	}
	t, ok := r.env.Tunnel(r.skb)
	if !ok || len(t.Opt) == 0 {
		return errno(syscall.ENOENT)
	}
	if len(t.Opt) > len(b) {
		return eNoMem
	}
	copy(b, t.Opt)
	return uint64(len(t.Opt))
}
