package perftest

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// Heading describes a test, for the lines above perftest's tables.
type Heading struct {
	Kind        Kind
	Latency     bool
	Device      string
	QPs         int
	Connection  string // RC, UC or UD
	SRQ         bool
	Depth       int  // of the send queue, or with Receiver the receive queue
	Receiver    bool // this side only receives
	Moderation  int  // completions per this many work requests; bandwidth only
	MTU         int  // bytes
	GIDIndex    int
	Inline      int // bytes; not shown for READ and atomics
	Outstanding int // READs and atomics at once
	CM          bool
}

const rule = "---------------------------------------------------------------------------------------\n"

func onOff(v bool) string {
	if v {
		return "ON"
	}
	return "OFF"
}

// WriteTo writes the heading.
func (h Heading) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	what := "BW"
	if h.Latency {
		what = "Latency"
	}
	fmt.Fprintf(&b, "%s                    %s %s Test\n", rule, h.Kind, what)
	fmt.Fprintf(&b, " Dual-port       : OFF\t\tDevice         : %s\n", h.Device)
	fmt.Fprintf(&b, " Number of qps   : %d\t\tTransport type : IB\n", h.QPs)
	fmt.Fprintf(&b, " Connection type : %s\t\tUsing SRQ      : %s\n", h.Connection, onOff(h.SRQ))
	if h.Receiver {
		fmt.Fprintf(&b, " RX depth        : %d\n", h.Depth)
	} else {
		fmt.Fprintf(&b, " TX depth        : %d\n", h.Depth)
	}
	if !h.Latency {
		fmt.Fprintf(&b, " CQ Moderation   : %d\n", h.Moderation)
	}
	fmt.Fprintf(&b, " Mtu             : %d[B]\n Link type       : Ethernet\n GID index       : %d\n", h.MTU, h.GIDIndex)
	if h.Kind == Read || h.Kind == Atomic {
		fmt.Fprintf(&b, " Outstand reads  : %d\n", h.Outstanding)
	} else {
		fmt.Fprintf(&b, " Max inline data : %d[B]\n", h.Inline)
	}
	fmt.Fprintf(&b, " rdma_cm QPs\t : %s\n Data ex. method : %s\n%s", onOff(h.CM), map[bool]string{false: "Ethernet", true: "rdma_cm"}[h.CM], rule)
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Line returns the two lines about a queue pair; who is "local" or "remote".
// GID bytes stand in decimal, as perftest prints them.
func (d Dest) Line(who string, k Kind) string {
	var b strings.Builder
	fmt.Fprintf(&b, " %s address: LID %04x QPN 0x%04x PSN 0x%04x", who, d.LID, d.QPN, uint32(d.PSN))
	if k == Read || k == Atomic {
		fmt.Fprintf(&b, " OUT 0x%02x", d.OutReads)
	}
	if k != Send {
		fmt.Fprintf(&b, " RKey 0x%06x VAddr 0x%014x", d.RKey, d.VAddr)
	}
	b.WriteString("\n GID: ")
	for i, g := range d.GID {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02d", g)
	}
	return b.String() + "\n"
}

// BandwidthHeader is the line above bandwidth rows.
const BandwidthHeader = " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n"

// Row returns the report as a row of the bandwidth table.
func (r Report) Row() string {
	return fmt.Sprintf(" %-7d    %-10d       %-7.2f            %-7.2f\t\t   %-7.6f\n", r.Size, r.Iterations, r.Peak, r.Average, r.MsgRate)
}

const mebi = 1 << 20

// Bandwidth makes the report of a test: when each work request was posted and
// when its completion was seen, in time since the start, both in order. The peak
// is over the best pair of a post and a later completion, as perftest has it.
func Bandwidth(size int, posted, completed []time.Duration) Report {
	n := len(completed)
	r := Report{Size: uint64(size), Iterations: uint64(n)}
	if n == 0 || len(posted) < n {
		return r
	}
	total := max(completed[n-1]-posted[0], 1).Seconds()
	r.Average = float64(size) * float64(n) / total / mebi
	r.MsgRate = float64(n) / total / 1e6
	// The best pair is among those that are not dominated: O(n^2) in perftest,
	// here bounded by looking at spans of doubling length.
	for span := 1; span <= n; span *= 2 {
		for i := 0; i+span <= n; i++ {
			if d := completed[i+span-1] - posted[i]; d > 0 {
				r.Peak = math.Max(r.Peak, float64(size)*float64(span)/d.Seconds()/mebi)
			}
		}
	}
	r.Peak = math.Max(r.Peak, r.Average)
	return r
}

// Latency holds what the latency table shows.
type Latency struct {
	Size, Iterations                  int
	Min, Max, Typical, Average, Stdev time.Duration
	P99, P999                         time.Duration
}

// LatencyHeader is the line above latency rows.
const LatencyHeader = " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec] \n"

// NewLatency makes the figures of a test from the time each iteration took.
// SEND's and WRITE's iterations are round trips of which half is shown; pass
// halve for those. It sorts samples.
func NewLatency(size int, samples []time.Duration, halve bool) Latency {
	n := len(samples)
	l := Latency{Size: size, Iterations: n}
	if n == 0 {
		return l
	}
	slices.Sort(samples)
	part := 1.0
	if halve {
		part = 2
	}
	at := func(q float64) time.Duration {
		i := min(int(math.Ceil(float64(n)*q)), n) - 1
		return time.Duration(float64(samples[max(i, 0)]) / part)
	}
	var sum, dev float64
	for _, s := range samples {
		sum += float64(s) / part
	}
	mean := sum / float64(n)
	for _, s := range samples {
		d := float64(s)/part - mean
		dev += d * d
	}
	l.Min, l.Max, l.Typical = at(0), at(1), at(0.5)
	l.Average, l.Stdev = time.Duration(mean), time.Duration(math.Sqrt(dev/float64(n)))
	l.P99, l.P999 = at(0.99), at(0.999)
	return l
}

// Row returns the figures as a row of the latency table, in microseconds.
func (l Latency) Row() string {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return fmt.Sprintf(" %-7d %-10d  %-7.2f        %-7.2f      %-7.2f  \t       %-7.2f     \t%-7.2f\t\t%-7.2f \t\t%-7.2f\n",
		l.Size, l.Iterations, us(l.Min), us(l.Max), us(l.Typical), us(l.Average), us(l.Stdev), us(l.P99), us(l.P999))
}
