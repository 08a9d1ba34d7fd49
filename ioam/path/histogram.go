package path

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width grows with them: 16 to an
// octave, from 1 ns to 64 s.
type histogram struct {
	buckets  [36 * 16]uint32
	n        uint64
	min, max int64
	negative uint64 // neighbours' clocks disagree by more than the delay
}

func bucketOf(v int64) int {
	if v < 16 {
		return int(max(v, 0))
	}
	octave := bits.Len64(uint64(v)) - 5 // v>>octave is 16..31
	return min((octave+1)*16+int(v>>octave)-16, 36*16-1)
}

// middle of a bucket.
func middle(b int) int64 {
	if b < 16 {
		return int64(b)
	}
	octave := b/16 - 1
	return int64(16+b%16)<<octave + int64(1)<<octave/2
}

func (h *histogram) add(v int64) {
	if h.n == 0 || v < h.min {
		h.min = v
	}
	if h.n == 0 || v > h.max {
		h.max = v
	}
	if v < 0 {
		h.negative++
	}
	h.n++
	h.buckets[bucketOf(v)]++
}

// Delay sums up a distribution.
type Delay struct {
	Count    uint64        `json:"count"`
	Min      time.Duration `json:"min_ns"`
	Median   time.Duration `json:"median_ns"`
	P99      time.Duration `json:"p99_ns"`
	Max      time.Duration `json:"max_ns"`
	Negative uint64        `json:"negative,omitempty"` // measured by clocks that disagree
}

func (h *histogram) delay() Delay {
	return Delay{
		Count: h.n, Min: time.Duration(h.min), Max: time.Duration(h.max), Negative: h.negative,
		Median: h.quantile(0.5), P99: h.quantile(0.99),
	}
}

func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n-1))
	var seen uint64
	for b, c := range h.buckets {
		if seen += uint64(c); seen > rank {
			return time.Duration(min(max(middle(b), h.min), h.max))
		}
	}
	return time.Duration(h.max)
}

// Sample is a distribution of durations on its own. The zero value is empty;
// it is for one goroutine.
type Sample struct{ h histogram }

// Add adds a duration in nanoseconds.
func (s *Sample) Add(ns int64) { s.h.add(ns) }

// Delay sums the sample up.
func (s *Sample) Delay() Delay { return s.h.delay() }
