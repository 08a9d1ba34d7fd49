package vm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"unsafe"

	"taproom/filter/helper"
	"taproom/filter/maps"
)

func init() {
	helpers[helper.TracePrintk] = tracePrintk
	helpers[helper.TraceVprintk] = traceVprintk
	helpers[helper.Snprintf] = snprintf
}

// maxTrace bounds what bpf_trace_printk and its relatives put out (MAX_BPRINTF_BUF).
const maxTrace = 1024

// maxArgs is how many arguments bpf_trace_vprintk and bpf_snprintf take.
const maxArgs = 12

func tracePrintk(r *Run, f, n, a, b, c uint64) uint64 {
	format := r.mem(f, uint64(uint32(n)), false)
	if format == nil {
		return 0
	}
	return r.trace(format, []uint64{a, b, c}, true)
}

func traceVprintk(r *Run, f, n, data, size, _ uint64) uint64 {
	size = uint64(uint32(size))
	format, raw := r.mem(f, uint64(uint32(n)), false), r.mem(data, size, false)
	switch {
	case format == nil || raw == nil:
		return 0
	case size%8 != 0 || size > maxArgs*8 || size > 0 && data == 0:
		return eInval
	}
	return r.trace(format, words(raw), false)
}

// words splits memory into its 8-byte words.
func words(b []byte) []uint64 {
	w := make([]uint64, len(b)/8)
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w
}

func (r *Run) trace(format []byte, args []uint64, spare bool) uint64 {
	end := bytes.IndexByte(format, 0)
	if end < 0 {
		return eInval
	}
	out, e := r.format(r.print[:0], string(format[:end]), args, spare)
	if e != 0 {
		return e
	}
	r.print = out
	out = out[:min(len(out), maxTrace-1)]
	if r.env != nil {
		r.env.Trace(bytes.TrimSuffix(out, []byte{'\n'}))
	}
	return uint64(len(out))
}

// snprintf is bpf_snprintf: the length of the whole text with its zero byte, of which
// as much is stored as there is room for.
func snprintf(r *Run, str, size, f, data, dataSize uint64) uint64 {
	size, dataSize = uint64(uint32(size)), uint64(uint32(dataSize))
	dst, raw := r.mem(str, size, true), r.mem(data, dataSize, false)
	if dst == nil || raw == nil {
		return 0
	}
	if dataSize%8 != 0 || dataSize > maxArgs*8 || dataSize > 0 && data == 0 {
		return eInval
	}
	format, ok := r.text(f, maxTrace)
	if !ok {
		return 0
	}
	out, e := r.format(r.print[:0], format, words(raw), false)
	if e != 0 {
		return e
	}
	r.print = out
	if len(dst) > 0 {
		n := copy(dst[:len(dst)-1], out)
		dst[n] = 0
	}
	return uint64(len(out) + 1)
}

// text reads a zero-terminated string of the program.
func (r *Run) text(p uint64, limit int) (string, bool) {
	var b []byte
	for i := range limit {
		c := r.mem(p+uint64(i), 1, false)
		if c == nil {
			return "", false
		}
		if c[0] == 0 {
			break
		}
		b = append(b, c[0])
	}
	return string(b), true
}

// format does what bpf_bprintf_prepare and bstr_printf do: %d %i %u %x %X with h, l and
// ll, %c %s %p, %pi4 %pI4 %pi6 %pI6, and %%. With spare set, more arguments than
// conversions are fine.
func (r *Run) format(out []byte, f string, args []uint64, spare bool) ([]byte, uint64) {
	next := 0
	arg := func() (uint64, bool) {
		if next == len(args) {
			return 0, false
		}
		next++
		return args[next-1], true
	}
	for i := 0; i < len(f); i++ {
		c := f[i]
		if c >= 0x80 || c < 0x20 && (c < '\t' || c > '\r') {
			return nil, eInval
		}
		if c != '%' {
			out = append(out, c)
			continue
		}
		if i+1 < len(f) && f[i+1] == '%' {
			out = append(out, '%')
			i++
			continue
		}
		v, used, e := parseVerb(f[i+1:])
		if e != 0 {
			return nil, e
		}
		i += used
		a, ok := arg()
		if !ok {
			return nil, eInval
		}
		if out, ok = r.convert(out, v, a); !ok {
			return nil, eInval
		}
	}
	if !spare && next != len(args) {
		return nil, eInval
	}
	return out, 0
}

// verb is one conversion.
type verb struct {
	left, zero, plus, space, alt bool
	width                        int
	size                         int // bytes of an integer
	kind                         byte
	ip                           string // pi4, pI4, pi6, pI6
}

func parseVerb(f string) (v verb, n int, e uint64) {
	for ; n < len(f); n++ {
		switch f[n] {
		case '-':
			v.left = true
		case '0':
			v.zero = true
		case '+':
			v.plus = true
		case ' ':
			v.space = true
		case '#':
			v.alt = true
		default:
			goto flags
		}
	}
flags:
	for ; n < len(f) && f[n] >= '0' && f[n] <= '9'; n++ {
		if v.width = v.width*10 + int(f[n]-'0'); v.width > maxTrace {
			return v, n, eInval
		}
	}
	v.size = 4
	switch rest := f[n:]; {
	case len(rest) > 1 && rest[:2] == "ll":
		v.size, n = 8, n+2
	case len(rest) > 0 && rest[0] == 'l':
		v.size, n = 8, n+1
	case len(rest) > 1 && rest[:2] == "hh":
		v.size, n = 1, n+2
	case len(rest) > 0 && rest[0] == 'h':
		v.size, n = 2, n+1
	}
	if n == len(f) {
		return v, n, eInval
	}
	v.kind = f[n]
	n++
	switch v.kind {
	case 'd', 'i', 'u', 'x', 'X', 'c', 's':
	case 'p':
		if len(f) >= n+2 && (f[n] == 'i' || f[n] == 'I') && (f[n+1] == '4' || f[n+1] == '6') {
			v.ip = f[n : n+2]
			n += 2
		} else if n < len(f) && (f[n] == 'K' || f[n] == 'x' || f[n] == 's' || f[n] == 'S' || f[n] == 'B') {
			n++
		}
	default:
		return v, n, eInval
	}
	return v, n, 0
}

// convert formats one argument. What the addresses of %s, %pI4 and the like point to is
// empty, or zero, if it cannot be read.
func (r *Run) convert(out []byte, v verb, a uint64) ([]byte, bool) {
	var s string
	switch v.kind {
	case 'd', 'i':
		n := int64(a) << (64 - 8*v.size) >> (64 - 8*v.size)
		s = strconv.FormatInt(n, 10)
		if n >= 0 && v.plus {
			s = "+" + s
		} else if n >= 0 && v.space {
			s = " " + s
		}
	case 'u', 'x', 'X':
		a &= ^uint64(0) >> (64 - 8*v.size)
		switch {
		case v.kind == 'u':
			s = strconv.FormatUint(a, 10)
		case v.kind == 'x':
			s = strconv.FormatUint(a, 16)
		default:
			s = fmt.Sprintf("%X", a)
		}
		if v.alt && v.kind != 'u' {
			s = "0" + string(v.kind) + s
		}
	case 'c':
		s = string([]byte{byte(a)})
	case 's':
		s = r.peekText(a)
	default:
		return r.pointerVerb(out, v, a)
	}
	return pad(out, s, v), true
}

// pointerVerb formats %p and the addresses of network headers.
func (r *Run) pointerVerb(out []byte, v verb, a uint64) ([]byte, bool) {
	switch v.ip {
	case "i4", "I4":
		b := make([]byte, 4)
		copy(b, r.peek(a, 4))
		if v.ip == "i4" {
			return pad(out, fmt.Sprintf("%03d.%03d.%03d.%03d", b[0], b[1], b[2], b[3]), v), true
		}
		return pad(out, netip.AddrFrom4([4]byte(b)).String(), v), true
	case "i6", "I6":
		b := make([]byte, 16)
		copy(b, r.peek(a, 16))
		var s []byte
		for i := 0; i < 16; i += 2 {
			if i > 0 && v.ip == "I6" {
				s = append(s, ':')
			}
			s = fmt.Appendf(s, "%02x%02x", b[i], b[i+1])
		}
		return pad(out, string(s), v), true
	}
	// As in the kernel an address is not shown but hashed.
	return pad(out, fmt.Sprintf("%016x", uint64(uint32(bits.RotateLeft64(a*0x9e3779b97f4a7c15, 32)))), v), true
}

func pad(out []byte, s string, v verb) []byte {
	n := v.width - len(s)
	fill := byte(' ')
	if v.zero && !v.left && v.kind != 's' && v.kind != 'c' {
		fill = '0'
		if n > 0 && len(s) > 0 && (s[0] == '-' || s[0] == '+' || s[0] == ' ') {
			out, s = append(out, s[0]), s[1:]
		}
	}
	if !v.left {
		for ; n > 0; n-- {
			out = append(out, fill)
		}
	}
	out = append(out, s...)
	for ; n > 0; n-- {
		out = append(out, ' ')
	}
	return out
}

// peek returns n bytes at an address that no verifier has looked at, nil unless they
// are known to be the program's: on its stack, in its global data, in an array, in what
// it was handed in this run.
func (r *Run) peek(a, n uint64) []byte {
	if p := r.reach(a, n, false); p != nil {
		return unsafe.Slice((*byte)(p), n)
	}
	for _, m := range r.cur.maps {
		l := m.Layout()
		if l.Kind != maps.LayoutArray {
			continue
		}
		if o := a - uint64(l.Base); o < uint64(l.Stride)*uint64(l.Entries) && o%uint64(l.Stride)+n <= uint64(l.Stride) {
			return unsafe.Slice((*byte)(pointer(a)), n)
		}
	}
	return nil
}

// peekText reads a zero-terminated string the same way.
func (r *Run) peekText(a uint64) string {
	var b []byte
	for len(b) < maxTrace {
		c := r.peek(a+uint64(len(b)), 1)
		if c == nil || c[0] == 0 {
			break
		}
		b = append(b, c[0])
	}
	return string(b)
}
