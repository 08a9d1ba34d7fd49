package tap

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"taproom/tap/netns"
)

// FromFiles makes a device of queues that somebody else opened, all of one
// interface, and takes the files over in any case. What they are, TAP or TUN,
// with a virtio-net header or without, is asked of the kernel. Of the Options
// only Offloads, GRO and Namespace are used; the last, if the interface is in
// another one, is needed for SetMTU and to find the MTU.
func FromFiles(files []*os.File, o Options) (*TAP, error) {
	d, err := fromFiles(files, o)
	if err != nil {
		closeAll(files)
	}
	return d, err
}

func fromFiles(files []*os.File, o Options) (*TAP, error) {
	if len(files) == 0 || len(files) > MaxQueues {
		return nil, fmt.Errorf("%w: %d files, want 1 to %d", ErrOptions, len(files), MaxQueues)
	}
	info := Info{Backend: "fd", Queues: len(files), MTU: 1500, Netns: o.Namespace.String()}
	var flags uint16
	for i, f := range files {
		ifr, _ := unix.NewIfreq("")
		if err := control(f, func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr) }); err != nil {
			return nil, fmt.Errorf("tap: file %d is no attached TUN/TAP queue (TUNGETIFF): %w", i, err)
		}
		if i > 0 && (ifr.Name() != info.Name || ifr.Uint16() != flags) {
			return nil, fmt.Errorf("tap: file %d is a queue of %s, file 0 one of %s", i, ifr.Name(), info.Name)
		}
		info.Name, flags = ifr.Name(), ifr.Uint16()
	}
	if flags&unix.IFF_NO_PI == 0 {
		return nil, fmt.Errorf("tap: %s was opened without IFF_NO_PI", info.Name)
	}
	if flags&unix.IFF_TUN != 0 {
		info.Kind = IP
	}
	want := AllOffloads
	if o.Offloads != nil {
		want = *o.Offloads
	}
	var err error
	if flags&unix.IFF_VNET_HDR != 0 {
		info.Backend = BackendVnet
		for _, f := range files {
			err = errors.Join(err, control(f, func(fd int) error { return ioctlValue(fd, unix.TUNSETVNETHDRSZ, vnetLen) }))
		}
		if err == nil {
			info.Offloads, err = negotiate(files, info.Name, want)
		}
	} else {
		err = setOffload(files[0], 0)
	}
	if err != nil {
		return nil, fmt.Errorf("tap: %s: %w", info.Name, err)
	}
	if l, err := o.Namespace.Link(info.Name); err == nil {
		info.MTU = l.MTU
		if info.Kind == Ethernet {
			info.Addr, _ = net.ParseMAC(l.Addr)
		}
	}
	return newTAP(append([]*os.File(nil), files...), info, o)
}

// ReceiveFiles reads one message from a unix socket and returns the files that
// came with it (SCM_RIGHTS) and its bytes.
func ReceiveFiles(c *net.UnixConn) ([]*os.File, []byte, error) {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*MaxQueues))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, nil, fmt.Errorf("tap: cannot receive files: %w", err)
	}
	files, err := netns.ParseRights(oob[:oobn])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = errors.New("more files than fit")
	}
	if err == nil && len(files) == 0 {
		err = errors.New("the message had none")
	}
	if err != nil {
		closeAll(files)
		return nil, nil, fmt.Errorf("tap: cannot receive files: %w", err)
	}
	return files, b[:n], nil
}

// SendFiles sends files over a unix socket beside the message b, which must
// not be empty on a stream socket. The files stay the caller's.
func SendFiles(c *net.UnixConn, b []byte, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		if err := control(f, func(fd int) error { fds[i] = fd; return nil }); err != nil {
			return fmt.Errorf("tap: cannot send file: %w", err)
		}
	}
	if _, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("tap: cannot send files: %w", err)
	}
	return nil
}
