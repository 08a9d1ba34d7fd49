package rdma_test

import (
	"errors"
	"syscall"
	"testing"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/roce"
)

// TestModifyMasks: each change of state takes its attributes, needs each of
// them, and refuses others.
func TestModifyMasks(t *testing.T) {
	const (
		init = rdma.AttrState | rdma.AttrPKeyIndex | rdma.AttrPort
		uc   = rdma.AttrState | rdma.AttrAV | rdma.AttrPathMTU | rdma.AttrDestQPN | rdma.AttrRQPSN
	)
	pa, _ := memport.NewPair(memport.Config{Clock: memport.NewClock()})
	s := newSide(t, pa, rdma.Options{}, rdma.RC, 4096)
	gid, err := s.dev.QueryGID(s.dev.DefaultGID())
	if err != nil {
		t.Fatal(err)
	}
	good := rdma.QPAttr{PortNum: 1, PathMTU: roce.MTU1024, AH: rdma.AHAttr{DGID: gid, SGIDIndex: s.dev.DefaultGID()}, MaxRdAtomic: 1, MaxDestRdAtomic: 1}
	steps := map[rdma.QPType][]rdma.AttrMask{
		rdma.RC: {init | rdma.AttrAccess, uc | rdma.AttrMaxDestRdAtomic | rdma.AttrMinRNRTimer,
			rdma.AttrState | rdma.AttrSQPSN | rdma.AttrTimeout | rdma.AttrRetryCnt | rdma.AttrRNRRetry | rdma.AttrMaxRdAtomic},
		rdma.UC: {init | rdma.AttrAccess, uc, rdma.AttrState | rdma.AttrSQPSN},
		rdma.UD: {init | rdma.AttrQKey, rdma.AttrState, rdma.AttrState | rdma.AttrSQPSN},
	}
	for typ, masks := range steps {
		qp, err := s.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: s.cq, RecvCQ: s.cq})
		if err != nil {
			t.Fatal(err)
		}
		for i, mask := range masks {
			a := good
			a.State = rdma.QPState(i + 1)
			for bit := range 31 {
				b := rdma.AttrMask(1) << bit
				if b == rdma.AttrState || mask&b == 0 && b != rdma.AttrAltPath && b != rdma.AttrCap {
					continue
				}
				if err := qp.Modify(&a, mask^b); !errors.Is(err, syscall.EINVAL) {
					t.Errorf("%v to %v with %v toggled: %v", typ, a.State, b, err)
				}
			}
			if next := rdma.QPState((i+2)%3 + 1); next != a.State && next != rdma.Init {
				b := a
				b.State = next
				if err := qp.Modify(&b, mask); !errors.Is(err, syscall.EINVAL) {
					t.Errorf("%v: %v to %v: %v", typ, qp.State(), next, err)
				}
			}
			if err := qp.Modify(&a, mask); err != nil {
				t.Fatalf("%v to %v: %v", typ, a.State, err)
			}
			if qp.State() != a.State {
				t.Fatalf("%v is in %v", typ, qp.State())
			}
		}
		a := rdma.QPAttr{CurState: rdma.RTR}
		if err := qp.Modify(&a, rdma.AttrCurState); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("wrong CUR_STATE: %v", err)
		}
		if err := qp.Modify(&rdma.QPAttr{State: rdma.Reset}, rdma.AttrState); err != nil {
			t.Error(err)
		}
	}
}

// TestMTULimit: a path MTU must fit the interface, and follows it.
func TestMTULimit(t *testing.T) {
	pa, _ := memport.NewPair(memport.Config{MTU: 1500})
	s := newSide(t, pa, rdma.Options{}, rdma.RC, 4096)
	gid, _ := s.dev.QueryGID(s.dev.DefaultGID())
	r := rdma.Remote{QPN: 5, GID: gid}
	at := rdma.AHAttr{SGIDIndex: s.dev.DefaultGID()}
	if err := s.qp.Connect(r, rdma.QPAttr{PathMTU: roce.MTU2048, AH: at}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("2048 on a link of 1500: %v", err)
	}
	pa.SetMTU(4200)
	if m := s.dev.QueryPort().ActiveMTU; m != roce.MTU4096 {
		t.Errorf("active MTU %v", m)
	}
	if err := s.qp.Modify(&rdma.QPAttr{State: rdma.Reset}, rdma.AttrState); err != nil {
		t.Fatal(err)
	}
	if err := s.qp.Connect(r, rdma.QPAttr{PathMTU: roce.MTU4096, AH: at}); err != nil {
		t.Error(err)
	}
	pa.SetUp(false)
	var down bool
	for e, ok := s.dev.PollEvent(); ok; e, ok = s.dev.PollEvent() {
		down = down || e.Type == rdma.PortErr
	}
	if !down {
		t.Error("no event of the port's going down")
	}
}

// TestSourcePort: a queue pair's packets leave from the port that was asked for.
func TestSourcePort(t *testing.T) {
	l := newLab(t, rdma.RC, rdma.QPAttr{UDPSrcPort: 50123})
	var ports []uint16
	l.drop = func(from int, p *roce.Packet) bool { ports = append(ports, p.SrcPort()); return false }
	l.post(t, rdma.SendWR{Opcode: rdma.WRWrite, RemoteAddr: l.b.mr.Addr(), RKey: l.b.mr.RKey()})
	if len(ports) != 2 || ports[0] != 50123 || ports[1] != 50123 {
		t.Errorf("%v", ports)
	}
}

// TestSQE: a UD queue pair whose send failed receives on, and sends again after RTS.
func TestSQE(t *testing.T) {
	l := newLab(t, rdma.UD, rdma.QPAttr{})
	gid, _ := l.b.dev.QueryGID(l.b.dev.DefaultGID())
	ah, err := l.a.pd.CreateAH(rdma.AHAttr{DGID: gid, SGIDIndex: l.a.dev.DefaultGID()})
	if err != nil {
		t.Fatal(err)
	}
	l.recv(t, 4, 100)
	wr := rdma.SendWR{Opcode: rdma.WRSend, SGList: []rdma.SGE{l.a.mr.SGE(0, 5)}, AH: ah, RemoteQPN: l.b.qp.Num(), RemoteQKey: 0x11111111}
	bad := wr
	bad.SGList = []rdma.SGE{{Addr: 1, Length: 5, LKey: 1}}
	if got := statuses(l.post(t, wr, bad, wr)); !equal(got, []rdma.Status{ok, rdma.LocProtErr, flush}) || l.a.qp.State() != rdma.SQE {
		t.Fatalf("%v in %v", got, l.a.qp.State())
	}
	if err := l.a.qp.Modify(&rdma.QPAttr{State: rdma.RTS}, rdma.AttrState); err != nil {
		t.Fatal(err)
	}
	if got := statuses(l.post(t, wr)); !equal(got, []rdma.Status{ok}) {
		t.Error(got)
	}
	if got := statuses(l.b.poll(t)); len(got) != 2 {
		t.Errorf("%d received", len(got))
	}
}
