package lab

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"taproom/stack/packet"
)

// captureQueue is how many frames wait for the writer of a capture. A writer
// that cannot keep up loses frames; packets never wait for it.
const captureQueue = 4096

// captured is a copy of a frame, with the place it was seen at.
type captured struct {
	where int
	at    time.Time
	p     *packet.Packet
}

// CaptureOptions bound a capture.
type CaptureOptions struct {
	Snap  int // bytes of each frame, 0 is all
	Count int // frames, 0 is no bound
}

// Capture writes what passes at interfaces (room:interface), rooms (all their
// interfaces) or links (their first end) to w as pcapng, until ctx ends or
// writing fails, which is then the error. It returns how many frames were lost
// because w was slow. Checksums that are left to a device are completed in the
// copy; super-frames appear whole, as in tcpdump.
func (l *Lab) Capture(ctx context.Context, where []string, w io.Writer, o CaptureOptions) (lost uint64, err error) {
	places, err := l.places(where)
	if err != nil {
		return 0, err
	}
	queue := make(chan captured, captureQueue)
	var dropped atomic.Uint64
	for i, p := range places {
		cancel := p.link.line.observe(p.end, func(_ bool, batch []*packet.Packet) {
			now := time.Now()
			for _, f := range batch {
				c := captured{i, now, f.Clone()}
				select {
				case queue <- c:
				default:
					c.p.Release()
					dropped.Add(1)
				}
			}
		})
		defer cancel()
	}
	// An observer may still be running after cancel, so the queue is never
	// closed; what it holds then is released by the drain below.
	defer func() {
		for {
			select {
			case c := <-queue:
				c.p.Release()
			default:
				return
			}
		}
	}()
	return dropped.Load(), writeCapture(ctx, places, queue, &dropped, w, o)
}

// place is an interface that can be captured.
type place struct {
	name string
	link *link
	end  int
}

func (l *Lab) places(where []string) ([]place, error) {
	var out []place
	for _, name := range where {
		if k, end, err := l.find(name); err == nil {
			p := place{k.spec.Ends[max(end, 0)].At.String(), k, max(end, 0)}
			if end < 0 {
				p.name = k.spec.Name
			}
			out = append(out, p)
			continue
		} else if strings.Contains(name, ":") {
			return nil, err
		}
		room, err := l.room(name)
		if err != nil {
			return nil, fmt.Errorf("%w: no link, interface (room:interface) or room is named %q", ErrNoSuch, name)
		}
		out = append(out, l.placesOf(room.name)...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: nothing to capture", ErrNoSuch)
	}
	return out, nil
}

func (l *Lab) placesOf(room string) []place {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []place
	for _, k := range l.links {
		for e := range k.spec.Ends {
			if k.spec.Ends[e].At.Room == room {
				out = append(out, place{k.spec.Ends[e].At.String(), k, e})
			}
		}
	}
	slices.SortFunc(out, func(a, b place) int { return strings.Compare(a.name, b.name) })
	return out
}

// maxCaptured is the largest frame a device delivers.
const maxCaptured = 65535 + 18

func writeCapture(ctx context.Context, places []place, queue <-chan captured, dropped *atomic.Uint64, w io.Writer, o CaptureOptions) error {
	snap := o.Snap
	if snap <= 0 || snap > maxCaptured {
		snap = maxCaptured
	}
	ng, err := newNgWriter(w, places, snap)
	if err != nil {
		return err
	}
	buf := make([]byte, maxCaptured)
	seen := make([]uint64, len(places))
	n := 0
	for {
		select {
		case <-ctx.Done():
			return closeNg(ng, seen, dropped.Load())
		case c := <-queue:
			if err := writeFrame(ng, c, buf, snap); err != nil {
				return fmt.Errorf("lab: capture: %w", err)
			}
			seen[c.where]++
			if n++; n == o.Count {
				return closeNg(ng, seen, dropped.Load())
			}
			if len(queue) == 0 { // show what there is before waiting
				if err := ng.Flush(); err != nil {
					return fmt.Errorf("lab: capture: %w", err)
				}
			}
		}
	}
}

func newNgWriter(w io.Writer, places []place, snap int) (*pcapgo.NgWriter, error) {
	options := pcapgo.DefaultNgWriterOptions
	options.SectionInfo.Application = "taproom"
	var ng *pcapgo.NgWriter
	for i, p := range places {
		face := pcapgo.NgInterface{Name: p.name, LinkType: layers.LinkTypeEthernet, SnapLength: uint32(snap), TimestampResolution: 9, OS: "linux"}
		var err error
		if i == 0 {
			ng, err = pcapgo.NewNgWriterInterface(w, face, options)
		} else {
			_, err = ng.AddInterface(face)
		}
		if err != nil {
			return nil, fmt.Errorf("lab: capture: %w", err)
		}
	}
	// The header goes out at once: Wireshark waits for it.
	return ng, ng.Flush()
}

func writeFrame(ng *pcapgo.NgWriter, c captured, buf []byte, snap int) error {
	defer c.p.Release()
	if c.p.VLAN.Present {
		c.p.PushVLAN()
	}
	if c.p.GSO.Type == packet.GSONone {
		c.p.CompleteChecksum()
	}
	n := c.p.CopyTo(buf[:min(len(buf), snap)], 0)
	return ng.WritePacket(gopacket.CaptureInfo{
		Timestamp: c.at, CaptureLength: n, Length: max(n, c.p.Len()), InterfaceIndex: c.where,
	}, buf[:n])
}

// closeNg writes how much was seen and lost. Losses cannot be told apart by
// interface, so the first one has them.
func closeNg(ng *pcapgo.NgWriter, seen []uint64, lost uint64) error {
	for i, n := range seen {
		s := pcapgo.NgInterfaceStatistics{LastUpdate: time.Now(), PacketsReceived: n, PacketsDropped: 0}
		if i == 0 {
			s.PacketsReceived, s.PacketsDropped = n+lost, lost
		}
		if err := ng.WriteInterfaceStats(i, s); err != nil {
			return fmt.Errorf("lab: capture: %w", err)
		}
	}
	if err := ng.Flush(); err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	return nil
}

// CanCapture reports what Capture would not find.
func (l *Lab) CanCapture(where []string) error {
	_, err := l.places(where)
	return err
}
