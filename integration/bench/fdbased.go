package main

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"taproom/integration/room"
	"taproom/tap/netns"
)

// netstack is it as it comes: its own endpoint on each TAP, its own
// forwarding between them.
func netstack(mtu int) (*netns.Namespace, *netns.Namespace, func(), error) {
	s := stack.New(stack.Options{NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol}})
	var files []*os.File
	var spaces []*netns.Namespace
	stop := func() {
		s.Destroy()
		for k := range files {
			_ = files[k].Close()
		}
		for _, n := range spaces {
			_ = n.Close()
		}
	}
	for k, end := range []struct{ far4, far6, own4, own6 string }{
		{room.A4, room.A6, "10.1.0.1", "fd01::1"}, {room.B4, room.B6, "10.2.0.1", "fd02::1"},
	} {
		ns, f, err := plainTAP(end.far4, end.far6, end.own4, end.own6, mtu)
		if err != nil {
			stop()
			return nil, nil, nil, err
		}
		files, spaces = append(files, f), append(spaces, ns)
		if err := addNIC(s, tcpip.NICID(k+1), int(f.Fd()), mtu, end.own4, end.own6); err != nil {
			stop()
			return nil, nil, nil, err
		}
	}
	for _, p := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		if err := s.SetForwardingDefaultAndAllNICs(p, true); err != nil {
			stop()
			return nil, nil, nil, errors.New(err.String())
		}
	}
	return spaces[0], spaces[1], stop, nil
}

func plainTAP(far4, far6, gw4, gw6 string, mtu int) (*netns.Namespace, *os.File, error) {
	ns, err := netns.New(netns.Options{})
	if err != nil {
		return nil, nil, err
	}
	var f *os.File
	err = ns.Do(func() (err error) {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		r, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "tap")
		return unix.SetNonblock(fd, true)
	})
	if err != nil {
		return nil, nil, errors.Join(err, ns.Close())
	}
	err = ns.Configure(netns.Config{
		Loopback: true,
		Links: []netns.Link{{Name: "eth0", MTU: mtu, Up: true, Addrs: []netip.Prefix{
			netip.MustParsePrefix(far4 + "/24"), netip.MustParsePrefix(far6 + "/64"),
		}}},
		Routes: []netns.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(gw4), Dev: "eth0"},
			{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr(gw6), Dev: "eth0"},
		},
	})
	return ns, f, err
}

func addNIC(s *stack.Stack, id tcpip.NICID, fd, mtu int, own4, own6 string) error {
	ep, err := fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: uint32(mtu), EthernetHeader: true, ProcessorsPerChannel: 1,
		Address: tcpip.LinkAddress([]byte{2, 0, 0, 0, 9, byte(id)}),
	})
	if err != nil {
		return err
	}
	if err := s.CreateNIC(id, ep); err != nil {
		return errors.New(err.String())
	}
	for _, a := range []struct {
		proto tcpip.NetworkProtocolNumber
		addr  tcpip.Address
		bits  int
	}{
		{ipv4.ProtocolNumber, tcpip.AddrFrom4(netip.MustParseAddr(own4).As4()), 24},
		{ipv6.ProtocolNumber, tcpip.AddrFrom16(netip.MustParseAddr(own6).As16()), 64},
	} {
		p := tcpip.AddressWithPrefix{Address: a.addr, PrefixLen: a.bits}
		if err := s.AddProtocolAddress(id, tcpip.ProtocolAddress{Protocol: a.proto, AddressWithPrefix: p}, stack.AddressProperties{}); err != nil {
			return errors.New(err.String())
		}
		s.AddRoute(tcpip.Route{Destination: p.Subnet(), NIC: id})
	}
	return nil
}
