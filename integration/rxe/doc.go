// Package rxe boots a Linux guest with rdma_rxe, the kernel's software RoCE
// device, as a peer to test against.
//
// The guest is Debian's kernel and Debian's tools (ibv_*_pingpong, perftest,
// rping, udaddy, mckey, iproute2) in QEMU without hardware virtualisation, built
// from packages that apt downloads into the user's cache directory; nothing is
// installed, and root is not needed. The first build takes about half a minute
// and 90 MB of download, a boot 4 to 12 seconds. verbx, a small verbs program of
// our own, is compiled into it where the machine has a C compiler.
//
//	g := rxe.Start(t, rxe.Options{})              // skips where QEMU cannot be had
//	out := g.MustRun(t, "ibv_devinfo", 10*time.Second)
//	link := g.Link()                              // whole Ethernet frames, both ways
//	host := rxe.NewHost(link, rxe.HostOptions{})  // answers ARP and neighbour discovery
//	host.Receive(func(ip []byte) { ... })
//	host.Send(packet)
//
// The guest's network card is one end of an Ethernet segment. With a plain Boot
// the other end is a unix socket of this process ([Guest.Link]); with
// Options.TAP it is a TAP device, which [NewLab] puts on a bridge in a network
// namespace of its own, together with TAPs of ours.
//
// Addresses: the guest is 10.9.0.1 and fd09::1, we are 10.9.0.2 and fd09::2, as
// in the recordings of package replay. The guest's GID table is: 0 the
// link-local address, 1 ::ffff:10.9.0.1, 2 fd09::1.
//
// Environment: RXE_PEER_KERNEL pins the kernel package (linux-image-...-amd64);
// TAPROOM_REQUIRE, a comma list, makes a missing capability a failure instead of
// a skip: "rxe" is this package's, "rxe-tap" that of tests with a TAP.
//
// This kernel's bugs that tests must walk around: a second
// SEND_WITH_INVALIDATE of a dead memory window panics it; on a UC queue pair a
// lost MIDDLE or LAST loses the next message too.
package rxe
