package rdma

import (
	"time"

	"taproom/rdma/roce"
)

// probe finds a loss that nothing behind it betrays: the last packet of a train,
// or the only answer to it. The acknowledgement time-out would find it too, but
// that is long (67 ms with the usual code 14), because it must not fire for a
// slow peer. When nothing has been heard for some round trips, the last packet is
// sent once more: if the peer has it, its ACK comes again; if not, it now arrives;
// and if others are missing as well, the peer says so with a NAK. If silence goes
// on (the NAK was lost, or the packet that it asked for), a second probe sends
// everything again. Hardware calls the like adaptive retransmission. Probes use up
// no retry, and there are two for each piece of progress.
type probe struct {
	at    int64 // when to send one; 0: not wanted
	rtt   int64 // smoothed round trip, ns; 0: not known yet
	timed bool  // psn is being timed
	psn   roce.PSN
	sent  int64 // when psn was sent
	count uint8 // of probes since the last progress
}

const (
	probeTrips = 8                      // round trips of silence
	probeMin   = 500 * time.Microsecond // and not less than this, for peers that coalesce
	probeFirst = 10 * time.Millisecond  // before a round trip was measured
)

// measure starts to time a packet that will be acknowledged, if it is fresh.
func (p *probe) measure(psn roce.PSN, fresh bool, now int64) {
	if !p.timed && fresh {
		p.timed, p.psn, p.sent = true, psn, now
	}
}

// heard notes progress up to psn.
func (p *probe) heard(psn roce.PSN, now int64) {
	p.count = 0
	if p.timed && psn.After(p.psn) {
		p.timed = false
		d := max(now-p.sent, 1)
		if p.rtt == 0 {
			p.rtt = d
		}
		p.rtt += (d - p.rtt) / 8
	}
}

// cancel forgets the packet that is timed: it is sent again, and its ACK could be
// to either copy.
func (p *probe) cancel() { p.timed, p.at = false, 0 }

// startProbe sets the time of the next probe, if it comes before the time-out.
func (q *QP) startProbe(now int64) {
	p := &q.req.probe
	p.at = 0
	if p.count >= 2 || q.dev.opts.LikeRxe {
		return
	}
	d := int64(probeFirst)
	if p.rtt != 0 {
		d = max(probeTrips*p.rtt, int64(probeMin))
	}
	d <<= p.count
	if t := roce.AckTimeout(q.attr.Timeout); t != 0 && d >= int64(t) {
		return
	}
	p.at = now + d
	q.arm(p.at)
}

// sendProbe moves the cursor back by one packet.
func (q *QP) sendProbe() {
	r, s := &q.req, &q.sq
	r.probe.cancel()
	r.probe.count++
	if q.state != RTS || r.una == r.max || r.rnrAt != 0 || s.head == s.tail {
		return
	}
	if r.probe.count > 1 {
		q.count.Probes++
		r.wentBack = false
		q.goBack()
		return
	}
	i := s.next
	if i == s.tail || !s.at(i).started || r.pkt == 0 {
		if i == s.head {
			return
		}
		i--
	}
	w := s.at(i)
	if w.info.local || w.info.explicit && w.got == w.npkts {
		return
	}
	q.count.Probes++
	switch {
	case w.info.explicit:
		s.next, r.pkt, r.psn = i, 0, w.psn.Add(int(w.got))
	case i == s.next: // half sent
		r.pkt--
		r.psn = r.psn.Add(-1)
	default:
		s.next, r.pkt, r.psn = i, w.npkts-1, w.last()
	}
	r.sinceAck = ackEveryPackets // whatever it is, it asks for an ACK
}
