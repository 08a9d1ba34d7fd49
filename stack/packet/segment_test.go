package packet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var flows = map[string]flow{
	"TCPv4":                 {id: 0xfffe, seq: 0xfffffff0, flags: tcpACK | tcpPSH, df: true},
	"TCPv4 with FIN":        {flags: tcpACK | tcpPSH | tcpFIN},
	"TCPv4 with CWR":        {flags: tcpACK | tcpCWR | tcpECE, tos: 2},
	"TCPv4 with timestamps": {flags: tcpACK, options: []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}},
	"TCPv4 in a VLAN":       {flags: tcpACK, tags: 1},
	"TCPv6":                 {v6: true, flags: tcpACK, tos: 0xb8},
	"TCPv6 in two VLANs":    {v6: true, flags: tcpACK | tcpPSH, tags: 2},
	"TCPv6 with extension headers": {v6: true, flags: tcpACK, first: ProtoHopByHop,
		ext: []byte{ProtoDestOpts, 0, 1, 4, 0, 0, 0, 0, ProtoTCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	"UDPv4": {udp: true, id: 7},
	"UDPv6": {udp: true, v6: true},
	"UDPv6 with extension headers": {udp: true, v6: true, first: ProtoDestOpts,
		ext: []byte{ProtoUDP, 0, 1, 4, 0, 0, 0, 0}},
}

func payloadOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestSegmenter(t *testing.T) {
	for name, f := range flows {
		for _, size := range []struct{ payload, mss int }{
			{1, 1000}, {1000, 1000}, {1001, 1000}, {2999, 1000}, {65000, 1448}, {65000, 8948}, {777, 10}, {3001, 1501},
		} {
			t.Run(fmt.Sprintf("%s/%d by %d", name, size.payload, size.mss), func(t *testing.T) {
				live := Live()
				payload := payloadOf(size.payload)
				p := f.super(payload, size.mss)
				if got := cut(t, p); !same(got, f.segments(payload, size.mss)) {
					t.Error(cmp.Diff(f.segments(payload, size.mss), got))
				}
				if n := Live() - live; n != 0 {
					t.Errorf("%d packets have not been released", n)
				}
			})
		}
	}
}

// TestSegmentTunnels cuts super-frames inside IP packets; GRO leaves their
// segments alone.
func TestSegmentTunnels(t *testing.T) {
	for _, f := range []flow{
		{flags: tcpACK | tcpPSH, id: 9, outer: []byte{4}},
		{flags: tcpACK, id: 9, outer: []byte{6}},
		{v6: true, flags: tcpACK, outer: []byte{6}},
		{v6: true, udp: true, tags: 1, outer: []byte{4}},
		{v6: true, udp: true, outer: []byte{6, 4, 6}},
	} {
		want := f.segments(payloadOf(5000), 1200)
		p := f.super(payloadOf(5000), 1200)
		if err := p.PrepareGSO(); err != nil || !p.GSOInTunnel() {
			t.Errorf("%+v: %v, in tunnel %v", f, err, p.GSOInTunnel())
		}
		if n, longest := p.NetworkLen(), len(want[0])-14-4*f.tags; n != longest {
			t.Errorf("%+v: network length %d, want %d", f, n, longest)
		}
		if got := cut(t, p); !same(got, want) {
			t.Errorf("%+v: %s", f, cmp.Diff(want, got))
		}
		if n, got := roundTrip(t, want); n != len(want) || !same(got, want) {
			t.Errorf("%+v: GRO made %d of %d", f, n, len(want))
		}
	}
	f := flow{v6: true, outer: []byte{4, 4, 4, 4}}
	p := f.super(payloadOf(5000), 1200)
	if err := p.PrepareGSO(); !errors.Is(err, ErrNotSegmentable) {
		t.Errorf("four tunnels: %v", err)
	}
	p.Release()
}

// TestSegmentPartial leaves the checksums to the device.
func TestSegmentPartial(t *testing.T) {
	for name, f := range flows {
		p := f.super(payloadOf(5000), 1200)
		s, err := p.Segmenter(false)
		if err != nil {
			t.Fatal(name, err)
		}
		var got [][]byte
		for q := s.Next(); q != nil; q = s.Next() {
			if !q.CsumPartial {
				t.Errorf("%s: checksum of a segment is not partial", name)
			}
			q.CompleteChecksum()
			got = append(got, contents([]*Packet{q})...)
		}
		p.Release()
		if want := f.segments(payloadOf(5000), 1200); !same(got, want) {
			t.Errorf("%s: %s", name, cmp.Diff(want, got))
		}
	}
}

// TestSegmentAtNetworkLayer begins with the network header, as at the five
// inner hook points; the MAC header in front is kept.
func TestSegmentAtNetworkLayer(t *testing.T) {
	f := flows["TCPv6"]
	want := f.segments(payloadOf(5000), 1200)
	p := f.super(payloadOf(5000), 1200)
	p.Trim(EthernetLen)
	i := 0
	for q := range p.Segments() {
		if mac, ok := q.MAC(); !ok || mac != -EthernetLen {
			t.Errorf("segment %d has its MAC header at %d, %v", i, mac, ok)
		}
		q.Push(EthernetLen)
		if got := q.Head(); !bytes.Equal(got, want[i]) {
			t.Errorf("segment %d: %s", i, cmp.Diff(want[i], got))
		}
		i++
		q.Release()
	}
	p.Release()
	if i != len(want) {
		t.Errorf("%d segments, want %d", i, len(want))
	}
}

func TestNotSegmentable(t *testing.T) {
	for name, spoil := range map[string]func(p *Packet){
		"no size":           func(p *Packet) { p.GSO.Size = 0 },
		"other protocol":    func(p *Packet) { p.GSO.Type = GSOUDP },
		"other version":     func(p *Packet) { p.GSO.Type = GSOTCPv6 },
		"unknown type":      func(p *Packet) { p.GSO.Type = 77 },
		"fragment":          func(p *Packet) { p.Head()[20] |= 0x20 },
		"header too short":  func(p *Packet) { p.Head()[14] = 0x44 },
		"cut in TCP header": func(p *Packet) { p.Truncate(14 + 20 + 19) },
		"data offset":       func(p *Packet) { p.Head()[14+20+12] = 0x40 },
		"checksum place":    func(p *Packet) { p.SetPartialChecksum(34, 6) },
		"checksum start":    func(p *Packet) { p.SetPartialChecksum(30, 16) },
		"absurd size":       func(p *Packet) { p.Extend(30000); p.GSO.Size = 1 },
		"empty":             func(p *Packet) { p.Truncate(0) },
	} {
		p := flows["TCPv4"].super(payloadOf(3000), 1000)
		spoil(p)
		if _, err := p.Segmenter(true); !errors.Is(err, ErrNotSegmentable) {
			t.Errorf("%s: Segmenter says %v", name, err)
		}
		if err := p.PrepareGSO(); !errors.Is(err, ErrNotSegmentable) {
			t.Errorf("%s: PrepareGSO says %v", name, err)
		}
		p.Release()
	}
}

// TestPrepareGSO brings frames with final checksums and small ones into shape.
func TestPrepareGSO(t *testing.T) {
	for name, f := range flows {
		p := f.super(payloadOf(3500), 1000)
		if !p.CompleteChecksum() {
			t.Fatal(name)
		}
		if err := p.PrepareGSO(); err != nil || !p.CsumPartial || p.GSO.Segs != 4 {
			t.Errorf("%s: %v, partial %v, %d segments", name, err, p.CsumPartial, p.GSO.Segs)
		}
		if got, want := cut(t, p), f.segments(payloadOf(3500), 1000); !same(got, want) {
			t.Errorf("%s: %s", name, cmp.Diff(want, got))
		}
		p = f.super(payloadOf(1000), 1000)
		if err := p.PrepareGSO(); err != nil || p.GSO != (GSO{}) {
			t.Errorf("%s: one segment: %v, %+v", name, err, p.GSO)
		}
		if n, want := p.NetworkLen(), p.Len()-14-4*f.tags; n != want {
			t.Errorf("%s: network length %d, want %d", name, n, want)
		}
		p.Release()
	}
}

func FuzzSegmenter(f *testing.F) {
	for _, fl := range flows {
		f.Add(fl.frame(0, 0, fl.flags, payloadOf(300), true), uint8(1), uint16(100), 34, 16)
	}
	f.Fuzz(func(t *testing.T, b []byte, typ uint8, size uint16, start, offset int) {
		if len(b) > 65535 {
			return
		}
		live := Live()
		p := packetOf(b)
		p.GSO = GSO{Type: GSOType(typ % 5), Size: size}
		if start != 0 {
			p.SetPartialChecksum(start%70000, offset%70000)
		}
		if p.PrepareGSO() == nil && p.GSO.Type != GSONone {
			s, err := p.Segmenter(true)
			if err != nil {
				t.Fatal("prepared, but", err)
			}
			n := 0
			for q := s.Next(); q != nil; q = s.Next() {
				if n++; q.NetworkLen() > p.NetworkLen() {
					t.Errorf("segment %d is longer than announced", n)
				}
				q.Release()
			}
			if n != int(p.GSO.Segs) {
				t.Errorf("%d segments, counted %d", n, p.GSO.Segs)
			}
		}
		p.CompleteChecksum()
		p.Release()
		if Live() != live {
			t.Error("packets have not been released")
		}
	})
}

func BenchmarkSegmenter(b *testing.B) {
	for _, name := range []string{"TCPv4", "UDPv6"} {
		b.Run(name, func(b *testing.B) {
			p := flows[name].super(payloadOf(64000), 1448)
			defer p.Release()
			b.SetBytes(64000)
			b.ReportAllocs()
			for b.Loop() {
				s, err := p.Segmenter(true)
				if err != nil {
					b.Fatal(err)
				}
				for q := s.Next(); q != nil; q = s.Next() {
					q.Release()
				}
			}
		})
	}
}
