package maps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unsafe"
)

// Save calls f with everything that would have to be stored again to make a map
// like this one: its elements, or for queues and stacks the values, oldest first,
// with a nil key, or for bloom filters one value that only Restore understands.
// Values have UserValueSize bytes. Maps of objects (programs, maps) and streams
// (ring buffers, perf events) have nothing to save here. Elements that change
// meanwhile may be seen in either state.
func (m *Map) Save(f func(key, value []byte) error) error {
	switch s := m.store.(type) {
	case *queue:
		return s.save(f)
	case *bloom:
		return f(nil, s.state())
	case walker:
		var err error
		out := make([]byte, m.vsize)
		s.walk(0, func(key, _ []byte) bool {
			key = bytes.Clone(key)
			if m.copyOut(key, out, 0) == 0 { // not gone meanwhile
				err = f(key, out)
			}
			return err == nil
		})
		return err
	}
	return nil
}

// Restore stores what Save gave, whatever the map's access flags are.
func (m *Map) Restore(key, value []byte) error {
	switch s := m.store.(type) {
	case *queue:
		if len(value) != int(m.vsize) {
			return m.failValue("restore", value)
		}
		return m.result("restore", s.push(value, 0))
	case *bloom:
		return s.setState(value)
	case *sparse:
		if len(value) == int(m.vsize) && index(value) == 0 {
			return nil
		}
	}
	return m.update(key, value, 0)
}

func (q *queue) save(f func(key, value []byte) error) error {
	q.mu.Lock()
	var all []byte
	for i := range q.len {
		all = append(all, q.at(i)...)
	}
	q.mu.Unlock()
	for ; len(all) > 0; all = all[q.vsize:] {
		if err := f(nil, all[:q.vsize]); err != nil {
			return err
		}
	}
	return nil
}

// state is the seeds followed by the words.
func (b *bloom) state() []byte {
	out := make([]byte, 0, len(b.seeds)*8+len(b.words)*8)
	for _, s := range b.seeds {
		out = binary.LittleEndian.AppendUint64(out, s)
	}
	return append(out, unsafe.Slice((*byte)(unsafe.Pointer(&b.words[0])), len(b.words)*8)...)
}

var errState = errors.New("maps: saved bloom filter is of another shape")

func (b *bloom) setState(in []byte) error {
	if len(in) != len(b.seeds)*8+len(b.words)*8 {
		return errState
	}
	for n := range b.seeds {
		b.seeds[n] = binary.LittleEndian.Uint64(in[8*n:])
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&b.words[0])), len(b.words)*8), in[len(b.seeds)*8:])
	return nil
}

// Entries returns the number of elements, or -1 for types that do not count them.
func (m *Map) Entries() int {
	switch s := m.store.(type) {
	case *hash:
		return int(s.count.Load())
	case *lpm:
		s.mu.Lock()
		defer s.mu.Unlock()
		return int(s.count)
	case *queue:
		s.mu.Lock()
		defer s.mu.Unlock()
		return int(s.len)
	}
	return -1
}
