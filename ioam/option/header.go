package option

import "iter"

// The paddings (RFC 8200 section 4.2).
const (
	pad1 = 0
	padN = 1
)

// Header is a hop-by-hop or destination options header (RFC 8200 sections
// 4.3 and 4.6): next header, length, options.
type Header []byte

// Whole reports whether the slice holds all of the header.
func (h Header) Whole() bool { return len(h) >= 8 && len(h) >= h.Len() }

// Len is the length of the header in octets.
func (h Header) Len() int { return (int(h[1]) + 1) * 8 }

// Next is the type of the header behind this one.
func (h Header) Next() uint8 { return h[0] }

// Options yields the offset, from the start of the header, and the bytes of
// every option that is no padding. It ends early at an option that does not
// fit: this is no check of the header.
func (h Header) Options() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if !h.Whole() {
			return
		}
		end := h.Len()
		for off := 2; off < end; {
			if h[off] == pad1 {
				off++
				continue
			}
			if off+2 > end || off+2+int(h[off+1]) > end {
				return
			}
			n := 2 + int(h[off+1])
			if h[off] != padN && !yield(off, h[off:off+n]) {
				return
			}
			off += n
		}
	}
}

// IsIOAM reports whether an option is an IOAM option of either type that has
// room for its IOAM option type.
func IsIOAM(opt []byte) bool {
	return len(opt) >= HeaderLen && (opt[0] == OptMutable || opt[0] == OptImmutable)
}

// Find returns the first IOAM option of a kind, nil if there is none.
func (h Header) Find(k Kind) []byte {
	for _, o := range h.Options() {
		if IsIOAM(o) && Kind(o[3]) == k {
			return o
		}
	}
	return nil
}

// HasIOAM reports whether there is an IOAM option of any kind.
func (h Header) HasIOAM() bool {
	for _, o := range h.Options() {
		if IsIOAM(o) {
			return true
		}
	}
	return false
}

// pad writes n octets of padding, n at most 7.
func pad(b []byte, n int) {
	clear(b[:n])
	if n > 1 {
		b[0], b[1] = padN, byte(n-2)
	}
}

// HeaderFor is the length of a header with one option of n octets that must
// begin at a multiple of 4: next header, length, PadN, the option, padding.
func HeaderFor(n int) int { return (4 + n + 7) &^ 7 }

// EncodeHeader writes the frame of such a header around the option, which
// begins at b[4]: everything but the option itself. It is the layout Linux
// uses for its traces.
func EncodeHeader(b []byte, next uint8, n int) {
	total := HeaderFor(n)
	b[0], b[1] = next, byte(total/8-1)
	pad(b[2:], 2)
	pad(b[4+n:], total-4-n)
}

// WithoutIOAM writes to dst the header without its IOAM options and returns
// its length: 0 if nothing but padding is left, so that the header can go
// altogether. The options that stay keep their place modulo 8, which is what
// their alignment hangs on. dst needs the room of h and must not overlap it.
func (h Header) WithoutIOAM(dst []byte) int {
	out := 2
	for off, o := range h.Options() {
		if IsIOAM(o) {
			continue
		}
		gap := (off - out) & 7
		pad(dst[out:], gap)
		out += gap
		out += copy(dst[out:], o)
	}
	if out == 2 {
		return 0
	}
	gap := -out & 7
	pad(dst[out:], gap)
	out += gap
	dst[0], dst[1] = h[0], byte(out/8-1)
	return out
}

// Grown writes to dst the header with room for n more octets in the
// incremental trace at offset at, right behind its trace header, and returns
// the new length. It is 0 if the option or the header would be too long. dst
// needs MaxHeader octets and must not overlap h; n is a multiple of 4. The new
// room is not cleared. The option's length is corrected, its trace header is
// not touched.
func (h Header) Grown(dst []byte, at, n int) int {
	out := 2
	for off, o := range h.Options() {
		gap := (off - out) & 7
		extra := 0
		if off == at {
			extra = n
		}
		if out+gap+len(o)+extra+7 > MaxHeader || len(o)+extra > 257 {
			return 0
		}
		pad(dst[out:], gap)
		out += gap
		if extra > 0 {
			copy(dst[out:], o[:TraceLen])
			copy(dst[out+TraceLen+n:], o[TraceLen:])
			dst[out+1] += byte(n)
			out += len(o) + n
			continue
		}
		out += copy(dst[out:], o)
	}
	gap := -out & 7
	pad(dst[out:], gap)
	out += gap
	dst[0], dst[1] = h[0], byte(out/8-1)
	return out
}

// MaxHeader is the longest hop-by-hop or destination options header.
const MaxHeader = 256 * 8
