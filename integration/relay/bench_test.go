package relay

import (
	"context"
	"encoding/json"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"taproom/integration/room"
	"taproom/stack/relay"
)

// BenchmarkTCP measures a container's TCP to a server of the host, with the
// CPU seconds of this process a gigabyte.
func BenchmarkTCP(b *testing.B) {
	room.Need(b, "iperf3")
	for _, mtu := range []int{1500, 65520} {
		c := newContainer(b, mtu, relay.Config{})
		for _, way := range []struct {
			name string
			args []string
		}{{"up1", nil}, {"up4", []string{"-P", "4"}}, {"down1", []string{"-R"}}, {"down4", []string{"-R", "-P", "4"}}} {
			b.Run(map[int]string{1500: "1500/", 65520: "65520/"}[mtu]+way.name, func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				srv := exec.CommandContext(ctx, "iperf3", "-s", "-1", "-B", "127.0.0.1")
				must(b, srv.Start())
				for b.Loop() {
				}
				var before, after unix.Rusage
				var out string
				var err error
				for range 50 {
					_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
					if out, err = c.Output("iperf3", append([]string{"-c", gw4.String(), "-t", "2", "-J"}, way.args...)...); err == nil {
						break
					}
				}
				must(b, err)
				_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
				_ = srv.Wait()
				var r struct {
					End struct {
						Received struct {
							Bits  float64 `json:"bits_per_second"`
							Bytes float64
						} `json:"sum_received"`
					}
				}
				must(b, json.Unmarshal([]byte(out), &r))
				cpu := float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) / 1e9
				b.ReportMetric(r.End.Received.Bits/1e9, "Gbit/s")
				b.ReportMetric(cpu/(r.End.Received.Bytes/1e9), "CPU-s/GB")
			})
		}
	}
}
