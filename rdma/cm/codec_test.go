package cm

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"taproom/rdma/internal/replay"
	"taproom/rdma/roce"
)

// mads returns the management datagrams of a recording.
func mads(s *replay.Scenario) (out []replay.Packet) {
	for _, p := range s.Packets {
		if d := p.DETH(); d != nil && p.BTH.DestQP() == 1 && d.QKey() == 0x80010000 {
			out = append(out, p)
		}
	}
	return out
}

// TestVectorsMessages decodes every recorded message and encodes it again.
func TestVectorsMessages(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		for _, p := range mads(s) {
			total++
			m, err := Decode(MAD(p.Payload))
			if err != nil {
				t.Errorf("%s: %v: %v", s.Name, &p.Packet, err)
				continue
			}
			if got := Encode(MAD(p.Payload).TID(), m); !bytes.Equal(got, p.Payload) {
				t.Errorf("%s: %v encoded again:\n%x want\n%x", s.Name, m.Attribute(), []byte(got), p.Payload)
				continue
			}
			ok++
		}
	}
	t.Logf("messages: %d of %d", ok, total)
}

// TestRecordedREQ checks the fields of one recorded REQ by name.
func TestRecordedREQ(t *testing.T) {
	s := replay.Get(t, "rping-v4")
	m, err := Decode(MAD(mads(s)[0].Payload))
	if err != nil {
		t.Fatal(err)
	}
	got := *m.(*REQ)
	h, rest, err := ParsePrivateHeader(got.Private)
	if err != nil || len(rest) != REQPrivateLen-PrivateHeaderLen {
		t.Fatal(err, len(rest))
	}
	wantHeader := PrivateHeader{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.1"), 0xc23b}
	if h != wantHeader {
		t.Errorf("header %+v", h)
	}
	if !bytes.Equal(h.Append(nil), got.Private[:PrivateHeaderLen]) {
		t.Errorf("header encoded again: %x", h.Append(nil))
	}
	want := REQ{
		LocalCommID: 0x30ded60a, Service: SpaceTCP.Service(7174), LocalGUID: 0x505400fffe000002, LocalQPN: 0x17,
		RespResources: 1, InitiatorDepth: 1, RemoteTimeout: 20, StartingPSN: 0xb3d186, LocalTimeout: 20, RetryCount: 7,
		PKey: 0xffff, MTU: roce.MTU1024, RNRRetry: 7, MaxCMRetries: 15, FlowLabel: roce.CMFlowLabel(0xc23b, 7174), HopLimit: 64, LocalAckTimeout: 19,
		LocalGID: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 9, 15: 2}, RemoteGID: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 9, 15: 1},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(REQ{}, "Private")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestMessages encodes messages that no recording holds, with all bits set
// somewhere, and decodes them again.
func TestMessages(t *testing.T) {
	fill := func(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }
	for _, m := range []Message{
		&REQ{LocalCommID: 1, Service: 2, LocalGUID: 3, LocalQKey: 4, LocalQPN: 0xffffff, RespResources: 255, InitiatorDepth: 254, RemoteTimeout: 31,
			Transport: TransportUC, FlowControl: true, StartingPSN: 0xfffffe, LocalTimeout: 30, RetryCount: 6, PKey: 0x8001, MTU: roce.MTU4096, RNRRetry: 5,
			MaxCMRetries: 14, SRQ: true, LocalGID: [16]byte{1}, RemoteGID: [16]byte{2}, FlowLabel: 0xfffff, PacketRate: 63, TrafficClass: 9, HopLimit: 8,
			SL: 15, SubnetLocal: true, LocalAckTimeout: 29, Private: fill(REQPrivateLen)},
		&REP{1, 2, 3, 4, 5, 6, 7, 31, 3, true, 7, true, 8, fill(REPPrivateLen)},
		&RTU{1, 2, fill(RTUPrivateLen)},
		&REJ{1, 2, AboutREP, ReasonConsumer, fill(72), fill(REJPrivateLen)},
		&MRA{1, 2, AboutREP, 31, fill(MRAPrivateLen)},
		&DREQ{1, 2, 3, fill(DREQPrivateLen)},
		&DREP{1, 2, fill(DREPPrivateLen)},
		&SIDRReq{1, 2, 3, fill(SIDRReqPrivateLen)},
		&SIDRRep{1, SIDRReject, 2, 3, 4, fill(7), fill(SIDRRepPrivateLen)},
	} {
		b := Encode(7, m)
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("%v: %v", m.Attribute(), err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", m.Attribute(), d)
		}
	}
	if _, err := Decode(make(MAD, 255)); err == nil {
		t.Error("a short MAD was decoded")
	}
	h := PrivateHeader{netip.MustParseAddr("fd09::2"), netip.MustParseAddr("fd09::1"), 5}
	if got, _, err := ParsePrivateHeader(h.Append(nil)); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzDecode: what decodes encodes to a message that decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"rping-v4", "cm-reject-v4", "cm-udaddy-sidr-v4"} {
		for _, p := range mads(replay.Get(f, name)) {
			f.Add([]byte(p.Payload))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(MAD(b))
		if err != nil {
			return
		}
		again, err := Decode(Encode(1, m))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, again); d != "" {
			t.Fatal(d)
		}
		if r, ok := m.(*REQ); ok {
			_, _, _ = ParsePrivateHeader(r.Private)
		}
	})
}
