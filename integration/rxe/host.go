package rxe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Our addresses, unless HostOptions say otherwise.
var (
	HostIP  = netip.MustParseAddr("10.9.0.2")
	HostIP6 = netip.MustParseAddr("fd09::2")
)

// HostOptions are the addresses of our end of a segment. The zero value is
// 52:54:00:00:00:02, 10.9.0.2 and fd09::2.
type HostOptions struct {
	MAC [6]byte
	IP  netip.Addr
	IP6 netip.Addr
}

// Host is the least IP host there can be on a segment: it answers ARP and
// neighbour solicitations, resolves its neighbours, and hands IP packets in both
// directions. There are no routes, fragments, ICMP errors or retransmissions. It
// stands in for a node where a test wants to see every packet itself.
type Host struct {
	link FrameLink
	o    HostOptions

	mu       sync.Mutex
	learned  *sync.Cond
	macs     map[netip.Addr][6]byte
	receive  func(ip []byte)
	closed   bool
	finished chan struct{}
}

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	protoICMPv6  = 58
	icmpSolicit  = 135
	icmpAdvert   = 136
	optTargetMAC = 2
	optSourceMAC = 1

	resolveTries = 5
	resolveWait  = 500 * time.Millisecond
)

// ErrUnreachable is wrapped by Send's error when nobody answers for an address.
var ErrUnreachable = errors.New("rxe: no neighbour has this address")

// NewHost starts to read from link, and closes it when it is closed itself.
func NewHost(link FrameLink, o HostOptions) *Host {
	if o.MAC == [6]byte{} {
		o.MAC = [6]byte{0x52, 0x54, 0, 0, 0, 2}
	}
	if !o.IP.IsValid() {
		o.IP = HostIP
	}
	if !o.IP6.IsValid() {
		o.IP6 = HostIP6
	}
	h := &Host{link: link, o: o, macs: map[netip.Addr][6]byte{}, finished: make(chan struct{})}
	h.learned = sync.NewCond(&h.mu)
	go h.read()
	return h
}

// IP returns the host's IPv4 address.
func (h *Host) IP() netip.Addr { return h.o.IP }

// IP6 returns the host's IPv6 address.
func (h *Host) IP6() netip.Addr { return h.o.IP6 }

// Receive sets the function that gets each IP packet for the host or for a
// group, on the goroutine that reads the link. It may keep nothing of ip, and
// may call Send to a neighbour that has been heard of.
func (h *Host) Receive(f func(ip []byte)) {
	h.mu.Lock()
	h.receive = f
	h.mu.Unlock()
}

// Close closes the link and waits until the reader has stopped.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.learned.Broadcast()
	h.mu.Unlock()
	err := h.link.Close()
	<-h.finished
	return err
}

// runWriter is a link that takes super-frames.
type runWriter interface {
	WriteRun(b []byte, size int) (int, error)
}

// Send sends an IP packet to its destination, a neighbour or a group, resolving
// its address if need be. It does not keep ip.
func (h *Host) Send(ip []byte) error { return h.SendRun(ip, 0) }

// SendRun sends a super-frame of packets with size bytes of UDP payload each; 0
// means that it is a single packet.
func (h *Host) SendRun(ip []byte, size int) error {
	var dst netip.Addr
	typ := uint16(etherIPv4)
	if ip[0]>>4 == 6 {
		dst, typ = netip.AddrFrom16([16]byte(ip[24:40])), etherIPv6
	} else {
		dst = netip.AddrFrom4([4]byte(ip[16:20]))
	}
	mac, err := h.resolve(dst)
	if err != nil {
		return err
	}
	return h.frameRun(mac, typ, ip, size)
}

func (h *Host) frame(dst [6]byte, typ uint16, payload []byte) error {
	return h.frameRun(dst, typ, payload, 0)
}

func (h *Host) frameRun(dst [6]byte, typ uint16, payload []byte, size int) error {
	b := make([]byte, 0, 14+len(payload))
	b = append(append(b, dst[:]...), h.o.MAC[:]...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = append(b, payload...)
	if w, ok := h.link.(runWriter); ok && size > 0 {
		_, err := w.WriteRun(b, size)
		return err
	}
	_, err := h.link.Write(b)
	return err
}

func (h *Host) resolve(a netip.Addr) ([6]byte, error) {
	if a.IsMulticast() {
		return groupMAC(a), nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for try := 0; ; try++ {
		if mac, ok := h.macs[a]; ok {
			return mac, nil
		}
		if try == resolveTries || h.closed {
			return [6]byte{}, fmt.Errorf("%w: %v", ErrUnreachable, a)
		}
		if err := h.ask(a); err != nil {
			return [6]byte{}, err
		}
		t := time.AfterFunc(resolveWait, func() { h.mu.Lock(); h.learned.Broadcast(); h.mu.Unlock() })
		for end := time.Now().Add(resolveWait); time.Now().Before(end) && !h.closed; {
			if _, ok := h.macs[a]; ok {
				break
			}
			h.learned.Wait()
		}
		t.Stop()
	}
}

// groupMAC returns the Ethernet address of a multicast group (RFC 1112 6.4,
// RFC 2464 7).
func groupMAC(a netip.Addr) [6]byte {
	if a.Is4() {
		b := a.As4()
		return [6]byte{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := a.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// ask sends an ARP request or a neighbour solicitation.
func (h *Host) ask(a netip.Addr) error {
	if a.Is4() {
		return h.frame([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, etherARP, h.arp(1, [6]byte{}, a))
	}
	t := a.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	return h.frame(groupMAC(group), etherIPv6, h.neighbour(icmpSolicit, 0, group, a, optSourceMAC))
}

func (h *Host) arp(op uint16, mac [6]byte, a netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	own, to := h.o.IP.As4(), a.As4()
	b = append(append(b, h.o.MAC[:]...), own[:]...)
	return append(append(b, mac[:]...), to[:]...)
}

// neighbour makes a neighbour solicitation or advertisement (RFC 4861 4.3, 4.4).
func (h *Host) neighbour(typ, flags byte, dst, target netip.Addr, opt byte) []byte {
	src, to, t := h.o.IP6.As16(), dst.As16(), target.As16()
	b := []byte{0x60, 0, 0, 0, 0, 32, protoICMPv6, 255}
	b = append(append(b, src[:]...), to[:]...)
	icmp := len(b)
	b = append(b, typ, 0, 0, 0, flags, 0, 0, 0)
	b = append(append(b, t[:]...), opt, 1)
	b = append(b, h.o.MAC[:]...)
	sum := uint32(len(b)-icmp) + protoICMPv6
	for i := 8; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[icmp+2:], ^uint16(sum))
	return b
}

func (h *Host) read() {
	defer close(h.finished)
	buf := make([]byte, 64<<10)
	for {
		n, err := h.link.Read(buf)
		if err != nil {
			return
		}
		if n >= 14 {
			h.handle(buf[:n])
		}
	}
}

func (h *Host) handle(f []byte) {
	if f[0]&1 == 0 && !bytes.Equal(f[:6], h.o.MAC[:]) {
		return
	}
	mac, p := [6]byte(f[6:]), f[14:]
	switch typ := binary.BigEndian.Uint16(f[12:]); {
	case typ == etherARP && len(p) >= 28:
		h.learn(netip.AddrFrom4([4]byte(p[14:])), mac)
		if p[7] == 1 && netip.AddrFrom4([4]byte(p[24:])) == h.o.IP {
			_ = h.frame(mac, etherARP, h.arp(2, mac, netip.AddrFrom4([4]byte(p[14:]))))
		}
	case typ == etherIPv6 && len(p) >= 64 && p[6] == protoICMPv6 && (p[40] == icmpSolicit || p[40] == icmpAdvert):
		h.handleND(mac, p)
	case typ == etherIPv4 && len(p) >= 20 || typ == etherIPv6 && len(p) >= 40:
		h.mu.Lock()
		h.glean(p, mac)
		receive := h.receive
		h.mu.Unlock()
		if receive != nil {
			receive(p)
		}
	}
}

// glean learns a neighbour from a packet of its own: an answer to it, sent by who
// reads the link, could not wait for ARP.
func (h *Host) glean(p []byte, mac [6]byte) {
	src := netip.AddrFrom4([4]byte(p[12:]))
	if p[0]>>4 == 6 {
		src = netip.AddrFrom16([16]byte(p[8:]))
	}
	if _, ok := h.macs[src]; !ok {
		h.macs[src] = mac
		h.learned.Broadcast()
	}
}

func (h *Host) handleND(mac [6]byte, p []byte) {
	src, target := netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[48:]))
	if p[40] == icmpAdvert {
		h.learn(target, mac)
		return
	}
	if !src.IsUnspecified() {
		h.learn(src, mac)
	}
	if target == h.o.IP6 && !src.IsUnspecified() {
		_ = h.frame(mac, etherIPv6, h.neighbour(icmpAdvert, 0x60, src, target, optTargetMAC))
	}
}

func (h *Host) learn(a netip.Addr, mac [6]byte) {
	h.mu.Lock()
	h.macs[a] = mac
	h.learned.Broadcast()
	h.mu.Unlock()
}
