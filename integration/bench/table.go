package main

import (
	"fmt"

	"taproom/tap/pump"
)

// row is one line of the table, and one object of the JSON.
type row struct {
	MTU   int     `json:"mtu"`
	Load  string  `json:"load"`
	Scene string  `json:"scene"`
	Gbps  float64 `json:"gbps"`
	// Kpps are thousands of datagrams a second that arrived; Loss is the part
	// of those sent that did not.
	Kpps float64 `json:"kpps,omitempty"`
	Loss float64 `json:"loss,omitempty"`
	// The CPU of the process in between, which for the kernel's router there
	// is not: per gigabit, and per packet on the wire. A packet of TCP is a
	// full segment.
	PerGbit   float64 `json:"cpu_seconds_per_gbit,omitempty"`
	PerPacket float64 `json:"cpu_us_per_packet,omitempty"`
	// Ratio is the throughput in units of taproom's.
	Ratio float64 `json:"ratio_to_taproom,omitempty"`

	udp bool
}

// rows puts results in the order of the table.
func (o options) rows(mtu int, best map[string]pump.Result) (rows []row) {
	for _, l := range loads {
		ours := best["taproom"+l.name].Gbps
		for _, s := range scenes {
			r, ok := best[s.name+l.name]
			if !ok {
				continue
			}
			n := row{MTU: mtu, Load: l.name, Scene: s.name, Gbps: r.Gbps, udp: l.UDP}
			packets := r.Gbps * r.Wall.Seconds() * 1e9 / 8 / float64(segment(mtu, l.v6))
			if l.UDP {
				packets = float64(r.Received)
				n.Kpps = packets / r.Wall.Seconds() / 1e3
				n.Loss = 1 - packets/float64(max(r.Sent, 1))
			}
			if s.name != "kernel" && packets > 0 {
				n.PerGbit, n.PerPacket = r.CPUPerGbit(), float64(r.CPU.Microseconds())/packets
			}
			if ours > 0 {
				n.Ratio = r.Gbps / ours
			}
			rows = append(rows, n)
		}
	}
	return rows
}

// segment is the payload of a full TCP segment with timestamps.
func segment(mtu int, v6 bool) int {
	if v6 {
		mtu -= 20
	}
	return mtu - 20 - 20 - 12
}

// show prints rows, at most 80 columns wide.
func show(mtu int, rows []row) {
	fmt.Printf("\nMTU %-5d          Gbit/s     kpps   loss   CPU s/Gbit  CPU us/packet  of taproom\n", mtu)
	for _, r := range rows {
		kpps, loss, gbit, pkt := "", "", "(kernel)", ""
		if r.udp {
			kpps, loss = fmt.Sprintf("%.0f", r.Kpps), fmt.Sprintf("%.0f%%", r.Loss*100)
		}
		if r.PerPacket > 0 {
			gbit, pkt = fmt.Sprintf("%.3f", r.PerGbit), fmt.Sprintf("%.2f", r.PerPacket)
		}
		fmt.Printf("%-9s%-8s %7.2f %8s %6s %12s %14s %9.2fx\n", r.Load, r.Scene, r.Gbps, kpps, loss, gbit, pkt, r.Ratio)
	}
}
