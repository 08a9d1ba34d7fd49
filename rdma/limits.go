package rdma

import (
	"time"
)

// Limits are a device's (struct ibv_device_attr). Zero fields of [Options]
// take the values of Linux's rxe; see [DefaultLimits].
type Limits struct {
	MaxQP           int
	MaxQPWR         int // work requests of one queue
	MaxSGE          int // per work request; at most 32
	MaxSRQSGE       int
	MaxInline       int // bytes
	MaxCQ           int
	MaxCQE          int
	MaxMR           int
	MaxMW           int
	MaxPD           int
	MaxAH           int
	MaxSRQ          int
	MaxSRQWR        int
	MaxRdAtomic     int // outstanding READs and atomics per QP, each way
	MaxMcastGroups  int
	MaxMcastQPs     int // per group
	MaxFastRegPages int
	MaxMsgSize      int // bytes; rxe says 8 MiB, this device 2 GiB
	// MaxUnacked is the most packets a requester has under way. The default is
	// 512, of which a queue pair uses what makes 512 KiB, but not less than
	// rxe's 128; with LikeRxe it is 128.
	MaxUnacked int

	FirstQPN uint32
	LastQPN  uint32
}

// DefaultLimits are those of rxe in Linux 6.1 and later, but for the message size.
func DefaultLimits() Limits {
	return Limits{
		MaxQP: 1<<20 - 16, MaxQPWR: 1 << 20, MaxSGE: 32, MaxSRQSGE: 27, MaxInline: 512,
		MaxCQ: 1 << 20, MaxCQE: 32767, MaxMR: 1<<19 - 1, MaxMW: 1 << 19, MaxPD: 1 << 20, MaxAH: 32767,
		MaxSRQ: 917503, MaxSRQWR: 1 << 20, MaxRdAtomic: 128, MaxMcastGroups: 8192, MaxMcastQPs: 56,
		MaxFastRegPages: 512, MaxMsgSize: 1 << 31, MaxUnacked: 512, FirstQPN: 17, LastQPN: 1<<24 - 2,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, def *int }{
		{&l.MaxQP, &d.MaxQP}, {&l.MaxQPWR, &d.MaxQPWR}, {&l.MaxSGE, &d.MaxSGE}, {&l.MaxSRQSGE, &d.MaxSRQSGE},
		{&l.MaxInline, &d.MaxInline}, {&l.MaxCQ, &d.MaxCQ}, {&l.MaxCQE, &d.MaxCQE}, {&l.MaxMR, &d.MaxMR},
		{&l.MaxMW, &d.MaxMW}, {&l.MaxPD, &d.MaxPD}, {&l.MaxAH, &d.MaxAH}, {&l.MaxSRQ, &d.MaxSRQ},
		{&l.MaxSRQWR, &d.MaxSRQWR}, {&l.MaxRdAtomic, &d.MaxRdAtomic}, {&l.MaxMcastGroups, &d.MaxMcastGroups},
		{&l.MaxMcastQPs, &d.MaxMcastQPs}, {&l.MaxFastRegPages, &d.MaxFastRegPages}, {&l.MaxMsgSize, &d.MaxMsgSize},
		{&l.MaxUnacked, &d.MaxUnacked},
	} {
		if *f.v == 0 {
			*f.v = *f.def
		}
	}
	if l.FirstQPN == 0 {
		l.FirstQPN = d.FirstQPN
	}
	if l.LastQPN == 0 {
		l.LastQPN = d.LastQPN
	}
	return l
}

// Options of a device. The zero value is right for most.
type Options struct {
	Name   string // for listings; "taproom0" if empty
	Limits Limits
	// PKeys is the partition table; {0xffff} if empty.
	PKeys []uint16

	// LikeRxe does as rxe does where more than one way is right: AckReq on the
	// last packet of every message and every 66th, an ACK for each packet with
	// AckReq and each duplicate, a missing READ response noticed by the time-out
	// only, a READ asked for again from its middle answered with MIDDLE and LAST,
	// not FIRST, and a UC message delivered as often as it arrives. For tests that
	// compare packets.
	LikeRxe    bool
	Congestion Congestion
	// TraceDepth is how many packets the trace of each queue pair keeps; 0 for
	// no trace.
	TraceDepth int
	// FirstIPID is the IPv4 identification a queue pair starts with.
	FirstIPID uint16
	// NewKey makes the lower eight bits of keys; nil for random ones, so that a
	// key that has gone is not soon one of another object.
	NewKey func() uint8
	// MaxRun is the most packets of one super-frame; 0 for what the port takes,
	// 1 for none.
	MaxRun int
}

// Congestion control: ECN marks answered by congestion notification packets
// (IBTA A17.9), and the rate control of DCQCN at the sender.
type Congestion struct {
	NoCNP   bool          // do not answer marks
	NoDCQCN bool          // ignore congestion notifications
	ECT     bool          // send ECN-capable (ECT(0)) packets when the traffic class has no ECN bits
	CNPGap  time.Duration // at most one notification per queue pair in this time; 50 us if zero
	// LineRate in bytes per second is where a queue pair starts, and the most
	// it climbs back to; 5e9 if zero. Nothing is paced before the first
	// notification.
	LineRate float64
}
