package verbs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"taproom/rdma/perftest"
)

// Serve is the server's side of a benchmark on an interface: it waits for one
// client on the router's own TCP port, as ib_write_bw and its sisters do.
func (p *Part) Serve(ctx context.Context, iface string, port uint16, t perftest.Test) ([]perftest.Result, error) {
	dev, err := p.Device(iface)
	if err != nil {
		return nil, err
	}
	l, err := p.node.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), port)) // for IPv4 too
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case conns <- c:
		case <-ctx.Done():
			_ = c.Close()
		}
	}()
	select {
	case c := <-conns:
		defer c.Close()
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
		return t.Server(c, dev)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run is the client's side, against a server at an address: ours, or the
// perftest program of a machine with another RDMA device.
func (p *Part) Run(ctx context.Context, iface string, server netip.AddrPort, t perftest.Test) ([]perftest.Result, error) {
	dev, err := p.Device(iface)
	if err != nil {
		return nil, err
	}
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := p.node.DialTCP(dial, netip.AddrPort{}, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	return t.Client(c, dev)
}

// Between runs both sides: the server on another router's interface.
func (p *Part) Between(ctx context.Context, iface string, to *Part, toIface string, port uint16, t perftest.Test) ([]perftest.Result, error) {
	addr, err := to.address(toIface)
	if err != nil {
		return nil, err
	}
	silent := t
	silent.Out = nil
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		_, err := to.Serve(ctx, toIface, port, silent)
		served <- err
	}()
	var res []perftest.Result
	for try := 0; ; try++ {
		res, err = p.Run(ctx, iface, netip.AddrPortFrom(addr, port), t)
		if err == nil || try == 20 || !refused(err) {
			break
		}
		select { // the server is not listening yet
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	if serr := <-served; err != nil && serr != nil && !errors.Is(serr, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("server: %w", serr))
	}
	return res, err
}

func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &op) && op.Op == "connect"
}

// address is an address of an interface that others can reach.
func (p *Part) address(iface string) (netip.Addr, error) {
	i := p.node.InterfaceByName(iface)
	if i == nil {
		return netip.Addr{}, fmt.Errorf("no interface %s:%s", p.node.Name(), iface)
	}
	for _, a := range i.Addresses() {
		if !a.Addr().IsLinkLocalUnicast() {
			return a.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s:%s has no address but a link-local one", p.node.Name(), iface)
}
