package router

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"taproom/integration/room"
	"taproom/stack/packet"
)

// rawSocket opens a packet socket on a room's interface, with a time limit.
func rawSocket(t *testing.T, r *room.Room) (fd int, index int) {
	t.Helper()
	err := r.Ns.Do(func() (err error) {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		index = i.Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index}); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, index
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// receive waits for the frame whose payload ends with tag.
func receive(t *testing.T, fd int, tag []byte) []byte {
	t.Helper()
	b := make([]byte, 65536)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			break
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if bytes.HasSuffix(b[:n], tag) {
			return bytes.Clone(b[:n])
		}
	}
	return nil
}

// What a kernel's interface sends with extension headers, options, odd
// checksums or in fragments arrives at the other kernel's interface as it was,
// but for link addresses and hop limit.
func TestHeadersByteByByte(t *testing.T) {
	s := two(t, room.Config{}, room.Config{}, "ping")
	s.A.Run(t, "ping", "-c", "1", room.B4) // both neighbours are known from here on
	s.A.Run(t, "ping", "-c", "1", room.B6)
	out, index := rawSocket(t, s.A)
	in, _ := rawSocket(t, s.B)
	router := s.Node.InterfaceByName("eth0").HardwareAddr()
	src, dst := netip.MustParseAddr(room.A6).As16(), netip.MustParseAddr(room.B6).As16()
	six := func(next byte, rest ...byte) []byte {
		b := make([]byte, 40, 40+len(rest))
		b[0], b[1], b[6], b[7] = 0x6a, 0xbc, next, 33 // traffic class and flow label too
		binary.BigEndian.PutUint16(b[4:], uint16(len(rest)))
		copy(b[8:], src[:])
		copy(b[24:], dst[:])
		return append(b, rest...)
	}
	a4, b4 := netip.MustParseAddr(room.A4).As4(), netip.MustParseAddr(room.B4).As4()
	four := func(options []byte, flags uint16, rest ...byte) []byte {
		b := make([]byte, 20, 60+len(rest))
		b[1], b[8], b[9] = 0xb9, 33, 17
		b = append(b, options...)
		b[0] = 0x40 | byte(len(b)/4)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(rest)))
		binary.BigEndian.PutUint16(b[4:], 0xbeef)
		binary.BigEndian.PutUint16(b[6:], flags)
		copy(b[12:], a4[:])
		copy(b[16:], b4[:])
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b))
		return append(b, rest...)
	}
	udp := append([]byte{0x0f, 0xa0, 0x27, 0x0f, 0, 16, 0x12, 0x34}, "taproom!"...) // a wrong checksum, to be kept
	zero := append([]byte{0x0f, 0xa0, 0x27, 0x0f, 0, 16, 0, 0}, "taproom!"...)
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	hbh := []byte{17, 0, 5, 2, 0, 0, 1, 0}
	dest := []byte{17, 1, 0x1e, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0, 0}
	for name, pkt := range map[string][]byte{
		"hop-by-hop":                  six(0, cat(hbh, udp)...),
		"destination options":         six(60, cat(dest, udp)...),
		"hop-by-hop and destination":  six(0, cat([]byte{60, 0, 5, 2, 0, 0, 1, 0}, dest, udp)...),
		"ioam trace, not ours":        six(0, cat([]byte{17, 2, 1, 0, 0x31, 18, 0, 0, 0, 7, 8, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, udp)...),
		"routing header":              six(43, cat([]byte{17, 2, 0, 0, 0, 0, 0, 0}, make([]byte, 16), udp)...),
		"first fragment":              six(44, cat([]byte{17, 0, 0, 1, 0, 0, 0, 9}, udp)...),
		"later fragment":              six(44, cat([]byte{17, 0, 0x05, 0xa8, 0, 0, 0, 9}, udp)...),
		"no checksum over IPv6":       six(17, zero...),
		"unknown transport":           six(253, udp...),
		"IPv4 options":                four([]byte{7, 7, 4, 0, 0, 0, 0, 0}, 0x4000, udp...),
		"IPv4 first fragment":         four(nil, 0x2000, udp...),
		"IPv4 later fragment":         four(nil, 0x2003, udp...),
		"IPv4 no checksum":            four(nil, 0, zero...),
		"IPv4 a wrong checksum above": four(nil, 0x4000, udp...),
	} {
		t.Run(name, func(t *testing.T) {
			tag := []byte(name)
			pkt := append(bytes.Clone(pkt), tag...)
			proto := []byte{0x86, 0xdd}
			if pkt[0]>>4 == 4 {
				proto = []byte{8, 0}
				binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
				pkt[10], pkt[11] = 0, 0
				binary.BigEndian.PutUint16(pkt[10:], packet.Checksum(pkt[:int(pkt[0]&15)*4]))
			} else {
				binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
			}
			f := cat(router, []byte{2, 0, 0, 0, 0, 9}, proto, pkt)
			if err := unix.Sendto(out, f, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}); err != nil {
				t.Fatal(err)
			}
			got := receive(t, in, tag)
			if got == nil {
				t.Fatalf("it did not arrive; drops %v", s.Node.Counters().Drops)
			}
			want := bytes.Clone(pkt)
			if pkt[0]>>4 == 4 {
				want[8]--
				want[10], want[11] = 0, 0
				binary.BigEndian.PutUint16(want[10:], packet.Checksum(want[:int(want[0]&15)*4]))
			} else {
				want[7]--
			}
			if !bytes.Equal(got[14:], want) {
				t.Errorf("arrived %x\nwant    %x", got[14:], want)
			}
		})
	}
}
