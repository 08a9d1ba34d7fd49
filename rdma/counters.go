package rdma

import "sync/atomic"

// Counters are what a queue pair or a device has done. The first fifteen are
// those of rxe, under its names (the tags).
type Counters struct {
	SentPkts         uint64 `json:"sent_pkts"`
	RcvdPkts         uint64 `json:"rcvd_pkts"`
	DuplicateRequest uint64 `json:"duplicate_request"`
	OutOfSeqRequest  uint64 `json:"out_of_seq_request"`
	RcvdRNR          uint64 `json:"rcvd_rnr_err"`
	SendRNR          uint64 `json:"send_rnr_err"`
	RcvdSeqErr       uint64 `json:"rcvd_seq_err"`
	AckDeferred      uint64 `json:"ack_deferred"` // ACKs that a later one stood for
	RetryExceeded    uint64 `json:"retry_exceeded_err"`
	RNRRetryExceeded uint64 `json:"retry_rnr_exceeded_err"`
	CompleterRetry   uint64 `json:"completer_retry_err"`
	SendErr          uint64 `json:"send_err"`
	LinkDowned       uint64 `json:"link_downed"`
	RDMASends        uint64 `json:"rdma_sends"` // SENDs and WRITEs completed
	RDMARecvs        uint64 `json:"rdma_recvs"` // receives completed

	SentBytes    uint64 `json:"sent_bytes"` // UDP payload
	RcvdBytes    uint64 `json:"rcvd_bytes"`
	SentRuns     uint64 `json:"sent_runs"` // super-frames
	SentAcks     uint64 `json:"sent_acks"`
	Timeouts     uint64 `json:"local_ack_timeout_err"`
	Probes       uint64 `json:"probes"`              // tail loss probes
	ImpliedNaks  uint64 `json:"implied_nak_seq_err"` // READ responses found missing before the time-out
	BadResponses uint64 `json:"bad_resp_err"`
	Dropped      uint64 `json:"dropped"` // packets for the queue pair that it could not take
	NpEcnMarked  uint64 `json:"np_ecn_marked_roce_packets"`
	NpCnpSent    uint64 `json:"np_cnp_sent"`
	RpCnpHandled uint64 `json:"rp_cnp_handled"`
	RpCnpIgnored uint64 `json:"rp_cnp_ignored"`

	ICRCErr   uint64 `json:"rx_icrc_encapsulated"` // device only, from here on
	BadPKey   uint64 `json:"bad_pkey"`
	NoQP      uint64 `json:"no_qp"`
	Malformed uint64 `json:"malformed"`
}

func (c *Counters) add(o *Counters) {
	c.SentPkts += o.SentPkts
	c.RcvdPkts += o.RcvdPkts
	c.DuplicateRequest += o.DuplicateRequest
	c.OutOfSeqRequest += o.OutOfSeqRequest
	c.RcvdRNR += o.RcvdRNR
	c.SendRNR += o.SendRNR
	c.RcvdSeqErr += o.RcvdSeqErr
	c.AckDeferred += o.AckDeferred
	c.RetryExceeded += o.RetryExceeded
	c.RNRRetryExceeded += o.RNRRetryExceeded
	c.CompleterRetry += o.CompleterRetry
	c.SendErr += o.SendErr
	c.LinkDowned += o.LinkDowned
	c.RDMASends += o.RDMASends
	c.RDMARecvs += o.RDMARecvs
	c.SentBytes += o.SentBytes
	c.RcvdBytes += o.RcvdBytes
	c.SentRuns += o.SentRuns
	c.SentAcks += o.SentAcks
	c.Timeouts += o.Timeouts
	c.Probes += o.Probes
	c.ImpliedNaks += o.ImpliedNaks
	c.BadResponses += o.BadResponses
	c.Dropped += o.Dropped
	c.NpEcnMarked += o.NpEcnMarked
	c.NpCnpSent += o.NpCnpSent
	c.RpCnpHandled += o.RpCnpHandled
	c.RpCnpIgnored += o.RpCnpIgnored
}

// deviceCounters count what belongs to no queue pair.
type deviceCounters struct {
	icrc, pkey, noQP, malformed, sendErr, linkDowned atomic.Uint64
}

// Counters are the sums over all queue pairs there were, and what the device
// counts itself.
func (d *Device) Counters() Counters {
	d.mu.Lock()
	c := d.dead
	d.mu.Unlock()
	for _, q := range d.qps.all() {
		qc := q.Counters()
		c.add(&qc)
	}
	c.ICRCErr, c.BadPKey = d.unseen.icrc.Load(), d.unseen.pkey.Load()
	c.NoQP, c.Malformed = d.unseen.noQP.Load(), d.unseen.malformed.Load()
	c.SendErr += d.unseen.sendErr.Load()
	c.LinkDowned += d.unseen.linkDowned.Load()
	return c
}

// Counters are the queue pair's own.
func (q *QP) Counters() Counters {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}
