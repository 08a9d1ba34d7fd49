package wire

import "taproom/stack/packet"

// schedule is a heap of frames by due time; frames due at the same time keep
// their order. The zero value is empty.
type schedule struct {
	entries []entry
	seq     uint64
	bytes   int
}

type entry struct {
	due int64
	seq uint64
	p   *packet.Packet
}

func (e *entry) before(o *entry) bool {
	return e.due < o.due || e.due == o.due && e.seq < o.seq
}

func (s *schedule) len() int { return len(s.entries) }

// next is when the first frame is due; the schedule must not be empty.
func (s *schedule) next() int64 { return s.entries[0].due }

func (s *schedule) push(due int64, p *packet.Packet) {
	s.seq++
	s.bytes += p.Len()
	s.entries = append(s.entries, entry{due, s.seq, p})
	// Frames mostly come in order of their due time, so this loop mostly
	// ends at once.
	h := s.entries
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (s *schedule) pop() *packet.Packet {
	h := s.entries
	p := h[0].p
	n := len(h) - 1
	h[0], h[n] = h[n], entry{}
	h = h[:n]
	s.entries = h
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n; c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	s.bytes -= p.Len()
	return p
}
