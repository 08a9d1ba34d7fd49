package rdma_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// TestGIDTable: the documented order, indices that stay, holes that are filled.
func TestGIDTable(t *testing.T) {
	pa, _ := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	d, err := rdma.OpenDevice(pa, rdma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v4, v6, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.2")
	table := func() (s []string) {
		for _, g := range d.GIDs() {
			s = append(s, g.String())
		}
		return s
	}
	for _, c := range []struct {
		addrs []netip.Addr
		want  string
		def   int
	}{
		{[]netip.Addr{v6, v4}, "fe80::ff:fe00:901 fd00::1 ::ffff:10.0.0.1", 2},
		{[]netip.Addr{v4}, "fe80::ff:fe00:901 :: ::ffff:10.0.0.1", 2},
		{[]netip.Addr{other, v4}, "fe80::ff:fe00:901 ::ffff:10.0.0.2 ::ffff:10.0.0.1", 1},
		{[]netip.Addr{v6}, "fe80::ff:fe00:901 fd00::1 ::", 1},
		{nil, "fe80::ff:fe00:901 :: ::", 0},
	} {
		pa.SetAddrs(c.addrs...)
		if got := strings.Join(table(), " "); got != c.want || d.DefaultGID() != c.def {
			t.Errorf("%v: %s, default %d, want %s, %d", c.addrs, got, d.DefaultGID(), c.want, c.def)
		}
		for i, a := range c.addrs {
			if _, err := d.FindGID(rdma.GIDOf(a)); err != nil {
				t.Errorf("address %d: %v", i, err)
			}
		}
	}
	if _, err := d.QueryGID(1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a hole: %v", err)
	}
}

// TestPKey: packets of another partition, or between two limited members, do not
// arrive.
func TestPKey(t *testing.T) {
	for _, c := range []struct {
		a, b uint16
		want rdma.Status
	}{{0x8001, 0x8001, ok}, {0x8001, 1, ok}, {1, 1, rdma.RetryExcErr}, {0x8001, 0x8002, rdma.RetryExcErr}} {
		clock := memport.NewClock()
		pa, pb := memport.NewPair(memport.Config{Clock: clock})
		a, b := newSide(t, pa, rdma.Options{PKeys: []uint16{c.a}}, rdma.RC, 64), newSide(t, pb, rdma.Options{PKeys: []uint16{c.b}}, rdma.RC, 64)
		connect(t, a, b, rdma.QPAttr{RetryCnt: 1})
		if _, err := a.qp.PostSend(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, RemoteAddr: b.mr.Addr(), RKey: b.mr.RKey()}); err != nil {
			t.Fatal(err)
		}
		for clock.Step() {
		}
		if got := statuses(a.poll(t)); !equal(got, []rdma.Status{c.want}) {
			t.Errorf("%#x to %#x: %v, want %v", c.a, c.b, got, c.want)
		}
		if (b.dev.Counters().BadPKey > 0) != (c.want != ok) {
			t.Errorf("%#x to %#x: %d counted", c.a, c.b, b.dev.Counters().BadPKey)
		}
	}
}

// TestRegions: what registration refuses, and what re-registration changes.
func TestRegions(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	buf := make([]byte, 4096)
	for _, c := range []struct {
		in    rdma.MRInit
		errno syscall.Errno
	}{
		{rdma.MRInit{Buf: buf, Access: rdma.RemoteWrite}, syscall.EINVAL},
		{rdma.MRInit{Buf: buf, Access: rdma.RemoteAtomic}, syscall.EINVAL},
		{rdma.MRInit{Buf: buf, Access: 1 << 15}, syscall.EINVAL},
		{rdma.MRInit{Access: rdma.LocalWrite}, syscall.EINVAL},
		{rdma.MRInit{Buf: buf, HasIOVA: true, IOVA: ^uint64(0) - 4094}, syscall.EINVAL},
		{rdma.MRInit{Buf: buf, Access: rdma.FlushPersistent}, syscall.EOPNOTSUPP},
	} {
		if _, err := l.b.pd.RegMRInit(c.in); !errors.Is(err, c.errno) {
			t.Errorf("%v: %v, want %v", c.in.Access, err, c.errno)
		}
	}
	flushed := 0
	mr, err := l.b.pd.RegMRInit(rdma.MRInit{Buf: buf, Access: rdma.ZeroBased | rdma.LocalWrite | rdma.RemoteWrite | rdma.FlushPersistent, Sync: func(b []byte) error { flushed += len(b); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	copy(l.a.buf, "at zero")
	w := rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{l.a.mr.SGE(0, 7)}, RKey: mr.RKey()}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{ok}) || string(buf[:7]) != "at zero" {
		t.Errorf("zero based: %v", got)
	}
	if err := l.b.qp.Modify(&rdma.QPAttr{Access: rdma.RemoteWrite | rdma.FlushPersistent}, rdma.AttrAccess); err != nil {
		t.Fatal(err)
	}
	f := rdma.SendWR{Opcode: rdma.WRFlush, Placement: roce.PlacePersistent, Selectivity: roce.SelectRegion, RKey: mr.RKey()}
	if got := statuses(l.post(t, f)); !equal(got, []rdma.Status{ok}) || flushed != len(buf) {
		t.Errorf("FLUSH of the region: %v, %d bytes", got, flushed)
	}
	// The same key for other memory, and then without the right.
	buf2 := make([]byte, 100)
	if err := mr.Rereg(nil, rdma.MRInit{Buf: buf2, Access: rdma.ZeroBased | rdma.LocalWrite | rdma.RemoteWrite}); err != nil {
		t.Fatal(err)
	}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{ok}) || string(buf2[:7]) != "at zero" {
		t.Errorf("re-registered: %v", got)
	}
	if err := mr.Rereg(nil, rdma.MRInit{Access: rdma.LocalWrite}); err != nil {
		t.Fatal(err)
	}
	if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{rdma.RemAccessErr}) {
		t.Errorf("without the right: %v", got)
	}
}

// TestResources: the listings have iproute2's keys.
func TestResources(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{})
	b, err := json.Marshal(l.a.dev.Resources())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"lqpn":17`, `"rqpn":17`, `"type":"RC"`, `"state":"RTS"`, `"cqe":4096`, `"users":2`, `"mrlen":1048576`, `"peer":"10.9.0.2"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if err := l.a.dev.Close(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("close with objects: %v", err)
	}
	if err := l.a.pd.Dealloc(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("dealloc with objects: %v", err)
	}
	if err := l.a.cq.Destroy(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("destroy of a used queue: %v", err)
	}
}
