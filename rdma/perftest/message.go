package perftest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"taproom/rdma/roce"
)

// Preface is the first message of perftest, the same from both sides: version,
// two sizes of the machine, the path MTU.
type Preface struct {
	Version   string // "6.06"
	CycleSize uint32 // bytes over which a bandwidth test moves its address
	CacheLine uint32 // bytes
	MTU       roce.MTU
}

// DefaultPreface is what perftest 4.5-0.17 says on a PC.
var DefaultPreface = Preface{Version: "6.06", CycleSize: 4096, CacheLine: 64, MTU: roce.MTU1024}

const (
	versionLen = 16
	prefaceLen = versionLen + 4 + 4 + 2
	destLen    = 108
	reportLen  = 40
	doneMark   = "done\x00"
)

// Append appends the message to b.
func (p Preface) Append(b []byte) []byte {
	var v [versionLen]byte
	copy(v[:versionLen-1], p.Version)
	b = append(b, v[:]...)
	b = binary.BigEndian.AppendUint32(b, p.CycleSize)
	b = binary.BigEndian.AppendUint32(b, p.CacheLine)
	return append(b, '0'+byte(p.MTU), 0)
}

// ParsePreface reads a message.
func ParsePreface(b []byte) (p Preface, err error) {
	if len(b) != prefaceLen || b[prefaceLen-1] != 0 || !roce.MTU(b[prefaceLen-2]-'0').Valid() {
		return p, fmt.Errorf("%w: preface %q", ErrProtocol, b)
	}
	v, _, _ := strings.Cut(string(b[:versionLen]), "\x00")
	return Preface{
		Version: v, CycleSize: binary.BigEndian.Uint32(b[versionLen:]), CacheLine: binary.BigEndian.Uint32(b[versionLen+4:]),
		MTU: roce.MTU(b[prefaceLen-2] - '0'),
	}, nil
}

// Dest is what perftest tells about a queue pair. It is also what it says to
// synchronise: the same again.
type Dest struct {
	LID      uint16
	OutReads uint16 // READs and atomics the queue pair takes at once; 1 in other tests
	QPN      uint32
	PSN      roce.PSN
	RKey     uint32 // 0 in SEND tests
	VAddr    uint64
	GID      [16]byte
	SRQN     uint32
}

// Append appends the message to b.
func (d Dest) Append(b []byte) []byte {
	b = fmt.Appendf(b, "%04x:%04x:%06x:%06x:%08x:%016x:", d.LID, d.OutReads, d.QPN&0xffffff, uint32(d.PSN)&roce.PSNMask, d.RKey, d.VAddr)
	for _, g := range d.GID {
		b = fmt.Appendf(b, "%02x:", g)
	}
	return append(fmt.Appendf(b, "%08x:", d.SRQN), 0)
}

// ParseDest reads a message.
func ParseDest(b []byte) (d Dest, err error) {
	f := strings.Split(strings.TrimSuffix(string(b), ":\x00"), ":")
	if len(b) != destLen || len(f) != 23 {
		return d, fmt.Errorf("%w: queue pair %q", ErrProtocol, b)
	}
	get := func(i, bits int) uint64 {
		v, e := strconv.ParseUint(f[i], 16, bits)
		if e != nil && err == nil {
			err = fmt.Errorf("%w: queue pair %q: %w", ErrProtocol, b, e)
		}
		return v
	}
	d = Dest{
		LID: uint16(get(0, 16)), OutReads: uint16(get(1, 16)), QPN: uint32(get(2, 24)), PSN: roce.PSN(get(3, 24)),
		RKey: uint32(get(4, 32)), VAddr: get(5, 64), SRQN: uint32(get(22, 32)),
	}
	for i := range d.GID {
		d.GID[i] = byte(get(6+i, 8))
	}
	return d, err
}

// Report is what the client of a one-sided bandwidth test tells the server,
// which has seen nothing of it. The server's own report is not meaningful.
type Report struct {
	Size       uint64  // of a message, bytes
	Iterations uint64  // of all queue pairs together
	Peak       float64 // MiB/s
	Average    float64 // MiB/s
	MsgRate    float64 // millions a second
}

// Append appends the message to b.
func (r Report) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.Size)
	b = binary.BigEndian.AppendUint64(b, r.Iterations)
	for _, v := range []float64{r.Peak, r.Average, r.MsgRate} {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

// ParseReport reads a message.
func ParseReport(b []byte) (Report, error) {
	if len(b) != reportLen {
		return Report{}, fmt.Errorf("%w: report of %d bytes", ErrProtocol, len(b))
	}
	f := func(i int) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b[i:])) }
	return Report{
		Size: binary.BigEndian.Uint64(b), Iterations: binary.BigEndian.Uint64(b[8:]),
		Peak: f(16), Average: f(24), MsgRate: f(32),
	}, nil
}
