package rxe

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"taproom/rdma/roce"
)

// Damage is what a Wire does to RoCE packets, each a probability from 0 to 1.
type Damage struct {
	Drop, Duplicate, Reorder, Corrupt float64
}

// Wire is a link that damages the RoCE packets on it, in both directions; other
// frames pass. What it does follows from its seed and from the order of the
// packets.
type Wire struct {
	FrameLink
	damage Damage

	mu   sync.Mutex
	rand *rand.Rand
	// Held packets wait for the next one in their direction, which overtakes
	// them. A request at the end of a run may thus wait until it is repeated.
	held    []byte   // to the guest
	pending [][]byte // from the guest: to be read before anything else
	heldIn  []byte
	stats   Stats
}

// Stats count what a Wire did.
type Stats struct {
	Passed, Dropped, Duplicated, Reordered, Corrupted int
}

// NewWire puts a wire in front of a link.
func NewWire(link FrameLink, d Damage, seed uint64) *Wire {
	return &Wire{FrameLink: link, damage: d, rand: rand.New(rand.NewPCG(seed, 0x77697265))}
}

// Stats returns what the wire has done so far.
func (w *Wire) Stats() Stats { w.mu.Lock(); defer w.mu.Unlock(); return w.stats }

// String returns the statistics in words.
func (s Stats) String() string {
	return fmt.Sprintf("%d passed, %d dropped, %d duplicated, %d reordered, %d corrupted", s.Passed, s.Dropped, s.Duplicated, s.Reordered, s.Corrupted)
}

// fate decides what becomes of a frame: the frames to hand on now, in order.
func (w *Wire) fate(b []byte, held *[]byte) [][]byte {
	if len(b) < 14 {
		return [][]byte{b}
	}
	p, err := roce.Parse(b[14:])
	if err != nil {
		return [][]byte{b}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := [][]byte{b}
	switch d := w.rand.Float64(); {
	case d < w.damage.Drop:
		w.stats.Dropped++
		return nil
	case d < w.damage.Drop+w.damage.Duplicate:
		w.stats.Duplicated++
		out = append(out, b)
	case d < w.damage.Drop+w.damage.Duplicate+w.damage.Reorder && *held == nil:
		w.stats.Reordered++
		*held = append([]byte(nil), b...)
		return nil
	case d < w.damage.Drop+w.damage.Duplicate+w.damage.Reorder+w.damage.Corrupt:
		w.stats.Corrupted++
		c := append([]byte(nil), b...)
		start := len(p.IP) + 14 + roce.UDPLen + roce.BTHLen
		c[start+w.rand.IntN(len(c)-start)] ^= 1 << w.rand.IntN(8) // all there is covered by the ICRC
		out = [][]byte{c}
	default:
		w.stats.Passed++
	}
	if *held != nil {
		out, *held = append(out, *held), nil
	}
	return out
}

// Write sends a frame to the guest, or not.
func (w *Wire) Write(b []byte) (int, error) {
	for _, f := range w.fate(b, &w.held) {
		if _, err := w.FrameLink.Write(f); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// Read returns the next frame from the guest that survives. One goroutine may
// read at a time.
func (w *Wire) Read(b []byte) (int, error) {
	for {
		if len(w.pending) > 0 {
			n := copy(b, w.pending[0])
			w.pending = w.pending[1:]
			return n, nil
		}
		n, err := w.FrameLink.Read(b)
		if err != nil {
			return n, err
		}
		for _, f := range w.fate(b[:n], &w.heldIn) {
			w.pending = append(w.pending, append([]byte(nil), f...))
		}
	}
}
