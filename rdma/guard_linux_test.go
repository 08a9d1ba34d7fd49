package rdma_test

import (
	"syscall"
	"testing"

	"taproom/rdma"
)

// TestGuard: memory that goes away is an error of the work request.
func TestGuard(t *testing.T) {
	page := syscall.Getpagesize()
	for name, c := range map[string]struct {
		op         rdma.WROpcode
		local      bool // the memory that goes is the requester's
		want, peer rdma.Status
	}{
		"WRITE":                {op: rdma.WRWrite, want: rdma.RemOpErr},
		"READ":                 {op: rdma.WRRead, want: rdma.RemOpErr},
		"FETCH_ADD":            {op: rdma.WRFetchAdd, want: rdma.RemOpErr},
		"ATOMIC_WRITE":         {op: rdma.WRAtomicWrite, want: rdma.RemOpErr},
		"SEND out of it":       {op: rdma.WRSend, local: true, want: rdma.LocProtErr},
		"READ to where it was": {op: rdma.WRRead, local: true, want: rdma.LocProtErr},
	} {
		mem, err := syscall.Mmap(-1, 0, 2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		l := newLab(t, rdma.RC, rdma.QPAttr{})
		owner := l.b
		if c.local {
			owner = l.a
		}
		mr, err := owner.pd.RegMRInit(rdma.MRInit{Buf: mem, Access: allAccess, Guard: true})
		if err != nil {
			t.Fatal(err)
		}
		l.recv(t, 1, 4096)
		w := rdma.SendWR{Opcode: c.op, SGList: []rdma.SGE{l.a.mr.SGE(0, 8)}, RemoteAddr: mr.Addr() + uint64(page) - 8, RKey: mr.RKey()}
		if c.local {
			w.SGList, w.RemoteAddr, w.RKey = []rdma.SGE{mr.SGE(page-8, 8)}, l.b.mr.Addr(), l.b.mr.RKey()
		}
		if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{ok}) {
			t.Errorf("%s while it is there: %v", name, got)
		}
		if err := syscall.Mprotect(mem[page:], syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		w.RemoteAddr += 8
		if c.local {
			w.SGList = []rdma.SGE{mr.SGE(page, 8)}
		}
		l.recv(t, 1, 4096)
		if got := statuses(l.post(t, w)); !equal(got, []rdma.Status{c.want}) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if err := syscall.Munmap(mem); err != nil {
			t.Error(err)
		}
	}
}
