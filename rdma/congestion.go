package rdma

import (
	"time"

	"taproom/rdma/roce"
)

func (c Congestion) withDefaults() Congestion {
	if c.CNPGap == 0 {
		c.CNPGap = 50 * time.Microsecond
	}
	if c.LineRate == 0 {
		c.LineRate = 5e9
	}
	return c
}

// DCQCN's constants, in the words of the paper (Zhu et al., SIGCOMM 2015), with
// its authors' values.
const (
	dcqcnG      = 1.0 / 256              // weight of one notification in alpha
	dcqcnAlphaT = 55 * time.Microsecond  // alpha decays once in this time
	dcqcnRateT  = 300 * time.Microsecond // and the rate rises
	dcqcnFast   = 5                      // rises by halves before they become additive
	dcqcnAdd    = 5e6                    // bytes per second of an additive rise
	dcqcnMin    = 1e6                    // bytes per second: never slower
	// dcqcnSlack is how far sending may run ahead of the rate: timers are not
	// finer than this, and runs shall stay runs.
	dcqcnSlack = 100 * time.Microsecond
)

// congestion is a queue pair's rate control: notification point (marks seen, CNPs
// sent) and reaction point (CNPs received, rate).
type congestion struct {
	lastCNP int64

	line    float64 // bytes per second, the most
	paced   bool    // since the first notification, until the rate is back at the line's
	rate    float64
	target  float64
	alpha   float64
	alphaAt int64
	rateAt  int64
	rises   int
	nextAt  int64 // when the next packet may go
}

// marked is told of a packet that a router marked.
func (q *QP) marked(now int64) {
	q.count.NpEcnMarked++
	o := &q.dev.opts.Congestion
	c := &q.cong
	if o.NoCNP || q.dev.opts.LikeRxe || c.lastCNP != 0 && now-c.lastCNP < int64(o.CNPGap) {
		return
	}
	c.lastCNP = now
	q.answer(answer{kind: ansCNP})
}

// sendCNP sends a congestion notification packet (IBTA A17.9.3).
func (q *QP) sendCNP(now int64) {
	b := q.begin(q.ep, roce.CongestionNotified, q.attr.DestQPN, 0, false, false, 0, false)
	clear(b[roce.BTHLen : roce.BTHLen+roce.CNPReservedLen])
	s := q.seed(b, roce.CNPReservedLen)
	roce.BTH(b).SetBECN(true) // not covered by the ICRC
	q.end(b, s, now)
	q.count.NpCnpSent++
}

// cnpReceived cuts the rate.
func (q *QP) cnpReceived(now int64) {
	o := &q.dev.opts.Congestion
	c := &q.cong
	if o.NoDCQCN {
		q.count.RpCnpIgnored++
		return
	}
	q.count.RpCnpHandled++
	if !c.paced {
		*c = congestion{lastCNP: c.lastCNP, line: o.LineRate, paced: true, rate: o.LineRate, target: o.LineRate, alpha: 1, alphaAt: now, nextAt: now}
	}
	c.catchUp(now)
	c.target = c.rate
	c.rate = max(c.rate*(1-c.alpha/2), dcqcnMin)
	c.alpha = (1-dcqcnG)*c.alpha + dcqcnG
	c.alphaAt, c.rateAt, c.rises = now, now, 0
}

// catchUp does what the two timers would have done until now.
func (c *congestion) catchUp(now int64) {
	for now-c.alphaAt >= int64(dcqcnAlphaT) && c.alpha > 1e-6 {
		c.alpha *= 1 - dcqcnG
		c.alphaAt += int64(dcqcnAlphaT)
	}
	for c.paced && c.rateAt != 0 && now-c.rateAt >= int64(dcqcnRateT) {
		c.rateAt += int64(dcqcnRateT)
		if c.rises++; c.rises > dcqcnFast {
			c.target = min(c.target+dcqcnAdd*float64(c.rises-dcqcnFast), c.line)
		}
		c.rate = (c.rate + c.target) / 2
		if c.rate > 0.99*c.line {
			c.paced = false // the line is free again
		}
	}
}

// ready tells whether a packet may go now.
func (c *congestion) ready(now int64) bool { return now+int64(dcqcnSlack) >= c.nextAt }

// sent notes that n bytes went.
func (c *congestion) sent(n int, now int64) {
	if !c.paced {
		return
	}
	c.catchUp(now)
	c.nextAt = max(c.nextAt, now) + int64(float64(n)/c.rate*1e9)
}

// wakeAt is when the next packet of a paced queue pair may go, 0 if that is now.
func (c *congestion) wakeAt(now int64) int64 {
	if !c.paced || c.ready(now) {
		return 0
	}
	return c.nextAt - int64(dcqcnSlack)
}
