package roce

import (
	"encoding/binary"
	"fmt"
	"time"
)

// AETHLen is the length of an acknowledge extended transport header.
const AETHLen = 4

// AETH is an acknowledge extended transport header (IBTA 9.3.5): syndrome and
// 24-bit message sequence number.
type AETH []byte

// AETHFields are the contents of an AETH.
type AETHFields struct {
	Syndrome Syndrome
	MSN      uint32 // messages completed by the responder, 24 bits
}

// Valid tells whether a is long enough and its syndrome is not a reserved one.
func (a AETH) Valid() bool { return len(a) >= AETHLen && a.Syndrome().Valid() }

// Encode writes all four bytes.
func (a AETH) Encode(f *AETHFields) {
	binary.BigEndian.PutUint32(a, uint32(f.Syndrome)<<24|f.MSN&0xffffff)
}

// Fields returns the contents of a.
func (a AETH) Fields() AETHFields { return AETHFields{a.Syndrome(), a.MSN()} }

// Syndrome returns the syndrome.
func (a AETH) Syndrome() Syndrome { return Syndrome(a[0]) }

// SetSyndrome sets the syndrome.
func (a AETH) SetSyndrome(s Syndrome) { a[0] = uint8(s) }

// MSN returns the message sequence number.
func (a AETH) MSN() uint32 { return uint24(a[1:]) }

// SetMSN sets the message sequence number.
func (a AETH) SetMSN(n uint32) { putUint24(a[1:], n) }

// Syndrome tells whether an AETH is an ACK, an RNR NAK or a NAK, and which
// (IBTA 9.7.5.1.3, table 46).
type Syndrome uint8

// Syndromes. An ACK's lower five bits are credits, an RNR NAK's a timer code.
const (
	// AckNoCredits acknowledges without end-to-end flow control.
	AckNoCredits Syndrome = 0x1f
	// NakSequence names the PSN the responder expects.
	NakSequence Syndrome = 0x60
	// NakInvalidRequest answers a malformed or forbidden request.
	NakInvalidRequest Syndrome = 0x61
	// NakRemoteAccess answers an rkey, range or right that does not hold.
	NakRemoteAccess Syndrome = 0x62
	// NakRemoteOperation answers a request the responder failed to carry out.
	NakRemoteOperation Syndrome = 0x63
	// NakInvalidRD is of reliable datagrams only.
	NakInvalidRD Syndrome = 0x64

	syndromeKind  = 0x60
	syndromeValue = 0x1f
)

// AckCredits returns the ACK syndrome with a credit code, 0..31.
func AckCredits(code uint8) Syndrome { return Syndrome(code & syndromeValue) }

// RNR returns the RNR NAK syndrome with a timer code, 0..31.
func RNR(code uint8) Syndrome { return Syndrome(0x20 | code&syndromeValue) }

// IsAck tells whether s acknowledges.
func (s Syndrome) IsAck() bool { return s&^syndromeValue == 0 }

// IsRNR tells whether s is a receiver-not-ready NAK.
func (s Syndrome) IsRNR() bool { return s&^syndromeValue == 0x20 }

// IsNak tells whether s is any other NAK.
func (s Syndrome) IsNak() bool { return s&^syndromeValue == syndromeKind }

// Value returns the lower five bits: credit code, timer code or NAK code.
func (s Syndrome) Value() uint8 { return uint8(s & syndromeValue) }

// Valid tells whether s is not reserved.
func (s Syndrome) Valid() bool {
	return s.IsAck() || s.IsRNR() || s >= NakSequence && s <= NakInvalidRD
}

// String returns, for example, "ACK", "RNR 640µs" or "NAK remote access error".
func (s Syndrome) String() string {
	switch {
	case s == AckNoCredits:
		return "ACK"
	case s.IsAck():
		return fmt.Sprintf("ACK credits %d", Credits(s.Value()))
	case s.IsRNR():
		return "RNR " + RNRDelay(s.Value()).String()
	}
	switch s {
	case NakSequence:
		return "NAK PSN sequence error"
	case NakInvalidRequest:
		return "NAK invalid request"
	case NakRemoteAccess:
		return "NAK remote access error"
	case NakRemoteOperation:
		return "NAK remote operational error"
	case NakInvalidRD:
		return "NAK invalid RD request"
	}
	return fmt.Sprintf("syndrome-%#02x", uint8(s))
}

// rnrUnits holds the RNR timer table (IBTA 9.7.5.2.8, table 48), in units of
// 10 microseconds.
var rnrUnits = [32]uint32{
	65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192,
	256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
}

// RNRDelay is the least time a requester waits after an RNR NAK with this timer
// code. Code 0 is the longest, 655.36 ms.
func RNRDelay(code uint8) time.Duration {
	return time.Duration(rnrUnits[code&syndromeValue]) * 10 * time.Microsecond
}

// RNRCode returns the code of the shortest timer that is not below d.
func RNRCode(d time.Duration) uint8 {
	for c := uint8(1); c < 32; c++ {
		if RNRDelay(c) >= d {
			return c
		}
	}
	return 0
}

// Credits returns the number of messages a credit code of an ACK allows (IBTA
// 9.7.7.2, table 55), or -1 for code 31: no limit, flow control is not used.
func Credits(code uint8) int {
	switch code &= syndromeValue; {
	case code == 31:
		return -1
	case code < 4:
		return int(code)
	case code%2 == 0: // 4, 8, 16, ...
		return 1 << (code / 2)
	default: // 6, 12, 24, ...
		return 3 << (code/2 - 1)
	}
}

// AckTimeout is the least time a requester waits for an answer with local ACK
// timeout code T: 4.096 microseconds * 2^T. Code 0 is no timeout and returns 0
// (IBTA 9.9.2.1.1).
func AckTimeout(code uint8) time.Duration {
	if code &= 0x1f; code == 0 {
		return 0
	}
	return 4096 * time.Nanosecond << code
}
