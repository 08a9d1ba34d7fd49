package tap

import (
	"bytes"
	"encoding/binary"
	"testing"

	"taproom/stack/packet"
)

// tcpFrame is an Ethernet frame of n bytes of TCP payload, with nonsense for
// checksums.
func tcpFrame(n int) []byte {
	b := make([]byte, 14+20+20+n)
	b[12] = 8
	b[14], b[22], b[23], b[46] = 0x45, 64, 6, 0x50
	binary.BigEndian.PutUint16(b[16:], uint16(40+n))
	return b
}

func header(flags, gso byte, hdrLen, size, start, offset uint16) []byte {
	h := []byte{flags, gso}
	for _, v := range []uint16{hdrLen, size, start, offset} {
		h = binary.NativeEndian.AppendUint16(h, v)
	}
	return h
}

func TestDecodeVnet(t *testing.T) {
	for _, tt := range []struct {
		name  string
		h     []byte
		frame []byte
		ok    bool
		gso   packet.GSO
		csum  bool
	}{
		{"nothing", header(0, 0, 0, 0, 0, 0), tcpFrame(100), true, packet.GSO{}, false},
		{"partial checksum", header(1, 0, 0, 0, 34, 16), tcpFrame(100), true, packet.GSO{}, true},
		{"super-frame", header(1, 1, 54, 1000, 34, 16), tcpFrame(2500), true, packet.GSO{Type: packet.GSOTCPv4, Size: 1000, Segs: 3}, true},
		{"with ECN", header(1, 0x81, 54, 1000, 34, 16), tcpFrame(2500), true, packet.GSO{Type: packet.GSOTCPv4, ECN: true, Size: 1000, Segs: 3}, true},
		{"absurd hdr_len", header(1, 1, 65535, 1000, 34, 16), tcpFrame(2500), true, packet.GSO{Type: packet.GSOTCPv4, Size: 1000, Segs: 3}, true},
		{"no checksum flag", header(0, 1, 0, 1000, 0, 0), tcpFrame(2500), true, packet.GSO{Type: packet.GSOTCPv4, Size: 1000, Segs: 3}, true},
		{"one segment", header(1, 1, 54, 1000, 34, 16), tcpFrame(1000), true, packet.GSO{}, true},
		{"checksum behind the end", header(1, 0, 0, 0, 140, 16), tcpFrame(100), false, packet.GSO{}, false},
		{"checksum far behind", header(1, 0, 0, 0, 65535, 65535), tcpFrame(100), false, packet.GSO{}, false},
		{"checksum in the MAC header", header(1, 0, 0, 0, 0, 2), tcpFrame(100), false, packet.GSO{}, false},
		{"checksum in the IP header", header(1, 1, 54, 1000, 20, 16), tcpFrame(2500), false, packet.GSO{}, false},
		{"size 0", header(1, 1, 54, 0, 34, 16), tcpFrame(2500), false, packet.GSO{}, false},
		{"wrong family", header(1, 4, 54, 1000, 34, 16), tcpFrame(2500), false, packet.GSO{}, false},
		{"UDP without UDP", header(1, 5, 54, 1000, 34, 6), tcpFrame(2500), false, packet.GSO{}, false},
		{"fragment offload", header(1, 3, 54, 1000, 34, 16), tcpFrame(2500), false, packet.GSO{}, false},
		{"unknown type", header(1, 0x45, 54, 1000, 34, 16), tcpFrame(2500), false, packet.GSO{}, false},
		{"no IP", header(1, 1, 54, 1000, 34, 16), make([]byte, 60), false, packet.GSO{}, false},
	} {
		p := packet.New(tt.frame)
		if !ParseFrame(p, Ethernet) {
			t.Fatal(tt.name)
		}
		ok := decodeVnet(tt.h, p)
		if ok != tt.ok || ok && (p.GSO != tt.gso || p.CsumPartial != tt.csum) {
			t.Errorf("%s: %v, %+v, partial %v; want %v, %+v, %v", tt.name, ok, p.GSO, p.CsumPartial, tt.ok, tt.gso, tt.csum)
		}
		p.Release()
	}
}

func TestEncodeVnet(t *testing.T) {
	for _, h := range [][]byte{
		header(0, 0, 0, 0, 0, 0),
		header(1, 0, 0, 0, 34, 16),
		header(1, 1, 54, 1000, 34, 16),
		header(1, 0x81, 54, 1448, 34, 16),
	} {
		p := packet.New(tcpFrame(3000))
		ParseFrame(p, Ethernet)
		if !decodeVnet(h, p) {
			t.Fatal(h)
		}
		got := make([]byte, vnetLen)
		if !encodeVnet(got, p) || !bytes.Equal(got, h) {
			t.Errorf("decoded and encoded again %x is %x", h, got)
		}
		p.Release()
	}
}

// FuzzFrame gives the reader's parser frames with headers that lie, and wants
// whatever it lets through to survive every way out.
func FuzzFrame(f *testing.F) {
	f.Add(header(1, 1, 54, 1000, 34, 16), tcpFrame(2500), false)
	f.Add(header(1, 4, 0, 100, 40, 16), []byte{0x60, 0, 0, 0, 0, 20, 6}, true)
	f.Fuzz(func(t *testing.T, h, b []byte, tun bool) {
		if len(h) < vnetLen || len(b) > 20000 {
			return
		}
		live := packet.Live()
		kind := Ethernet
		if tun {
			kind = IP
		}
		p := packet.New(b)
		if ParseFrame(p, kind) && decodeVnet(h, p) {
			if !encodeVnet(make([]byte, vnetLen), p) {
				t.Error("what was let in is not let out")
			}
			n := 0
			Emit(p.Clone(), Offloads{}, func(q *packet.Packet) {
				if n++; q.GSO.Type != packet.GSONone || q.CsumPartial {
					t.Error("a frame left unfinished")
				}
				q.Release()
			}, func(q *packet.Packet, r packet.Reason) {
				t.Errorf("what was let in is dropped: %v", r)
				q.Release()
			})
			if want := max(1, int(p.GSO.Segs)); n != want {
				t.Errorf("%d frames, want %d", n, want)
			}
		}
		p.Release()
		if packet.Live() != live {
			t.Error("packets have not been released")
		}
	})
}
