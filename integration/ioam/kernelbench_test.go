package ioam

import (
	"net"
	"testing"

	"taproom/integration/room"
	"taproom/ioam/option"
	"taproom/stack/packet"
	"taproom/tap"
)

// BenchmarkKernelForward is what BenchmarkForward measures, done by a kernel:
// a traced packet goes in at one TAP and out of another, with IOAM off and on.
// The difference is what filling costs there.
func BenchmarkKernelForward(b *testing.B) {
	room.Need(b, "root", "tun", "ip")
	for _, c := range []struct {
		name    string
		enabled string
		typ     option.Type
	}{{"off", "0", 0xc00000}, {"fill c00000", "1", 0xc00000}, {"fill f00000", "1", 0xf00000}} {
		b.Run(c.name, func(b *testing.B) {
			k, err := room.New("k", room.Config{Addrs: []string{"fd0a::ff/64"}, Offloads: &tap.Offloads{},
				Sysctls: map[string]string{"net.ipv6.conf.all.forwarding": "1"}})
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			out, err := tap.Open(tap.Options{Name: "eth1", Namespace: k.Ns, Up: true, Offloads: &tap.Offloads{}})
			if err != nil {
				b.Fatal(err)
			}
			defer out.Close()
			for _, cmd := range []string{
				"ip addr add fd0b::ff/64 dev eth1 nodad",
				"ip neigh add fd0b::1 dev eth1 lladdr 02:00:00:00:00:09 nud permanent",
				"ip link set eth0 address 02:00:00:00:00:08",
				"sysctl -qw net.ipv6.conf.eth0.ioam6_enabled=" + c.enabled,
			} {
				k.Run(b, "sh", "-c", cmd)
			}
			if _, err := k.Output("ip", "ioam", "namespace", "add", "123"); err != nil {
				b.Skipf("needs a kernel with IOAM: %v", err)
			}
			received := 0
			for _, d := range []*tap.TAP{k.Dev, out} {
				if err := d.Start(func(_ int, batch []*packet.Packet) {
					for _, p := range batch {
						if d == out {
							received++
						}
						p.Release()
					}
				}); err != nil {
					b.Fatal(err)
				}
			}
			f := tracedFrame(c.typ)
			copy(f, net.HardwareAddr{2, 0, 0, 0, 0, 8})
			batch := make([]*packet.Packet, 1)
			for b.Loop() {
				batch[0] = packet.New(f)
				k.Dev.Write(0, batch)
			}
			b.StopTimer()
			if received == 0 {
				b.Fatal("nothing was forwarded")
			}
		})
	}
}
