package rdma

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"text/tabwriter"

	"taproom/integration/room"
	"taproom/rdma/perftest"
	"taproom/rdma/roce"
	"taproom/tap/netns"
)

var rigs = []struct {
	name string
	make func(*testing.B) *rig
}{{"memory", memoryRig}, {"wire", wireRig}, {"bridge", bridgeRig}}

var sizes = []int{64, 1 << 10, 4 << 10, 64 << 10, 1 << 20}

var kinds = []struct {
	name string
	kind perftest.Kind
}{{"WRITE", perftest.Write}, {"SEND", perftest.Send}, {"READ", perftest.Read}}

// BenchmarkBandwidth keeps work requests under way between two devices in
// memory, on two nodes with a wire, and of two processes with TAP, bridge and
// TAP between them. At 64 bytes it is the message rate.
func BenchmarkBandwidth(b *testing.B) {
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			for _, mtu := range []roce.MTU{roce.MTU1024, roce.MTU4096} {
				for _, k := range kinds {
					for _, size := range sizes {
						b.Run(fmt.Sprintf("%s/mtu%v/%d", k.name, mtu, size), func(b *testing.B) {
							depth := max(8, min(128, 4<<20/size))
							t := perftest.Test{Kind: k.kind, Sizes: []int{size}, Iterations: b.N, Depth: depth, Moderation: max(1, depth/4), MTU: mtu, GIDIndex: -1}
							if k.kind == perftest.Read {
								t.Depth = 16
								t.Moderation = 4
							}
							res, cpu, err := r.measure(t)
							must(b, err)
							rate := res.Report.MsgRate * 1e6
							perGB := cpu.Seconds() / (float64(b.N) * float64(size) / 1e9)
							b.ReportMetric(rate*float64(size)/1e9, "GB/s")
							b.ReportMetric(rate/1e6, "Mmsg/s")
							b.ReportMetric(perGB, "cpu-s/GB")
							results.bandwidth(c.name, k.name, mtu, size, rate, perGB)
						})
					}
				}
			}
		})
	}
}

// BenchmarkLatency is half a round trip of 64 bytes, both sides polling.
func BenchmarkLatency(b *testing.B) {
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			for _, k := range kinds {
				b.Run(k.name, func(b *testing.B) {
					res, _, err := r.measure(perftest.Test{Kind: k.kind, Latency: true, Sizes: []int{64}, Iterations: b.N, GIDIndex: -1})
					must(b, err)
					l := res.Latency
					b.ReportMetric(float64(l.Typical.Nanoseconds())/1e3, "p50-us")
					b.ReportMetric(float64(l.P99.Nanoseconds())/1e3, "p99-us")
					results.latency(c.name, k.name, l)
				})
			}
		})
	}
}

// BenchmarkKernel is what the kernel's own TCP and UDP do between two rooms on
// veth, bridge and veth: the same way without TAPs and without taproom.
func BenchmarkKernel(b *testing.B) {
	room.Need(b, "root", "ip", "nsenter", "iperf3")
	var ns [3]*netns.Namespace
	for i := range ns {
		var err error
		ns[i], err = netns.New(netns.Options{})
		must(b, err)
		b.Cleanup(func() { _ = ns[i].Close() })
	}
	shell(b, ns[0], "ip link add br0 type bridge stp_state 0 forward_delay 0; ip link set br0 up")
	for i := 1; i <= 2; i++ {
		// iperf3's daemon side starts in the room; its pid is how ip-link(8)
		// names a namespace without a name.
		sleeper := exec.Command("nsenter", "--net="+ns[i].Path(), "--", "sleep", "600")
		must(b, sleeper.Start())
		b.Cleanup(func() { _, _ = sleeper.Process.Kill(), sleeper.Wait() })
		shell(b, ns[0], "ip link add v%d mtu %d type veth peer name eth0 netns %d mtu %[2]d; ip link set v%[1]d master br0 up", i, linkMTU, sleeper.Process.Pid)
		shell(b, ns[i], "ip link set lo up; ip addr add 10.77.1.%d/24 dev eth0; ip link set eth0 up", i)
	}
	for _, c := range []struct{ name, args string }{{"TCP", ""}, {"UDP", "-u -b 0 -l 4096"}} {
		b.Run(c.name, func(b *testing.B) {
			server := exec.Command("nsenter", "--net="+ns[2].Path(), "--", "iperf3", "-s", "-1", "--forceflush")
			out, err := server.StdoutPipe()
			must(b, err)
			must(b, server.Start())
			defer server.Wait()
			var said [512]byte
			for s := ""; !strings.Contains(s, "listening"); {
				n, err := out.Read(said[:])
				must(b, err)
				s += string(said[:n])
			}
			go io.Copy(io.Discard, out)
			text, err := exec.Command("nsenter", append([]string{"--net=" + ns[1].Path(), "--", "iperf3", "-c", "10.77.1.2", "-J", "-t", "1"}, strings.Fields(c.args)...)...).Output()
			must(b, err)
			var r struct {
				End struct {
					Received struct {
						BPS float64 `json:"bits_per_second"`
					} `json:"sum_received"`
					UDP struct {
						BPS  float64 `json:"bits_per_second"`
						Lost float64 `json:"lost_percent"`
					} `json:"sum"`
					CPU struct {
						HostTotal   float64 `json:"host_total"`
						RemoteTotal float64 `json:"remote_total"`
					} `json:"cpu_utilization_percent"`
				} `json:"end"`
			}
			must(b, json.Unmarshal(text, &r))
			bps := r.End.Received.BPS
			if bps == 0 {
				bps = r.End.UDP.BPS * (1 - r.End.UDP.Lost/100)
			}
			rate := bps / 8e9
			perGB := (r.End.CPU.HostTotal + r.End.CPU.RemoteTotal) / 100 / rate
			b.ReportMetric(rate, "GB/s")
			b.ReportMetric(perGB, "cpu-s/GB")
			b.ReportMetric(0, "ns/op") // it takes its second whatever b.N says
			results.kernel(c.name, rate, perGB)
		})
	}
}

// results collects what the benchmarks of one run have found, for a table with
// ratios at the end.
var results table

type table struct {
	rows       []string
	lines      map[string][]string
	tcp        float64
	bandwidths []bandwidth
}

type bandwidth struct {
	path, kind  string
	mtu         roce.MTU
	size        int
	rate, perGB float64
}

func (t *table) bandwidth(path, kind string, mtu roce.MTU, size int, rate, perGB float64) {
	n := bandwidth{path, kind, mtu, size, rate, perGB}
	if k := len(t.bandwidths); k > 0 { // a benchmark is called with growing b.N: the last counts
		if o := t.bandwidths[k-1]; o.path == path && o.kind == kind && o.mtu == mtu && o.size == size {
			t.bandwidths[k-1] = n
			return
		}
	}
	t.bandwidths = append(t.bandwidths, n)
}

func (t *table) line(key, text string) {
	if t.lines == nil {
		t.lines = make(map[string][]string)
	}
	if t.lines[key] == nil {
		t.rows = append(t.rows, key)
	}
	t.lines[key] = []string{text}
}

func (t *table) latency(path, kind string, l perftest.Latency) {
	t.line("latency "+path+" "+kind, fmt.Sprintf("64 B %s, %s\tp50 %v\tp99 %v\tp99.9 %v", kind, path, l.Typical, l.P99, l.P999))
}

func (t *table) kernel(name string, rate, perGB float64) {
	if name == "TCP" {
		t.tcp = rate
	}
	t.line("kernel "+name, fmt.Sprintf("kernel %s, veth-bridge-veth\t%.2f GB/s\t%.2f cpu-s/GB\t", name, rate, perGB))
}

func (t *table) print(w io.Writer) {
	if len(t.bandwidths)+len(t.rows) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "path\toperation\tMTU\tbytes\tGB/s\tk msg/s\tcpu-s/GB\tto WRITE\tto kernel TCP\t")
	writes := make(map[string]float64)
	key := func(b bandwidth) string { return fmt.Sprint(b.path, b.mtu, b.size) }
	for _, b := range t.bandwidths {
		if b.kind == "WRITE" {
			writes[key(b)] = b.rate
		}
	}
	ratio := func(a, b float64) string {
		if b == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", a/b)
	}
	for _, b := range t.bandwidths {
		gb := b.rate * float64(b.size) / 1e9
		fmt.Fprintf(tw, "%s\t%s\t%v\t%d\t%.3f\t%.0f\t%.2f\t%s\t%s\t\n", b.path, b.kind, b.mtu, b.size, gb, b.rate/1e3, b.perGB, ratio(b.rate, writes[key(b)]), ratio(gb, t.tcp))
	}
	_ = tw.Flush()
	tw = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, k := range t.rows {
		fmt.Fprintln(tw, t.lines[k][0])
	}
	_ = tw.Flush()
}
