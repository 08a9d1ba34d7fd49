package wire

import (
	"math/rand/v2"
	"slices"
	"testing"

	"taproom/stack/packet"
)

func TestScheduleOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s schedule
	type item struct{ due, n int64 }
	var want []item
	n := int64(0)
	pop := func() {
		p := s.pop()
		if got := (item{0, p.Time}); got.n != want[0].n {
			t.Fatalf("popped frame %d, want %d", got.n, want[0].n)
		}
		want = want[1:]
		p.Release()
	}
	for range 5000 {
		if r.IntN(3) > 0 || s.len() == 0 {
			n++
			due := int64(r.IntN(50))
			p := packet.Alloc(10)
			p.Time = n
			s.push(due, p)
			i, _ := slices.BinarySearchFunc(want, item{due, n}, func(a, b item) int {
				if a.due != b.due {
					return int(a.due - b.due)
				}
				return int(a.n - b.n)
			})
			want = slices.Insert(want, i, item{due, n})
			if s.next() != want[0].due {
				t.Fatalf("next %d, want %d", s.next(), want[0].due)
			}
		} else {
			pop()
		}
	}
	for s.len() > 0 {
		pop()
	}
	if s.bytes != 0 {
		t.Errorf("%d bytes left in an empty schedule", s.bytes)
	}
}
