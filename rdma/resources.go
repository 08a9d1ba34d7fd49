package rdma

import "slices"

// The structs here are what listings show; their JSON has the keys of iproute2's
// "rdma resource show -j".

// QPResource describes a queue pair.
type QPResource struct {
	Device string `json:"ifname"`
	Port   int    `json:"port"`
	LQPN   uint32 `json:"lqpn"`
	RQPN   uint32 `json:"rqpn,omitempty"` // RC, UC
	Type   string `json:"type"`
	State  string `json:"state"`
	RQPSN  uint32 `json:"rq-psn,omitempty"` // RC, UC
	SQPSN  uint32 `json:"sq-psn"`
	PDN    uint32 `json:"pdn"`
	Peer   string `json:"peer,omitempty"` // address; not in rdma's listing
	MTU    int    `json:"path-mtu,omitempty"`
}

// CQResource describes a completion queue.
type CQResource struct {
	Device string `json:"ifname"`
	CQN    uint32 `json:"cqn"`
	CQE    int    `json:"cqe"`
	Users  int    `json:"users"`
	Wait   int    `json:"pending"` // completions not polled; not in rdma's listing
}

// MRResource describes a memory region.
type MRResource struct {
	Device string `json:"ifname"`
	MRN    uint32 `json:"mrn"`
	RKey   string `json:"rkey"`
	LKey   string `json:"lkey"`
	Len    uint64 `json:"mrlen"`
	PDN    uint32 `json:"pdn"`
	Access string `json:"access"`
}

// PDResource describes a protection domain.
type PDResource struct {
	Device string `json:"ifname"`
	PDN    uint32 `json:"pdn"`
	Users  int    `json:"users"`
}

// SRQResource describes a shared receive queue.
type SRQResource struct {
	Device string `json:"ifname"`
	SRQN   uint32 `json:"srqn"`
	Type   string `json:"type"`
	PDN    uint32 `json:"pdn"`
	Wait   int    `json:"pending"`
}

// Resources lists all objects of a device.
type Resources struct {
	QP  []QPResource  `json:"qp"`
	CQ  []CQResource  `json:"cq"`
	MR  []MRResource  `json:"mr"`
	PD  []PDResource  `json:"pd"`
	SRQ []SRQResource `json:"srq"`
}

// QPs returns the queue pairs, in order of number.
func (d *Device) QPs() []*QP { return d.qps.all() }

// Resources lists what there is now.
func (d *Device) Resources() Resources {
	var r Resources
	for _, q := range d.QPs() {
		r.QP = append(r.QP, q.resource())
	}
	for _, k := range d.keys.all() {
		if k.mr != nil && k.mw == nil {
			m := MRResource{Device: d.name, MRN: k.key >> 8, LKey: hex32(k.key), RKey: hex32(0), Len: k.n, PDN: k.pd.id, Access: k.access.String()}
			if k.access&remoteAny != 0 {
				m.RKey = m.LKey
			}
			r.MR = append(r.MR, m)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for cq := range d.cqs {
		r.CQ = append(r.CQ, CQResource{Device: d.name, CQN: cq.id, CQE: cq.Cap(), Users: cq.uses, Wait: cq.Len()})
	}
	for pd := range d.pds {
		r.PD = append(r.PD, PDResource{Device: d.name, PDN: pd.id, Users: int(pd.uses.Load())})
	}
	for s := range d.srqs {
		_, wait := s.Query()
		r.SRQ = append(r.SRQ, SRQResource{Device: d.name, SRQN: s.id, Type: "BASIC", PDN: s.pd.id, Wait: wait})
	}
	slices.SortFunc(r.CQ, func(a, b CQResource) int { return int(a.CQN) - int(b.CQN) })
	slices.SortFunc(r.PD, func(a, b PDResource) int { return int(a.PDN) - int(b.PDN) })
	slices.SortFunc(r.SRQ, func(a, b SRQResource) int { return int(a.SRQN) - int(b.SRQN) })
	return r
}

func (q *QP) resource() QPResource {
	a, _ := q.Query()
	r := QPResource{Device: q.dev.name, Port: 1, LQPN: q.num, Type: q.typ.String(), State: a.State.String(), SQPSN: uint32(a.SQPSN), PDN: q.pd.id}
	if q.connected() && a.State >= RTR {
		r.RQPN, r.RQPSN, r.Peer, r.MTU = a.DestQPN, uint32(a.RQPSN), a.AH.DGID.Addr().String(), a.PathMTU.Bytes()
	}
	return r
}

func hex32(v uint32) string {
	const digits = "0123456789abcdef"
	b := [10]byte{'0', 'x'}
	for i := range 8 {
		b[2+i] = digits[v>>(28-4*i)&15]
	}
	return string(b[:])
}
