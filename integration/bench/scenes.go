package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"taproom/integration/room"
	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/packet"
	"taproom/stack/wire"
	"taproom/tap/netns"
	"taproom/tap/pump"
)

// taproom is what this is about.
func taproom(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	t, err := room.NewTwo(room.Config{MTU: mtu}, room.Config{MTU: mtu})
	if err != nil {
		return nil, nil, nil, err
	}
	return t.A.Ns, t.B.Ns, t.Close, nil
}

// joining is taproom with GRO at its devices.
func joining(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	t, err := room.NewTwo(room.Config{MTU: mtu, GRO: true}, room.Config{MTU: mtu, GRO: true})
	if err != nil {
		return nil, nil, nil, err
	}
	return t.A.Ns, t.B.Ns, t.Close, nil
}

// hooked is taproom with a handler at each point that does nothing.
func hooked(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	t, err := room.NewTwo(room.Config{MTU: mtu}, room.Config{MTU: mtu})
	if err != nil {
		return nil, nil, nil, err
	}
	empty := hook.HandlerFunc(func(hook.Point, *packet.Packet) hook.Verdict { return hook.Continue })
	for pt := range hook.NumPoints {
		if _, err := t.Node.Attach(pt, empty, hook.Options{Name: "empty"}); err != nil {
			t.Close()
			return nil, nil, nil, err
		}
	}
	return t.A.Ns, t.B.Ns, t.Close, nil
}

// What a large node has.
const (
	manyInterfaces = 1000
	manyRoutes     = 100_000
)

// large is taproom with many interfaces and routes beside those in use.
func large(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	t, err := room.NewTwo(room.Config{MTU: mtu}, room.Config{MTU: mtu})
	if err != nil {
		return nil, nil, nil, err
	}
	var far []*wire.End
	stop := func() {
		t.Close()
		for _, e := range far {
			_ = e.Close()
		}
	}
	if err := enlarge(t.Node, &far); err != nil {
		stop()
		return nil, nil, nil, err
	}
	return t.A.Ns, t.B.Ns, stop, nil
}

func enlarge(n *stack.Node, far *[]*wire.End) error {
	for k := range manyInterfaces - 2 {
		near, end, err := wire.New(wire.Config{Name: fmt.Sprint("w", k)})
		if err != nil {
			return err
		}
		*far = append(*far, end)
		own := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16 + byte(k>>8), byte(k), 1}), 24)
		if _, err := n.AddInterface(near, stack.InterfaceConfig{Addresses: []netip.Prefix{own}}); err != nil {
			return err
		}
	}
	routes := make([]stack.Route, manyRoutes)
	for k := range routes {
		via := k % (manyInterfaces - 2)
		routes[k] = stack.Route{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(k>>16), byte(k >> 8), byte(k), 0}), 24),
			Via:    netip.AddrFrom4([4]byte{172, 16 + byte(via>>8), byte(via), 2}),
		}
	}
	return n.AddRoutes(routes)
}

// oneNet makes two rooms on one network, for what does not route.
func oneNet(mtu int) (a, b *room.Room, err error) {
	a, err = room.New("a", room.Config{Addrs: []string{room.A4 + "/8", room.A6 + "/8"}, MTU: mtu})
	if err != nil {
		return nil, nil, err
	}
	b, err = room.New("b", room.Config{Addrs: []string{room.B4 + "/8", room.B6 + "/8"}, MTU: mtu})
	if err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return a, b, nil
}

// pumped copies frames from TAP to TAP.
func pumped(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	a, b, err := oneNet(mtu)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := func() { _ = a.Close(); _ = b.Close() }
	if err := pump.Join(a.Dev, b.Dev); err != nil {
		stop()
		return nil, nil, nil, err
	}
	return a.Ns, b.Ns, stop, nil
}

// kernelRouter is a third namespace between two veth pairs.
func kernelRouter(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	script := `
for n in tpA tpR tpB; do ip netns del $n 2>/dev/null || true; ip netns add $n; ip -n $n link set lo up; done
ip link add a0 netns tpA mtu MTU type veth peer name r0 netns tpR mtu MTU
ip link add b0 netns tpB mtu MTU type veth peer name r1 netns tpR mtu MTU
for s in tpA:a0:10.1.0.2/24:fd01::2/64 tpR:r0:10.1.0.1/24:fd01::1/64 tpR:r1:10.2.0.1/24:fd02::1/64 tpB:b0:10.2.0.2/24:fd02::2/64; do
  n=${s%%:*}; s=${s#*:}; d=${s%%:*}; s=${s#*:}; v4=${s%%:*}; v6=${s#*:}
  ip -n $n addr add $v4 dev $d; ip -n $n addr add $v6 dev $d nodad; ip -n $n link set $d up
done
ip netns exec tpR sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n tpA route add default via 10.1.0.1; ip -n tpA route add default via fd01::1
ip -n tpB route add default via 10.2.0.1; ip -n tpB route add default via fd02::1
`
	if out, err := exec.Command("sh", "-ec", strings.ReplaceAll(script, "MTU", fmt.Sprint(mtu))).CombinedOutput(); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %s", err, out)
	}
	a, err := netns.Open("tpA")
	if err != nil {
		return nil, nil, nil, err
	}
	b, err := netns.Open("tpB")
	if err != nil {
		return nil, nil, nil, err
	}
	return a, b, func() {
		_, _ = a.Close(), b.Close()
		for _, n := range []string{"tpA", "tpR", "tpB"} {
			_ = netns.Remove(n)
		}
	}, nil
}
