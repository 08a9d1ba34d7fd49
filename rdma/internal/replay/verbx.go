package replay

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Constants of verbx.
const (
	MemoryLen  = 1 << 20    // of each side's one memory region
	QKey       = 0x11111111 // of its datagram queue pairs
	BadQKey    = 0x22222222 // of "@bad" datagrams
	recvOffset = 65536      // of the server's first receive buffer
	sendOffset = 131072     // of the client's first local buffer
)

// Options are the options of one verbx command line, defaults filled in.
type Options struct {
	Server    bool
	Type      string // RC, UC or UD
	GID       int    // index
	MTU       int    // bytes
	PSN       uint32
	Ops       []Op
	Batch     bool   // all posted before the first completion is awaited
	LastOnly  bool   // only the last is signalled
	RecvDelay int    // ms until the server posts its receives
	RNRTimer  uint8  // code of min_rnr_timer
	Timeout   uint8  // code of the local ACK timeout
	Retry     uint8  // retry_cnt
	RNRRetry  uint8  // rnr_retry
	RdAtomic  uint8  // limit of outstanding READs and atomics, both ways
	Access    uint32 // ibv_access_flags of the server's region and queue pair
	RecvCount int
	RecvSize  int
}

// Op is one operation of the client, repetitions expanded.
type Op struct {
	Kind        string // send, send_imm, send_sol, send_inv, write, write_imm, write_mw, read, cas, faa
	Len         int
	Bad         bool // wrong rkey or Q_Key
	OutOfBounds bool // address past the region
	Odd         bool // address off by four
}

// ParseOptions reads a verbx command line; the program's name is args[0].
func ParseOptions(args []string) (*Options, error) {
	o := &Options{
		Type: "RC", GID: 1, MTU: 1024, PSN: 0x1000, RNRTimer: 12, Timeout: 18, Retry: 7, RNRRetry: 7,
		RdAtomic: 1, Access: 0xf, RecvCount: 64, RecvSize: 8192,
	}
	ops := "send:16"
	for i := 1; i < len(args); i++ {
		if len(args[i]) != 2 || args[i][0] != '-' {
			return nil, fmt.Errorf("replay: verbx argument %q", args[i])
		}
		c := args[i][1]
		switch c {
		case 's':
			o.Server = true
			continue
		case 'd':
			o.Batch = true
			continue
		case 'l':
			o.LastOnly = true
			continue
		}
		if i++; i == len(args) {
			return nil, fmt.Errorf("replay: verbx option -%c without a value", c)
		}
		if err := o.set(c, args[i], &ops); err != nil {
			return nil, err
		}
	}
	var err error
	o.Ops, err = parseOps(ops)
	return o, err
}

func (o *Options) set(c byte, v string, ops *string) error {
	switch c {
	case 'c', 'P':
		return nil
	case 't':
		o.Type = v
		return nil
	case 'o':
		*ops = v
		return nil
	}
	n, err := strconv.ParseUint(v, 0, 32)
	if err != nil {
		return fmt.Errorf("replay: verbx option -%c %s: %w", c, v, err)
	}
	switch c {
	case 'g':
		o.GID = int(n)
	case 'm':
		o.MTU = int(n)
	case 'p':
		o.PSN = uint32(n)
	case 'R':
		o.RecvDelay = int(n)
	case 'Z':
		o.RNRTimer = uint8(n)
	case 'T':
		o.Timeout = uint8(n)
	case 'r':
		o.Retry = uint8(n)
	case 'y':
		o.RNRRetry = uint8(n)
	case 'q':
		o.RdAtomic = uint8(n)
	case 'A':
		o.Access = uint32(n)
	case 'N':
		o.RecvCount = int(n)
	case 'B':
		o.RecvSize = int(n)
	default:
		return fmt.Errorf("replay: verbx option -%c is not known", c)
	}
	return nil
}

func parseOps(s string) (ops []Op, err error) {
	for one := range strings.SplitSeq(s, ",") {
		repeat := 1
		if k, rest, ok := strings.Cut(one, "*"); ok {
			if repeat, err = strconv.Atoi(k); err != nil || repeat < 0 || repeat > 1<<16 {
				return nil, fmt.Errorf("replay: verbx operation %q", one)
			}
			one = rest
		}
		text, suffix, _ := strings.Cut(one, "@")
		kind, num, ok := strings.Cut(text, ":")
		op := Op{Kind: kind, Len: 8, Bad: suffix == "bad", OutOfBounds: suffix == "oob", Odd: suffix == "odd"}
		if ok {
			if op.Len, err = strconv.Atoi(num); err != nil {
				return nil, fmt.Errorf("replay: verbx operation %q: %w", one, err)
			}
		}
		if kind == "cas" || kind == "faa" {
			op.Len = 8
		}
		for range repeat {
			ops = append(ops, op)
		}
	}
	return ops, nil
}

// WorkRequest is one send work request of verbx's client, as posted. Its local
// buffer lies at Offset of the client's memory.
type WorkRequest struct {
	ID        uint64
	Kind      string // as in Op
	Len       int
	Offset    int
	Addr      uint64 // Offset as the client's virtual address
	Signaled  bool
	Solicited bool
	Imm       uint32
	InvRKey   uint32
	VA        uint64 // remote address
	RKey      uint32
	Swap      uint64 // cas: value to store; faa: value to add
	Compare   uint64
	QKey      uint32 // datagrams
}

// workRequests lists what the client posts. windowKey is the rkey of the
// server's memory window, if it bound one.
func (o *Options) workRequests(local, peer Endpoint, windowKey uint32) []WorkRequest {
	var wrs []WorkRequest
	for k, op := range o.Ops {
		off := sendOffset + k*4096%524288
		w := WorkRequest{
			ID: 0x100 + uint64(k), Kind: op.Kind, Len: op.Len, Offset: off, Addr: local.Addr + uint64(off),
			Signaled: !o.LastOnly || k == len(o.Ops)-1, VA: peer.Addr + 64, RKey: peer.RKey, QKey: QKey,
		}
		switch op.Kind {
		case "send_sol":
			w.Solicited = true
		case "send_imm":
			w.Imm = 0xcafe0000 + uint32(k)
		case "write_imm":
			w.Imm = 0xbeef0000 + uint32(k)
		case "send_inv":
			w.InvRKey = windowKey
		case "write_mw":
			w.RKey = windowKey
		case "cas":
			w.VA, w.Compare, w.Swap = peer.Addr, 42, 0x1122334455667788
		case "faa":
			w.VA, w.Swap = peer.Addr, 0x100
		}
		if op.Bad {
			w.RKey ^= 0x5500
			w.QKey = BadQKey
		}
		if op.OutOfBounds {
			w.VA = peer.Addr + MemoryLen - 8
		}
		if op.Odd {
			w.VA += 4
		}
		wrs = append(wrs, w)
	}
	return wrs
}

// RecvOffset returns where in the server's memory its i-th receive buffer lies;
// it is RecvSize bytes long and work request i.
func (o *Options) RecvOffset(i int) int {
	return recvOffset + i*o.RecvSize%(MemoryLen-131072)
}

// ServerMemory returns what the server's region holds at the start: zeros with a
// little endian 42 at the front (the atomics' target), then a pattern.
func ServerMemory() []byte {
	m := make([]byte, MemoryLen)
	for i := range m {
		m[i] = byte(0xa0 + i%23)
	}
	clear(m[:64])
	m[0] = 42
	return m
}

// ClientMemory returns what the client's region holds at the start.
func ClientMemory() []byte {
	m := make([]byte, MemoryLen)
	for i := range m {
		m[i] = byte(i*7 + i>>8)
	}
	return m
}

// Sums are the checks verbx prints of its memory at the end.
type Sums struct {
	First8 uint64 // server: the first eight bytes, little endian
	Low    uint32 // server: FNV-1a of bytes 64 .. 64 KiB
	High   uint32 // server: of bytes 64 .. 128 KiB
	Local  uint32 // client: of bytes 128 .. 192 KiB
}

// SumsOf computes the checks over a side's memory.
func SumsOf(m []byte, server bool) Sums {
	if !server {
		return Sums{Local: sum(m[131072:196608])}
	}
	var first uint64
	for i := range 8 {
		first |= uint64(m[i]) << (8 * i)
	}
	return Sums{First8: first, Low: sum(m[64:65536]), High: sum(m[65536:131072])}
}

func sum(b []byte) uint32 { h := fnv.New32a(); h.Write(b); return h.Sum32() }
