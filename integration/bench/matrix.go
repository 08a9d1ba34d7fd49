package main

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"taproom/integration/room"
	"taproom/stack"
	"taproom/stack/packet"
	"taproom/stack/wire"
	"taproom/tap/netns"
	"taproom/tap/pump"
)

// The matrix: one TCP connection over taproom with a wire at one of its
// devices, which delays both ways and loses towards the receiver, for each
// MTU, round-trip time and loss. The congestion control is Reno: every kernel
// has it, and what it makes of loss is known. What TCP itself can do is known for most
// cells, so that a cell far below is a cliff of ours.

// matrixBuffer is what the rooms allow a socket, in bytes. At 100 ms it is
// what bounds a connection without loss.
const matrixBuffer = 64 << 20

// cell is one measurement.
type cell struct {
	MTU   int     `json:"mtu"`
	RTT   float64 `json:"rtt_ms"`
	Loss  float64 `json:"loss_percent"`
	Gbps  float64 `json:"gbps"`
	Limit float64 `json:"limit_gbps"` // of TCP itself
	By    string  `json:"limited_by"`
	Drops uint64  `json:"wire_drops"` // other than the loss that was asked for
	Part  float64 `json:"of_limit"`
}

func matrix(o options) error {
	mtus := []int{1280, 1500, 9000, 65520}
	rtts := []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond}
	losses := []float64{0, 0.001, 0.01}
	if o.quick {
		mtus, rtts, losses = []int{1500, 65520}, []time.Duration{0, 10 * time.Millisecond}, []float64{0, 0.01}
	}
	var cells []cell
	if !o.json {
		fmt.Println("  MTU     RTT   loss    Gbit/s     limit  of limit  wire drops  limited by")
	}
	for _, mtu := range mtus {
		ceiling := 0.0 // of this MTU: what the machine does without wire
		for _, rtt := range rtts {
			for _, loss := range losses {
				c, err := o.cell(mtu, rtt, loss, ceiling)
				if err != nil {
					fmt.Fprintf(os.Stderr, "MTU %d, RTT %v, loss %v: %v\n", mtu, rtt, loss, err)
					continue
				}
				ceiling = max(ceiling, c.Gbps)
				if !o.json {
					fmt.Printf("%5d %4.0f ms %5.1f%% %9.3f %9.3f %8.0f%% %11d  %s\n",
						c.MTU, c.RTT, c.Loss, c.Gbps, c.Limit, c.Part*100, c.Drops, c.By)
				}
				cells = append(cells, c)
			}
		}
	}
	if o.json {
		return printJSON(cells)
	}
	return nil
}

// cell measures one.
func (o options) cell(mtu int, rtt time.Duration, loss, ceiling float64) (c cell, err error) {
	a, b, shim, stop, err := wired(mtu)
	if err != nil {
		return c, err
	}
	defer stop()
	if err := shim.Impair(wire.Impairment{Delay: rtt / 2, Loss: loss}, wire.Impairment{Delay: rtt / 2}); err != nil {
		return c, err
	}
	base, err := roundTrip(a)
	if err != nil {
		return c, err
	}
	length := o.length
	if rtt >= 100*time.Millisecond {
		length *= 2 // to get through slow start
	}
	r, err := pump.Load{From: a, To: b, Time: length, Control: "reno", Addr: netip.MustParseAddr(room.B4)}.Run()
	if err != nil {
		return c, err
	}
	c = cell{MTU: mtu, RTT: float64(rtt.Milliseconds()), Loss: loss * 100, Gbps: r.Gbps}
	if out, back, ok := shim.Wire(); ok {
		for r := range out.Dropped {
			c.Drops += out.Dropped[r] + back.Dropped[r]
		}
		c.Drops -= out.Dropped[packet.WireLoss]
	}
	c.Limit, c.By = limit(mtu, base, loss, length, ceiling)
	if c.Limit > 0 {
		c.Part = c.Gbps / c.Limit
	} else {
		c.Limit, c.Part = c.Gbps, 1
	}
	return c, nil
}

// roundTrip is what ping measures, the machine's own time included: it is all
// there is in a cell without delay.
func roundTrip(from *netns.Namespace) (time.Duration, error) {
	r := room.Room{Name: "ping", Ns: from}
	out, err := r.Output("ping", "-q", "-c", "20", "-i", "0.005", room.B4)
	if err != nil {
		// Lost echoes are no error here, as long as some return.
		if _, _, ok := strings.Cut(out, "rtt "); !ok {
			return 0, err
		}
	}
	_, after, _ := strings.Cut(out, "= ")
	f := strings.Split(after, "/")
	if len(f) < 2 {
		return 0, fmt.Errorf("ping printed %q", out)
	}
	ms, err := strconv.ParseFloat(f[1], 64)
	return time.Duration(ms * float64(time.Millisecond)), err
}

// limit is what bounds TCP in a cell, in Gbit/s: the machine, the socket
// buffers, slow start within the time of the measurement, or loss.
func limit(mtu int, rtt time.Duration, loss float64, length time.Duration, machine float64) (float64, string) {
	best, by := machine, "machine"
	if machine == 0 && loss == 0 {
		return 0, by // this is the cell that finds out
	}
	lower := func(bits float64, name string) {
		if g := bits / 1e9; best == 0 || g < best {
			best, by = g, name
		}
	}
	s, mss := rtt.Seconds(), float64(segment(mtu, false))
	// Half of the buffer is window (tcp_adv_win_scale 1).
	lower(matrixBuffer/2*8/s, "buffers")
	// Slow start doubles ten segments once a round trip; what it moves until
	// it gets there is little.
	if loss == 0 && rtt > time.Millisecond {
		full := math.Log2(max(best*1e9/8*s/(10*mss), 1)) * s
		lower(best*1e9*max(1-full/length.Seconds(), 0.05), by+", slow start")
	}
	if loss > 0 {
		// Mathis et al. 1997 for Reno, whose constant is that of a receiver that acknowledges each segment.
		lower(1.22/math.Sqrt(loss)*mss*8/s, "loss")
	}
	return best, by
}

// wired is taproom with a shim before the receiver's device.
func wired(mtu int) (a, b *netns.Namespace, shim *wire.Shim, stop func(), err error) {
	sysctls := map[string]string{
		"net.ipv4.tcp_rmem": fmt.Sprintf("4096 131072 %d", matrixBuffer),
		"net.ipv4.tcp_wmem": fmt.Sprintf("4096 65536 %d", matrixBuffer),
		// Otherwise a cell would begin with what the last one learnt.
		"net.ipv4.tcp_no_metrics_save": "1",
	}
	var ends [2]*room.Room
	n, err := stack.New(stack.Options{Name: "r"})
	if err != nil {
		return nil, nil, nil, nil, err
	}
	stop = func() {
		n.Close()
		for _, r := range ends {
			if r != nil {
				_ = r.Close()
			}
		}
	}
	for k, e := range []struct{ addr, via string }{{room.A4, "10.1.0.1"}, {room.B4, "10.2.0.1"}} {
		r, err := room.New(e.via, room.Config{Addrs: []string{e.addr + "/24"}, Via: []string{e.via}, MTU: mtu, Sysctls: sysctls})
		if err != nil {
			stop()
			return nil, nil, nil, nil, err
		}
		ends[k] = r
		c := stack.InterfaceConfig{Name: fmt.Sprint("eth", k), Addresses: []netip.Prefix{netip.MustParsePrefix(e.via + "/24")}}
		if k == 0 {
			_, err = n.AddInterface(r.Dev, c)
		} else if shim, err = wire.Around(r.Dev, wire.Config{Name: c.Name, MTU: mtu, Seed: 1}); err == nil {
			_, err = n.AddInterface(shim, c)
		}
		if err != nil {
			stop()
			return nil, nil, nil, nil, err
		}
	}
	return ends[0].Ns, ends[1].Ns, shim, stop, nil
}
