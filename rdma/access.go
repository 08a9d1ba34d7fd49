package rdma

import "strings"

// Access is a set of rights, with the values of enum ibv_access_flags.
type Access uint32

// Rights to memory, and (the remote ones) of a queue pair's peer.
const (
	LocalWrite      Access = 1 << 0 // receives, READ and atomic results may be written here
	RemoteWrite     Access = 1 << 1 // needs LocalWrite
	RemoteRead      Access = 1 << 2
	RemoteAtomic    Access = 1 << 3 // needs LocalWrite
	BindMW          Access = 1 << 4 // memory windows may be bound to the region
	ZeroBased       Access = 1 << 5 // the region's addresses start at 0
	OnDemand        Access = 1 << 6 // accepted; memory here is never pinned anyway
	HugeTLB         Access = 1 << 7 // accepted and ignored
	FlushGlobal     Access = 1 << 8 // FLUSH for global visibility
	FlushPersistent Access = 1 << 9 // FLUSH for persistence; the region needs a Sync function
	RelaxedOrdering Access = 1 << 20

	remoteAny = RemoteWrite | RemoteRead | RemoteAtomic | FlushGlobal | FlushPersistent
	accessAll = remoteAny | LocalWrite | BindMW | ZeroBased | OnDemand | HugeTLB | accessOptional
	// accessOptional are bits 20 to 29, which providers ignore if they do not
	// know them (IBV_ACCESS_OPTIONAL_RANGE).
	accessOptional Access = 0x3ff << 20
)

var accessNames = []string{"local_write", "remote_write", "remote_read", "remote_atomic", "mw_bind", "zero_based",
	"on_demand", "huge_tlb", "flush_global", "flush_persistent"}

// String lists the rights, for example "local_write|remote_read".
func (a Access) String() string {
	var s []string
	for i, n := range accessNames {
		if a&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	if a&RelaxedOrdering != 0 {
		s = append(s, "relaxed_ordering")
	}
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, "|")
}

// check refuses sets that no region can have.
func (a Access) check(verb string) error {
	if bad := a &^ accessAll; bad != 0 {
		return invalid(verb, "access has unknown bits %#x", uint32(bad))
	}
	if a&(RemoteWrite|RemoteAtomic) != 0 && a&LocalWrite == 0 {
		return invalid(verb, "access %v needs local_write", a)
	}
	return nil
}
