package vm

import (
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// testEnv is the world of a test run without one: real clocks, a loopback interface and
// nothing else. Copies of the packet go nowhere.
type testEnv struct {
	tunnel    Tunnel
	hasTunnel bool
}

const loopbackMTU = 65536

func (e *testEnv) Now(c Clock) uint64 {
	if c == TAI {
		return uint64(time.Now().UnixNano())
	}
	return uint64(time.Since(started))
}

func (e *testEnv) Random() uint32                   { return rand.Uint32() }
func (e *testEnv) Route(hook.RouteQuery) hook.Route { return hook.Route{} }

func (e *testEnv) Interface(index int) (hook.Interface, bool) {
	if index != testLoopback {
		return hook.Interface{}, false
	}
	return hook.Interface{
		Index: testLoopback, Name: "lo", MTU: loopbackMTU, HardwareAddr: make([]byte, 6), Up: true, Loopback: true,
	}, true
}

func (e *testEnv) Clone(pk *packet.Packet, ifindex int, _ bool) syscall.Errno {
	pk.Release()
	if ifindex != testLoopback {
		return syscall.EINVAL
	}
	return 0
}

func (e *testEnv) NextHop(*packet.Packet, netip.Addr) {}

func (e *testEnv) SetTunnel(_ *packet.Packet, t Tunnel) syscall.Errno {
	e.tunnel, e.hasTunnel = t, true
	return 0
}

func (e *testEnv) Tunnel(*packet.Packet) (Tunnel, bool)        { return e.tunnel, e.hasTunnel }
func (e *testEnv) Socket(SocketQuery) (Socket, bool)           { return Socket{}, false }
func (e *testEnv) Assign(*packet.Packet, Socket) syscall.Errno { return syscall.EOPNOTSUPP }
func (e *testEnv) Trace([]byte)                                {}
