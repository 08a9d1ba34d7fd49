package option

import (
	"bytes"
	"testing"
)

// FuzzHeader reads, edits and decodes hostile options headers.
func FuzzHeader(f *testing.F) {
	tf := TraceFields{Namespace: 123, Type: HopNode | Opaque, Words: 7}
	b := make([]byte, HeaderFor(tf.OptionLen()))
	EncodeHeader(b, 17, tf.OptionLen())
	tf.Encode(b[4:])
	f.Add(b, 4, 8)
	f.Add([]byte{17, 0, 0x11, 4, 0, 3, 0, 0}, 2, 4)
	f.Fuzz(func(t *testing.T, b []byte, at, n int) {
		h := Header(b)
		if !h.Whole() {
			return
		}
		for _, o := range h.Options() {
			if tr := Trace(o); IsIOAM(o) && tr.Valid() {
				for hop, err := range tr.Hops() {
					if err == nil {
						hop.Time()
						hop.ID()
					}
				}
			}
			var e E2E
			var d DEX
			if e.Decode(o) {
				again := make([]byte, e.OptionLen())
				e.Encode(again)
			}
			d.Decode(o)
		}
		dst := make([]byte, h.Len())
		if left := Header(dst[:h.WithoutIOAM(dst)]); len(left) > 0 && (!left.Whole() || left.HasIOAM()) {
			t.Fatalf("without IOAM: %x", left)
		}
		// Growing an option leaves all others as they are.
		for off, o := range h.Options() {
			if off != at || len(o) < TraceLen || n < 4 || n > 200 {
				continue
			}
			big := make([]byte, MaxHeader)
			m := h.Grown(big, at, n&^3)
			if m == 0 {
				continue
			}
			var was, is [][]byte
			for _, o := range h.Options() {
				was = append(was, o)
			}
			for _, o := range Header(big[:m]).Options() {
				is = append(is, o)
			}
			if len(was) != len(is) {
				t.Fatalf("%d options became %d", len(was), len(is))
			}
			for i := range was {
				if len(was[i]) == len(is[i]) && !bytes.Equal(was[i], is[i]) {
					t.Fatalf("option %x became %x", was[i], is[i])
				}
			}
		}
	})
}
