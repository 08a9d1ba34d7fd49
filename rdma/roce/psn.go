package roce

// PSN is a 24-bit packet sequence number. All arithmetic is modulo 2^24; two
// PSNs are ordered by the shorter way round the circle, so at most 2^23 - 1
// packets may be outstanding (IBTA 9.7.2).
type PSN uint32

// PSNMask are the bits of a PSN.
const PSNMask = 1<<24 - 1

// Add returns p + n; n may be negative.
func (p PSN) Add(n int) PSN { return (p + PSN(n)) & PSNMask }

// Next returns p + 1.
func (p PSN) Next() PSN { return (p + 1) & PSNMask }

// Sub returns the signed distance p - q, in -2^23 .. 2^23-1.
func (p PSN) Sub(q PSN) int { return int(int32(uint32(p-q)<<8) >> 8) }

// Before tells whether p comes before q.
func (p PSN) Before(q PSN) bool { return p.Sub(q) < 0 }

// After tells whether p comes after q.
func (p PSN) After(q PSN) bool { return p.Sub(q) > 0 }

// In tells whether p is one of the n numbers from first on.
func (p PSN) In(first PSN, n int) bool { d := int((p - first) & PSNMask); return d < n }

// String returns six hexadecimal digits, as tools print PSNs.
func (p PSN) String() string { return string(p.appendTo(nil)) }

func (p PSN) appendTo(dst []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '0', 'x')
	for shift := 20; shift >= 0; shift -= 4 {
		dst = append(dst, digits[p>>shift&15])
	}
	return dst
}
