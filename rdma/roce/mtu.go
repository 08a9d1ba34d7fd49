package roce

import "fmt"

// MTU is a path MTU as verbs and the connection manager encode it: the most
// payload bytes of one packet. The zero value is not valid.
type MTU uint8

// Path MTUs (IBTA 14.2.5.6).
const (
	MTU256  MTU = 1
	MTU512  MTU = 2
	MTU1024 MTU = 3
	MTU2048 MTU = 4
	MTU4096 MTU = 5
)

// linkOverhead is what rxe subtracts from an interface's MTU before it looks
// for a path MTU: the longest of all header stacks, an IPv6 ATOMIC among them.
const linkOverhead = 80

// Valid tells whether m is one of the five.
func (m MTU) Valid() bool { return m >= MTU256 && m <= MTU4096 }

// Bytes returns 256, 512, 1024, 2048 or 4096, and 0 for an invalid m.
func (m MTU) Bytes() int {
	if !m.Valid() {
		return 0
	}
	return 128 << m
}

// String returns the number of bytes.
func (m MTU) String() string {
	if !m.Valid() {
		return fmt.Sprintf("mtu-%d", uint8(m))
	}
	return fmt.Sprint(m.Bytes())
}

// MTUOf returns the MTU of exactly n bytes.
func MTUOf(n int) (MTU, error) {
	for m := MTU256; m <= MTU4096; m++ {
		if m.Bytes() == n {
			return m, nil
		}
	}
	return 0, fmt.Errorf("roce: path MTU %d is not one of 256, 512, 1024, 2048, 4096", n)
}

// MTUFor returns the largest path MTU for an interface MTU in bytes: 1024 for
// 1500, 4096 from 4176 on. Like rxe it never goes below 256.
func MTUFor(linkMTU int) MTU {
	for m := MTU4096; m > MTU256; m-- {
		if m.Bytes() <= linkMTU-linkOverhead {
			return m
		}
	}
	return MTU256
}

// PadFor returns how many bytes fill n up to a multiple of four.
func PadFor(n int) int { return -n & 3 }

// Packets returns how many packets a message of n bytes takes; an empty message
// takes one.
func (m MTU) Packets(n int) int {
	if n == 0 {
		return 1
	}
	return (n + m.Bytes() - 1) / m.Bytes()
}
