package maps

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"syscall"
	"testing"
)

func TestRingBuffer(t *testing.T) {
	m := mustNew(t, Spec{Type: RingBuf, MaxEntries: 4096})
	r, err := m.NewRingReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.TryRead(nil); ok {
		t.Error("read from an empty ring")
	}
	first, second := m.Reserve(5, 0), m.Reserve(3, 0)
	copy(first, "hello")
	copy(second, "abc")
	m.Submit(second, 0)
	if _, ok := r.TryRead(nil); ok {
		t.Error("a record was read before the one in front of it")
	}
	m.Submit(first, 0)
	for _, want := range []string{"hello", "abc"} {
		if got, err := r.Read(context.Background(), nil); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	m.Discard(m.Reserve(9, 0), 0)
	if e := m.Output([]byte("after"), 0); e != 0 {
		t.Error(e)
	}
	if got, ok := r.TryRead(nil); !ok || string(got) != "after" {
		t.Errorf("read %q behind a discarded record", got)
	}
	if m.Reserve(4096, 0) != nil || m.Reserve(1, 4) != nil || m.Output(nil, 4) != syscall.EINVAL {
		t.Error("bad arguments were accepted")
	}
	// Round and round, over the seam, until it is full.
	n := 0
	for ; m.Output(bytes.Repeat([]byte{byte(n)}, 100), 0) == 0; n++ {
	}
	if want := 4095 / 112; n != want || m.Output(make([]byte, 100), 0) != syscall.EAGAIN {
		t.Errorf("%d records of 100 bytes fit into 4096, want %d", n, want)
	}
	if got := m.Query(RingAvailable); got != uint64(n)*112 || m.Query(RingSize) != 4096 || m.Query(9) != 0 {
		t.Errorf("%d bytes to read", got)
	}
	for i := range 10 * n {
		got, ok := r.TryRead(nil)
		if !ok || len(got) != 100 || got[0] != byte(i) || got[99] != byte(i) {
			t.Fatalf("record %d: %v", i, got)
		}
		m.Output(bytes.Repeat([]byte{byte(i + n)}, 100), 0)
	}
}

func TestRingBufferConcurrent(t *testing.T) {
	m := mustNew(t, Spec{Type: RingBuf, MaxEntries: 4096})
	r, err := m.NewRingReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const each, producers = 2000, 3
	for p := range producers {
		go func() {
			for n := 0; n < each; {
				if m.Output([]byte{byte(p), byte(n), byte(n >> 8)}, 0) == 0 {
					n++
				} else {
					runtime.Gosched()
				}
			}
		}()
	}
	var next [producers]int
	for range each * producers {
		rec, err := r.Read(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := int(rec[1]) | int(rec[2])<<8; n != next[rec[0]] {
			t.Fatalf("producer %d: record %d, want %d", rec[0], n, next[rec[0]])
		}
		next[rec[0]]++
	}
}

func TestReadersEnd(t *testing.T) {
	m := mustNew(t, Spec{Type: RingBuf, MaxEntries: 4096})
	r, _ := m.NewRingReader()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Read(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go r.Close()
	if _, err := r.Read(context.Background(), nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestPerfEvents(t *testing.T) {
	m := mustNew(t, Spec{Type: PerfEventArray, KeySize: 4, ValueSize: 4, MaxEntries: 2, CPUs: 2})
	if e := m.PerfOutput(PerfCurrentCPU, 1, []byte("x"), nil); e != syscall.ENOENT {
		t.Errorf("without a reader: %v", e)
	}
	r, err := m.NewPerfReader(64)
	if err != nil {
		t.Fatal(err)
	}
	if e := m.PerfOutput(PerfCurrentCPU, 1, []byte("meta"), []byte("packet")); e != 0 {
		t.Error(e)
	}
	if e := m.PerfOutput(0, 1, nil, nil); e != syscall.EOPNOTSUPP {
		t.Errorf("to another CPU: %v", e)
	}
	if e := m.PerfOutput(2, 1, nil, nil); e != syscall.E2BIG {
		t.Errorf("behind the end: %v", e)
	}
	rec, err := r.Read(context.Background(), nil)
	if err != nil || rec.CPU != 1 || string(rec.Data) != "metapacket" {
		t.Errorf("%+v, %v", rec, err)
	}
	n := 0
	for ; m.PerfOutput(0, 0, make([]byte, 10), nil) == 0; n++ {
	}
	if n != 64/14 || r.Lost() != 1 {
		t.Errorf("%d records of 10 bytes in 64, %d lost", n, r.Lost())
	}
	r.Close()
	if e := m.PerfOutput(0, 0, nil, nil); e != syscall.ENOENT {
		t.Errorf("after the reader: %v", e)
	}
}

func BenchmarkRing(b *testing.B) {
	m := mustNew(b, Spec{Type: RingBuf, MaxEntries: 1 << 16})
	r, err := m.NewRingReader()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 64)
	drain := func() {
		for ok := true; ok; {
			_, ok = r.TryRead(buf)
		}
	}
	b.Run("reserve-submit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s := m.Reserve(16, 0)
			if s == nil {
				drain()
				continue
			}
			m.Submit(s, RingNoWakeup)
		}
	})
	drain()
	b.Run("and-read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Submit(m.Reserve(16, 0), 0)
			buf, _ = r.TryRead(buf)
		}
	})
}
