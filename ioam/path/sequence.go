package path

// window is how far back a sequence number may be and still count as late
// instead of as a new beginning.
const window = 1024

// sequence follows the numbers of one encapsulating node's tunnel.
type sequence struct {
	started    bool
	next       uint64 // one more than the largest seen
	seen       [window / 64]uint64
	received   uint64
	lost       int64 // a late packet takes itself back out
	reordered  uint64
	duplicates uint64
	restarts   uint64
}

// add notes a number. Counters of 32 bits wrap: the caller says how wide.
func (s *sequence) add(v uint64, wide bool) {
	if s.started && !wide {
		// The full number nearest to where we are.
		base := s.next &^ 0xffffffff
		v |= base
		if v+1<<31 < s.next {
			v += 1 << 32
		} else if v > s.next+1<<31 && v >= 1<<32 {
			v -= 1 << 32
		}
	}
	s.received++
	switch {
	case !s.started || v+window < s.next:
		if s.started {
			s.restarts++
		}
		s.started, s.next = true, v+1
		s.seen = [window / 64]uint64{}
	case v >= s.next:
		// Numbers in between are missing until they turn up.
		for n := s.next; n < v && n < s.next+window; n++ {
			s.seen[n/64%(window/64)] &^= 1 << (n % 64)
		}
		s.lost += int64(v - s.next)
		s.next = v + 1
	case s.seen[v/64%(window/64)]&(1<<(v%64)) != 0:
		s.duplicates++
		s.received--
		return
	default:
		s.lost--
		s.reordered++
	}
	s.seen[v/64%(window/64)] |= 1 << (v % 64)
}
