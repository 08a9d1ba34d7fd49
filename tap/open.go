package tap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"taproom/tap/netns"
)

const tunPath = "/dev/net/tun"

// Missing in x/sys (uapi linux/if_tun.h, Linux 6.2).
const (
	tunFUSO4 = 0x20
	tunFUSO6 = 0x40
)

const opOpen = "tap.open"

// openArgs and openReply travel to and from the process that opens the
// device, which may be an agent in another user namespace.
type (
	openArgs struct {
		Name      string
		Kind      Kind
		Queues    int
		Backend   string
		Offloads  Offloads
		Persist   bool
		Addr      net.HardwareAddr
		MTU, QLen int
		Up        bool
	}
	openReply struct {
		Name     string
		Offloads Offloads
		Addr     net.HardwareAddr
		MTU      int
	}
)

func init() {
	netns.Register(opOpen, func(raw json.RawMessage) (any, []*os.File, error) {
		var a openArgs
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, nil, fmt.Errorf("tap: open: %w", err)
		}
		r, files, err := openHere(a)
		if err != nil {
			closeAll(files)
			return nil, nil, err
		}
		return r, files, nil
	})
}

// Open opens a device as o says.
func Open(o Options) (*TAP, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := openArgs{Name: o.Name, Kind: o.Kind, Queues: o.Queues, Backend: o.Backend, Offloads: AllOffloads,
		Persist: o.Persist, Addr: o.Addr, MTU: o.MTU, QLen: o.QueueLen, Up: o.Up}
	if o.Offloads != nil {
		a.Offloads = *o.Offloads
	}
	if a.Offloads == (Offloads{}) && a.Backend == BackendVnet {
		a.Backend = BackendPlain
	}
	var r openReply
	files, err := o.Namespace.Call(opOpen, a, &r)
	if err != nil {
		return nil, err
	}
	return newTAP(files, Info{Name: r.Name, Kind: o.Kind, Addr: r.Addr, MTU: r.MTU, Queues: len(files),
		Offloads: r.Offloads, Backend: a.Backend, Netns: o.Namespace.String()}, o)
}

// openHere opens and configures a device in the namespace of the calling
// thread. It returns the files it opened also if it fails.
func openHere(a openArgs) (r openReply, files []*os.File, err error) {
	r.Name = a.Name
	for range a.Queues {
		var f *os.File
		if a.Backend == BackendWater {
			f, r.Name, err = openWater(a, r.Name)
		} else {
			f, r.Name, err = openTun(a, r.Name)
		}
		if err != nil {
			return r, files, err
		}
		files = append(files, f)
	}
	if a.Backend == BackendVnet {
		if r.Offloads, err = negotiate(files, r.Name, a.Offloads); err != nil {
			return r, files, err
		}
	} else if a.Backend == BackendPlain {
		// Offloads of a persistent device outlive the program that asked for
		// them, and would come without the header that explains them.
		if err = setOffload(files[0], 0); err != nil {
			return r, files, fmt.Errorf("tap: %s: cannot turn offloads off (TUNSETOFFLOAD): %w", r.Name, err)
		}
	}
	l := netns.Link{Name: r.Name, MTU: a.MTU, QueueLen: a.QLen, Up: a.Up}
	if a.Addr != nil {
		l.Addr = a.Addr.String()
	}
	var here *netns.Namespace
	if err = here.Configure(netns.Config{Links: []netns.Link{l}}); err != nil {
		return r, files, fmt.Errorf("tap: %w", err)
	}
	state, err := here.Link(r.Name)
	if err != nil {
		return r, files, fmt.Errorf("tap: %w", err)
	}
	r.MTU = state.MTU
	if a.Kind == Ethernet {
		r.Addr, _ = net.ParseMAC(state.Addr)
	}
	return r, files, nil
}

// openTun opens one queue of the device and returns the name it got.
func openTun(a openArgs, name string) (*os.File, string, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, name, openError(err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, name, fmt.Errorf("tap: %q: %w", name, err)
	}
	flags := uint16(unix.IFF_NO_PI | unix.IFF_TAP)
	if a.Kind == IP {
		flags = unix.IFF_NO_PI | unix.IFF_TUN
	}
	if a.Backend == BackendVnet {
		flags |= unix.IFF_VNET_HDR
	}
	if a.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, name, attachError(name, a, err)
	}
	name = ifr.Name()
	for _, set := range []struct {
		name  string
		req   uint
		value int
		want  bool
	}{
		{"TUNSETVNETHDRSZ", unix.TUNSETVNETHDRSZ, vnetLen, a.Backend == BackendVnet},
		{"TUNSETPERSIST", unix.TUNSETPERSIST, 1, a.Persist},
	} {
		if !set.want {
			continue
		}
		if err := ioctlValue(fd, set.req, set.value); err != nil {
			unix.Close(fd)
			return nil, name, fmt.Errorf("tap: %s: %s %d: %w", name, set.name, set.value, err)
		}
	}
	return os.NewFile(uintptr(fd), name), name, nil
}

// ioctlValue issues the ioctls of TUN: TUNSETVNETHDRSZ takes a pointer, those
// that begin with TUNSET otherwise a plain value.
func ioctlValue(fd int, req uint, value int) error {
	if req == unix.TUNSETVNETHDRSZ {
		return unix.IoctlSetPointerInt(fd, req, value)
	}
	return unix.IoctlSetInt(fd, req, value)
}

// negotiate asks for the offloads in want, and for less until the kernel
// agrees: USO came with Linux 6.2.
func negotiate(files []*os.File, name string, want Offloads) (Offloads, error) {
	if !want.Checksum {
		want = Offloads{}
	}
	if !want.TSO4 && !want.TSO6 {
		want.ECN = false
	}
	var err error
	for range 3 {
		if err = setOffload(files[0], want.bits()); err == nil {
			return want, nil
		}
		if want.USO {
			want.USO = false
		} else {
			want = Offloads{Checksum: want.Checksum}
		}
	}
	return Offloads{}, fmt.Errorf("tap: %s: kernel refuses every offload (TUNSETOFFLOAD): %w", name, err)
}

func (o Offloads) bits() (bits int) {
	for _, f := range []struct {
		on  bool
		bit int
	}{{o.Checksum, unix.TUN_F_CSUM}, {o.TSO4, unix.TUN_F_TSO4}, {o.TSO6, unix.TUN_F_TSO6},
		{o.ECN, unix.TUN_F_TSO_ECN}, {o.USO, tunFUSO4 | tunFUSO6}} {
		if f.on {
			bits |= f.bit
		}
	}
	return bits
}

func setOffload(f *os.File, bits int) error {
	return control(f, func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, bits) })
}

// control runs fn with the descriptor of f, without making f blocking as
// File.Fd would.
func control(f *os.File, fn func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// openError explains a failing open of /dev/net/tun.
func openError(err error) error {
	remedy := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "; make it: mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200, and modprobe tun"
	case errors.Is(err, fs.ErrPermission):
		remedy = "; it may be open to all, since making a device needs a capability anyway: chmod 666 " + tunPath
	case errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO):
		remedy = "; the kernel has no TUN/TAP driver: modprobe tun"
	}
	return fmt.Errorf("tap: cannot open %s: %w%s", tunPath, err, remedy)
}

// attachError explains a failing TUNSETIFF.
func attachError(name string, a openArgs, err error) error {
	remedy := ""
	switch err {
	case unix.EPERM:
		remedy = "; needs CAP_NET_ADMIN over this network namespace: be root, or use a namespace of your own user namespace (unshare -Urn)"
	case unix.EBUSY:
		remedy = "; another program has it open, or it was made with another number of queues"
	case unix.EINVAL:
		remedy = fmt.Sprintf("; an interface of this name may exist that is no %v, or have queues where this has none (see ip -d link show %s)", a.Kind, name)
	case unix.E2BIG:
		remedy = "; all its queues are in use"
	}
	return fmt.Errorf("tap: cannot attach to %v device %q (TUNSETIFF): %w%s", a.Kind, name, err, remedy)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// OpenFile opens a queue of a device in the namespace of the calling thread
// and returns the bare file, for handing it to another process: FromFiles
// makes a device of it.
func OpenFile(name string, kind Kind) (*os.File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	f, _, err := openTun(openArgs{Kind: kind, Queues: 1, Backend: BackendVnet}, name)
	return f, err
}
