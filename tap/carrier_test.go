package tap_test

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"taproom/tap"
	"taproom/tap/taptest"
)

// TestCarrier takes the carrier away and gives it back, and asks the kernel
// what it makes of that.
func TestCarrier(t *testing.T) {
	for name, o := range map[string]tap.Options{"vnet": {}, "queues": {Queues: 2}, "tun": {Kind: tap.IP}} {
		t.Run(name, func(t *testing.T) {
			r := taptest.NewRoom(t, 1, o)
			for _, up := range []bool{false, true, true, false, false, true} {
				if err := r.Device.SetCarrier(up); err != nil {
					t.Fatal(err)
				}
				wantCarrier(t, r, up)
			}
			if err := r.Device.Close(); err != nil {
				t.Fatal(err)
			}
			if err := r.Device.SetCarrier(false); !errors.Is(err, tap.ErrClosed) {
				t.Errorf("on a closed device: %v", err)
			}
		})
	}
}

// wantCarrier waits until the interface has a carrier, or has none: what `ip
// link` prints as NO-CARRIER is IFF_UP without IFF_RUNNING, and the kernel's
// link watch sets the latter a moment after the ioctl.
func wantCarrier(t *testing.T, r *taptest.Room, up bool) {
	t.Helper()
	var flags uint32
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := r.Namespace.Do(func() error {
			l, err := netlink.LinkByName(r.Device.Info().Name)
			if err == nil {
				flags = l.Attrs().RawFlags
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := uint32(unix.IFF_UP)
		if up {
			want |= unix.IFF_RUNNING | unix.IFF_LOWER_UP
		}
		if flags&(unix.IFF_UP|unix.IFF_RUNNING|unix.IFF_LOWER_UP) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("carrier %v: the interface's flags are %#x", up, flags)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
