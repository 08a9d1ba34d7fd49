package wire

import (
	"encoding/json"

	"taproom/stack/packet"
)

// Stats are the books of one direction. Offered frames are delivered,
// dropped, queued or in flight; a duplicate counts as one more offered. A
// super-frame counts once, unless it was cut (see the package comment).
type Stats struct {
	Offered   Count  `json:"offered"`
	Delivered Count  `json:"delivered"`
	Segments  uint64 `json:"segments"` // what the delivered super-frames stand for, and the other frames
	Calls     uint64 `json:"calls"`    // batches in which they were delivered
	Dropped   Drops  `json:"dropped"`

	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"` // overtook at least one frame
	Corrupted  uint64 `json:"corrupted"`
	Marked     uint64 `json:"marked"` // ECN CE

	Queue    Depth `json:"queue"`    // waiting for the line now
	InFlight Depth `json:"inFlight"` // all that are in the wire now, Queue included
}

// Count is a number of frames and their bytes, link-layer header included.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (c *Count) add(n int) { c.Packets, c.Bytes = c.Packets+1, c.Bytes+uint64(n) }

// Depth is a queue's length at one moment.
type Depth struct {
	Packets int `json:"packets"`
	Bytes   int `json:"bytes"`
}

// Drops counts frames by packet.Reason.
type Drops [packet.NumReasons]uint64

// Total is the sum over all reasons.
func (d *Drops) Total() (n uint64) {
	for _, c := range d {
		n += c
	}
	return n
}

// Map is what is not zero, by name.
func (d *Drops) Map() map[string]uint64 {
	m := map[string]uint64{}
	for r, n := range d {
		if n > 0 {
			m[packet.Reason(r).String()] = n
		}
	}
	return m
}

// MarshalJSON is that of Map: the numbers of reasons are not for the outside.
func (d Drops) MarshalJSON() ([]byte, error) { return json.Marshal(d.Map()) }

// UnmarshalJSON is the inverse. A reason of another version is left out.
func (d *Drops) UnmarshalJSON(b []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*d = Drops{}
	for r := range d {
		d[r] = m[packet.Reason(r).String()]
	}
	return nil
}
