package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"taproom/stack/packet"
	"taproom/tap"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
		if n := packet.Live(); n != 0 {
			println("packets not released:", n)
			code = 1
		}
	}
	os.Exit(code)
}

// bench is a wire in virtual time whose far end writes down what arrives.
type bench struct {
	*testing.T
	clock Virtual
	a, b  *End
	got   []arrival
}

type arrival struct {
	at    time.Duration
	n     uint32 // what frame put into it
	len   int
	bytes []byte
}

func newBench(t *testing.T, i Impairment) *bench {
	t.Helper()
	w := &bench{T: t}
	var err error
	w.a, w.b, err = New(Config{Name: t.Name(), AtoB: i, Seed: 7, Clock: &w.clock})
	if err != nil {
		t.Fatal(err)
	}
	must(t, w.b.Start(func(_ int, batch []*packet.Packet) {
		for _, p := range batch {
			p.Linearize()
			b := append([]byte(nil), p.Head()...)
			a := arrival{at: time.Duration(w.clock.Now()), len: len(b), bytes: b}
			if len(b) >= 18 {
				a.n = binary.BigEndian.Uint32(b[14:])
			}
			w.got = append(w.got, a)
			p.Release()
		}
	}))
	must(t, w.a.Start(func(_ int, batch []*packet.Packet) { releaseAll(batch) }))
	t.Cleanup(func() { must(t, w.a.Close()) })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func releaseAll(batch []*packet.Packet) {
	for _, p := range batch {
		p.Release()
	}
}

// frame makes an Ethernet frame of the given length that carries n.
func frame(n uint32, length int) *packet.Packet {
	p := packet.Alloc(max(length, 18))
	h := p.Head()
	clear(h)
	h[12], h[13] = 0x88, 0xb5 // local experimental
	binary.BigEndian.PutUint32(h[14:], n)
	p.ParseLink()
	return p
}

func (w *bench) send(length int, numbers ...uint32) {
	w.Helper()
	for _, n := range numbers {
		w.a.Write(0, []*packet.Packet{frame(n, length)})
	}
}

func (w *bench) expect(numbers ...uint32) {
	w.Helper()
	if len(w.got) != len(numbers) {
		w.Fatalf("%d frames arrived, want %d", len(w.got), len(numbers))
	}
	for i, n := range numbers {
		if w.got[i].n != n {
			w.Fatalf("arrival %d is frame %d, want %d", i, w.got[i].n, n)
		}
	}
	w.got = nil
}

func upTo(n uint32) []uint32 {
	s := make([]uint32, n)
	for i := range s {
		s[i] = uint32(i)
	}
	return s
}

func TestPlainIsSynchronous(t *testing.T) {
	w := newBench(t, Impairment{})
	w.send(64, 1, 2, 3)
	w.expect(1, 2, 3)
	s := w.a.Sent()
	if s.Delivered.Packets != 3 || s.Delivered.Bytes != 192 || s.Offered != s.Delivered || s.Dropped.Total() != 0 {
		t.Errorf("books: %+v", s)
	}
	if _, set := w.clock.Next(); set {
		t.Error("a plain wire set an alarm")
	}
}

func TestDelay(t *testing.T) {
	w := newBench(t, Impairment{Delay: 10 * time.Millisecond})
	w.send(64, 1)
	w.clock.Advance(9 * time.Millisecond)
	w.expect()
	w.send(64, 2)
	w.clock.Advance(time.Millisecond)
	w.expect(1)
	w.clock.Advance(10 * time.Millisecond)
	if len(w.got) != 1 || w.got[0].at != 19*time.Millisecond {
		t.Fatalf("%+v, want frame 2 at 19ms", w.got)
	}
}

// What is on its way keeps its time when the delay goes, and nothing overtakes it.
func TestChangeKeepsOrder(t *testing.T) {
	w := newBench(t, Impairment{Delay: 10 * time.Millisecond})
	w.send(64, 1)
	must(t, w.a.Impair(Impairment{}))
	w.send(64, 2)
	w.expect()
	w.clock.Advance(10 * time.Millisecond)
	w.expect(1, 2)
	w.send(64, 3)
	w.expect(3) // synchronous again
}

func TestRate(t *testing.T) {
	// 1 Mbit/s and 125 bytes: one frame each millisecond.
	w := newBench(t, Impairment{Rate: 1e6, QueuePackets: 10, Delay: 5 * time.Millisecond})
	w.send(125, upTo(12)...)
	if q := w.a.Queue(); q.Packets != 10 || q.Bytes != 1250 {
		t.Errorf("queue %+v, want 10 packets", q)
	}
	w.clock.Advance(time.Second)
	for i, a := range w.got {
		if want := time.Duration(i+1+5) * time.Millisecond; a.at < want || a.at > want+slack {
			t.Errorf("frame %d at %v, want %v", a.n, a.at, want)
		}
	}
	w.expect(upTo(10)...)
	s := w.a.Sent()
	if s.Dropped[packet.DeviceFull] != 2 {
		t.Errorf("dropped %v, want 2 device-full", s.Dropped.Map())
	}
	// An idle line gains no credit.
	w.send(125, 20, 21)
	w.clock.Advance(time.Second)
	if d := w.got[1].at - w.got[0].at; d != time.Millisecond {
		t.Errorf("gap of %v, want 1ms", d)
	}
}

func TestQueueBytes(t *testing.T) {
	w := newBench(t, Impairment{Rate: 1e6, QueueBytes: 300})
	w.send(125, 1, 2, 3) // the third would make 375
	w.send(1500, 4)
	w.clock.Advance(time.Second)
	w.expect(1, 2)
	w.send(1500, 5) // an empty queue takes any frame
	w.clock.Advance(time.Second)
	w.expect(5)
}

// The line's speed holds to the bit over many frames whose time is no whole
// number of nanoseconds.
func TestLineIsExact(t *testing.T) {
	for _, rate := range []uint64{9600, 1e6, 7_777_777, 1e9, 40e9, 1e12} {
		var l line
		const frames, size = 100_000, 1357
		var at int64
		for range frames {
			l.retire(at)
			at = l.transmit(at, rate, size)
		}
		// The clock of the sender runs in whole nanoseconds: each restart may
		// lose one when free == now, which transmit must not.
		want := float64(frames) * size * 8 * 1e9 / float64(rate)
		if math.Abs(float64(at)-want) > 1+want*1e-12 {
			t.Errorf("%d bit/s: %d ns, want %.0f", rate, at, want)
		}
	}
}

func TestLossAndItsSeed(t *testing.T) {
	const n = 20_000
	run := func(i Impairment) []uint32 {
		w := newBench(t, i)
		w.send(64, upTo(n)...)
		w.clock.Advance(time.Second)
		var got []uint32
		for _, a := range w.got {
			got = append(got, a.n)
		}
		if s := w.a.Sent(); int(s.Dropped[packet.WireLoss])+len(got) != n {
			t.Errorf("%d lost and %d arrived of %d", s.Dropped[packet.WireLoss], len(got), n)
		}
		return got
	}
	first := run(Impairment{Loss: 0.1})
	if loss := 1 - float64(len(first))/n; math.Abs(loss-0.1) > 0.01 {
		t.Errorf("loss of %.3f, want 0.1", loss)
	}
	// The same seed loses the same frames, whatever else is set.
	again := run(Impairment{Loss: 0.1, Delay: time.Millisecond, Jitter: time.Microsecond})
	if len(first) != len(again) {
		t.Fatalf("%d and %d arrived with one seed", len(first), len(again))
	}
	for i := range first {
		if first[i] != again[i] {
			t.Fatalf("arrival %d: %d and %d with one seed", i, first[i], again[i])
		}
	}
}

func TestBurstLoss(t *testing.T) {
	const n = 200_000
	d := newDice(3, 0)
	i := Impairment{Burst: Burst{Enter: 0.01, Leave: 0.25}}
	lost, bursts, was := 0, 0, false
	for range n {
		now := d.lost(&i)
		if now {
			lost++
			if !was {
				bursts++
			}
		}
		was = now
	}
	// Stationary share of the bad state p/(p+r), mean burst 1/r.
	if got, want := float64(lost)/n, 0.01/0.26; math.Abs(got-want) > 0.1*want {
		t.Errorf("loss %.4f, want %.4f", got, want)
	}
	if got := float64(lost) / float64(bursts); math.Abs(got-4) > 0.3 {
		t.Errorf("mean burst %.2f, want 4", got)
	}
	i.Burst = Burst{Enter: 1, Leave: 0, Bad: 0.5}
	lost = 0
	for range n {
		if d.lost(&i) {
			lost++
		}
	}
	if got := float64(lost) / n; math.Abs(got-0.5) > 0.01 {
		t.Errorf("loss in the bad state %.3f, want 0.5", got)
	}
}

func TestJitterDistributions(t *testing.T) {
	const n = 200_000
	for dist := range numDistributions {
		d := newDice(11, 0)
		var sum, sum2, lo, hi float64
		for range n {
			x := d.spread(dist)
			sum, sum2, lo, hi = sum+x, sum2+x*x, min(lo, x), max(hi, x)
		}
		mean, sd := sum/n, math.Sqrt(sum2/n-(sum/n)*(sum/n))
		wantSD := 1.0
		switch dist {
		case Uniform:
			wantSD = 1 / math.Sqrt(3)
		case Pareto, ParetoNormal:
			wantSD = 0.8 // what the cut at four leaves of it
		}
		if math.Abs(mean) > 0.08 || math.Abs(sd-wantSD) > 0.12 {
			t.Errorf("%v: mean %.3f sd %.3f, want 0 and %.2f", dist, mean, sd, wantSD)
		}
		if limit := 4.0; lo < -limit || hi > limit {
			t.Errorf("%v: values from %.1f to %.1f", dist, lo, hi)
		}
		if parsed, err := ParseDistribution(dist.String()); err != nil || parsed != dist {
			t.Errorf("%v: parsed as %v, %v", dist, parsed, err)
		}
	}
	i := Impairment{Delay: time.Millisecond, Jitter: 10 * time.Millisecond, Distribution: Normal}
	d := newDice(1, 0)
	for range 1000 {
		if got := d.delay(&i); got < 0 {
			t.Fatalf("negative delay %v", got)
		}
	}
}

func TestJitterDoesNotReorder(t *testing.T) {
	w := newBench(t, Impairment{Delay: 10 * time.Millisecond, Jitter: 8 * time.Millisecond})
	w.send(64, upTo(500)...)
	w.clock.Advance(time.Second)
	w.expect(upTo(500)...)
}

func TestReorder(t *testing.T) {
	w := newBench(t, Impairment{Delay: 10 * time.Millisecond, Reorder: 1, ReorderGap: 4})
	w.send(64, upTo(8)...)
	w.expect(3, 7)
	w.clock.Advance(10 * time.Millisecond)
	w.expect(0, 1, 2, 4, 5, 6)
	if s := w.a.Sent(); s.Reordered != 2 {
		t.Errorf("reordered %d, want 2", s.Reordered)
	}
}

func TestDuplicate(t *testing.T) {
	w := newBench(t, Impairment{Duplicate: 1})
	w.send(64, 1, 2)
	w.expect(1, 1, 2, 2)
	if s := w.a.Sent(); s.Duplicated != 2 || s.Offered.Packets != 4 || s.Delivered.Packets != 4 {
		t.Errorf("books: %+v", s)
	}
}

func TestCorruptFlipsOneBit(t *testing.T) {
	w := newBench(t, Impairment{Corrupt: 1})
	for range 50 {
		p := frame(1, 100)
		want := append([]byte(nil), p.Head()...)
		w.a.Write(0, []*packet.Packet{p})
		flipped := 0
		for i, b := range w.got[0].bytes {
			for x := b ^ want[i]; x != 0; x &= x - 1 {
				flipped++
			}
		}
		if flipped != 1 {
			t.Fatalf("%d bits flipped", flipped)
		}
		w.got = nil
	}
}

func TestMTU(t *testing.T) {
	w := newBench(t, Impairment{MTU: 100})
	w.send(114, 1)
	w.send(115, 2)
	w.expect(1)
	if s := w.a.Sent(); s.Dropped[packet.TooBig] != 1 {
		t.Errorf("dropped %v", s.Dropped.Map())
	}
}

func TestCarrier(t *testing.T) {
	w := newBench(t, Impairment{Delay: time.Millisecond})
	var events []bool
	w.b.OnCarrier(func(up bool) { events = append(events, up) })
	w.send(64, 1)
	must(t, w.a.Impair(Impairment{Down: true}))
	w.send(64, 2)
	if w.a.Up() || w.b.Up() {
		t.Error("an end of a cut wire is up")
	}
	must(t, w.a.Impair(Impairment{}))
	w.send(64, 3)
	w.clock.Advance(time.Second)
	w.expect(3)
	if s := w.a.Sent(); s.Dropped[packet.DeviceDown] != 2 {
		t.Errorf("dropped %v, want 2 device-down", s.Dropped.Map())
	}
	if len(events) != 2 || events[0] || !events[1] {
		t.Errorf("carrier events %v", events)
	}
}

func TestECN(t *testing.T) {
	ip4 := func(tos byte) []byte {
		b := make([]byte, 14+20)
		b[12], b[13] = 8, 0
		copy(b[14:], []byte{0x45, tos, 0, 20, 1, 2, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
		binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34]))
		return b
	}
	ip6 := func(tc byte) []byte {
		b := make([]byte, 14+40)
		b[12], b[13] = 0x86, 0xdd
		b[14], b[15] = 0x60|tc>>4, tc<<4
		return b
	}
	for _, c := range []struct {
		name  string
		frame []byte
		mark  bool
		want  []byte
	}{
		{"v4 not capable", ip4(0xb8), false, ip4(0xb8)},
		{"v4 ECT(0)", ip4(0xba), true, ip4(0xbb)},
		{"v4 ECT(1)", ip4(1), true, ip4(3)},
		{"v4 CE", ip4(3), false, ip4(3)},
		{"v6 not capable", ip6(0xfc), false, ip6(0xfc)},
		{"v6 ECT(0)", ip6(2), true, ip6(3)},
		{"short", ip4(2)[:33], false, ip4(2)[:33]},
	} {
		p := packet.New(c.frame)
		if got := markCE(p); got != c.mark || string(p.Head()) != string(c.want) {
			t.Errorf("%s: marked %v, % x, want %v, % x", c.name, got, p.Head()[14:], c.mark, c.want[14:])
		}
		p.Release()
	}
	w := newBench(t, Impairment{Rate: 1e6, MarkPackets: 2})
	for range 5 {
		w.a.Write(0, []*packet.Packet{packet.New(ip4(2))})
	}
	w.clock.Advance(time.Second)
	if s := w.a.Sent(); s.Marked != 3 {
		t.Errorf("marked %d, want 3", s.Marked)
	}
}

// Two ends that answer every frame at once must not overflow the stack, nor
// lose the frame.
func TestPingPong(t *testing.T) {
	a, b, err := New(Config{})
	must(t, err)
	defer a.Close()
	const rounds = 100_000
	n, depth, deepest := 0, 0, 0
	bounce := func(e *End) func(int, []*packet.Packet) {
		return func(_ int, batch []*packet.Packet) {
			depth++
			deepest = max(deepest, depth)
			defer func() { depth-- }()
			if n++; n > rounds {
				releaseAll(batch)
				return
			}
			e.Write(0, batch)
		}
	}
	must(t, a.Start(bounce(a)))
	must(t, b.Start(bounce(b)))
	a.Write(0, []*packet.Packet{frame(1, 64)})
	if n != rounds+1 || deepest > 2 {
		t.Errorf("%d deliveries, %d deep", n, deepest)
	}
}

// A receiver that writes to its own direction faster than it can drain meets
// the bound.
func TestBackpressureIsCounted(t *testing.T) {
	a, b, err := New(Config{})
	must(t, err)
	defer a.Close()
	var got int
	must(t, b.Start(func(_ int, batch []*packet.Packet) {
		if got += len(batch); got == 1 {
			for range maxReady + 10 {
				a.Write(0, []*packet.Packet{frame(0, 64)})
			}
		}
		releaseAll(batch)
	}))
	a.Write(0, []*packet.Packet{frame(0, 64)})
	if s := a.Sent(); s.Dropped[packet.Backpressure] != 10 || got != maxReady+1 {
		t.Errorf("%d arrived, dropped %v", got, s.Dropped.Map())
	}
}

func TestSuperFrame(t *testing.T) {
	super := func() *packet.Packet {
		b := make([]byte, 14+20+8+3000)
		b[12], b[13] = 8, 0
		copy(b[14:], []byte{0x45, 0, 0, 0, 1, 2, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0, 0})
		binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
		binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
		p := packet.New(b)
		p.ParseLink()
		p.GSO = packet.GSO{Type: packet.GSOUDP, Size: 1000}
		must(t, p.PrepareGSO())
		return p
	}
	for _, c := range []struct {
		name string
		imp  Impairment
		want []int
	}{
		{"plain", Impairment{}, []int{3042}},
		{"delay", Impairment{Delay: 1}, []int{3042}},
		{"mtu that fits", Impairment{MTU: 1028}, []int{3042}},
		{"mtu", Impairment{MTU: 1027}, nil},
		{"rate", Impairment{Rate: 1e9}, []int{1042, 1042, 1042}},
		{"loss that spares it", Impairment{Loss: 1e-12}, []int{3042}},
		{"loss that does not", Impairment{Loss: 1}, nil},
		{"corruption", Impairment{Corrupt: 1e-12}, []int{1042, 1042, 1042}},
	} {
		w := newBench(t, c.imp)
		w.a.Write(0, []*packet.Packet{super()})
		w.clock.Advance(time.Second)
		var got []int
		for _, a := range w.got {
			got = append(got, a.len)
		}
		if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
			t.Errorf("%s: frames of %v, want %v", c.name, got, c.want)
		}
	}
}

func TestMetadataDoesNotCross(t *testing.T) {
	a, b, err := New(Config{})
	must(t, err)
	defer b.Close()
	var got packet.Meta
	must(t, b.Start(func(_ int, batch []*packet.Packet) { got = batch[0].Meta; releaseAll(batch) }))
	p := frame(1, 64)
	p.Mark, p.In, p.Out, p.Local, p.Hash, p.CB[0] = 1, 2, 3, true, 5, 6
	p.VLAN = packet.VLAN{Present: true, Proto: 0x8100, TCI: 7}
	a.Write(0, []*packet.Packet{p})
	if want := (packet.Meta{Hash: 5, VLAN: packet.VLAN{Present: true, Proto: 0x8100, TCI: 7}}); got != want {
		t.Errorf("%+v crossed, want %+v", got, want)
	}
}

func TestClose(t *testing.T) {
	w := newBench(t, Impairment{Delay: time.Millisecond})
	w.send(64, 1)
	must(t, w.b.Close())
	w.send(64, 2)
	if err := w.a.Impair(Impairment{}); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("impair of a closed wire: %v", err)
	}
	w.clock.Advance(time.Second)
	w.expect()
	if w.a.Up() {
		t.Error("a closed wire is up")
	}
	if err := w.a.Start(func(int, []*packet.Packet) {}); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("start of a closed wire: %v", err)
	}
	if s := w.a.Sent(); s.Dropped[packet.NodeClosed] != 2 || s.Delivered.Packets != 0 {
		t.Errorf("books: %+v", s)
	}
}

func TestInvalid(t *testing.T) {
	for name, c := range map[string]Config{
		"mtu":           {MTU: 67},
		"loss":          {AtoB: Impairment{Loss: 1.1}},
		"not a number":  {AtoB: Impairment{Loss: math.NaN()}},
		"burst":         {BtoA: Impairment{Burst: Burst{Leave: -1}}},
		"delay":         {BtoA: Impairment{Delay: -1}},
		"long delay":    {BtoA: Impairment{Delay: 2 * time.Hour}},
		"rate":          {AtoB: Impairment{Rate: 7}},
		"distribution":  {AtoB: Impairment{Distribution: 9}},
		"reorder alone": {AtoB: Impairment{Reorder: 0.1}},
	} {
		if _, _, err := New(c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseDistribution("gauss"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// Everything at once, for the race detector: writers on both ends, settings
// that change, and a close in the middle.
func TestConcurrentUse(t *testing.T) {
	a, b, err := New(Config{AtoB: Impairment{Delay: time.Microsecond}})
	must(t, err)
	for _, e := range []*End{a, b} {
		must(t, e.Start(func(_ int, batch []*packet.Packet) { releaseAll(batch) }))
	}
	var wg sync.WaitGroup
	for i, e := range []*End{a, b, a, b} {
		wg.Go(func() {
			for n := range uint32(2000) {
				e.Write(0, []*packet.Packet{frame(n, 64)})
				if n%100 == 0 {
					_ = e.Impair(Impairment{Delay: time.Duration(n) * time.Microsecond, Rate: uint64(n) * 1e6, Down: n == 1500})
				}
				_ = e.Sent()
				if i == 3 && n == 1900 {
					_ = e.Close()
				}
			}
		})
	}
	wg.Wait()
	must(t, a.Close())
}
