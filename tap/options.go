package tap

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"taproom/tap/netns"
)

// The backends that Options.Backend names.
const (
	BackendVnet  = "vnet"  // /dev/net/tun with virtio-net headers: the fast one
	BackendPlain = "plain" // /dev/net/tun, finished frames of at most the MTU
	BackendWater = "water" // the same through github.com/songgao/water
)

// MaxQueues is how many queues Linux gives a device.
const MaxQueues = 256

// Options say which device Open opens. The zero value is a new TAP with a
// name of the kernel's choice, one queue and every offload there is.
type Options struct {
	// Name of the interface. Empty, or one with a single %d in it, lets the
	// kernel number it. An existing persistent device is attached to.
	Name string
	// Kind is Ethernet (TAP) or IP (TUN).
	Kind Kind
	// Namespace the device is in; nil is the one of this process. It must
	// stay open as long as SetMTU is used.
	Namespace *netns.Namespace
	// Queues is how many queues to open, each with its own reader. 0 is 1:
	// more are slower unless there are cores to spare.
	Queues int
	// Backend is one of the constants above, "" is BackendVnet.
	Backend string
	// Offloads bounds what is negotiated; nil is all. A pointer to the zero
	// value turns them off: the kernel then finishes every frame, and Write
	// does.
	Offloads *Offloads
	// GRO builds super-frames of the single frames that are read together,
	// for devices that read no super-frames themselves.
	GRO bool
	// Persist keeps the interface after Close.
	Persist bool
	// Addr becomes the MAC address of the kernel's side; nil leaves it.
	Addr net.HardwareAddr
	// MTU in bytes, 0 leaves it.
	MTU int
	// QueueLen is how many frames wait for the reader before the kernel drops
	// (txqueuelen); 0 leaves the kernel's 1000 (TUN: 500).
	QueueLen int
	// Up brings the interface up.
	Up bool
}

// ErrOptions is wrapped by every error about Options.
var ErrOptions = errors.New("tap: invalid options")

func (o *Options) validate() error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	switch o.Backend {
	case "":
		o.Backend = BackendVnet
	case BackendVnet, BackendPlain, BackendWater:
	default:
		return fmt.Errorf("%w: backend %q is none of vnet, plain, water", ErrOptions, o.Backend)
	}
	switch {
	case o.Queues == 0:
		o.Queues = 1
	case o.Queues < 0 || o.Queues > MaxQueues:
		return fmt.Errorf("%w: %d queues, want 1 to %d", ErrOptions, o.Queues, MaxQueues)
	case o.Queues > 1 && strings.Contains(o.Name, "%") && o.Backend == BackendWater:
		return fmt.Errorf("%w: several queues of the water backend need a full name, not %q", ErrOptions, o.Name)
	}
	if o.MTU != 0 && (o.MTU < 68 || o.MTU > 65535) {
		return fmt.Errorf("%w: MTU %d, want 68 to 65535", ErrOptions, o.MTU)
	}
	if o.Addr != nil && (o.Kind == IP || len(o.Addr) != 6 || o.Addr[0]&1 != 0) {
		return fmt.Errorf("%w: %v cannot be the MAC address of a %v", ErrOptions, o.Addr, o.Kind)
	}
	return nil
}

// CheckName reports why name cannot be given to an interface (dev_valid_name
// in Linux); the empty name is fine, the kernel chooses one.
func CheckName(name string) error {
	bad := func(why string) error {
		return fmt.Errorf("%w: interface name %q %s", ErrOptions, name, why)
	}
	switch {
	case name == "":
		return nil
	case len(name) >= unix.IFNAMSIZ:
		return bad(fmt.Sprintf("has %d bytes, at most %d are possible", len(name), unix.IFNAMSIZ-1))
	case name == "." || name == "..":
		return bad("is a directory")
	case strings.ContainsAny(name, "/: \t\n\v\f\r\x00") || strings.IndexByte(name, 0xa0) >= 0: // Latin-1, as isspace in Linux
		return bad("contains a slash, a colon or white space")
	case strings.Count(name, "%") > 1 || strings.Contains(strings.ReplaceAll(name, "%d", ""), "%"):
		return bad("may contain one %d and no other percent sign")
	}
	return nil
}
