package rxe

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"taproom/rdma"
	"taproom/stack"
)

// What verbx's two sides have in common; see its source.
const (
	xMemory = 1 << 20
	xQKey   = 0x11111111
	xPort   = 18515
	xPSN    = 0x1000
	xRecvs  = 64
	xRecvSz = 8192
)

// xInfo is what the sides tell each other over TCP, little endian.
type xInfo struct {
	QPN, PSN, RKey, MWKey uint32
	Addr, Len             uint64
	GID                   [16]byte
}

// xCase is one scenario, and how it must end.
type xCase struct {
	typ rdma.QPType
	v6  bool
	mtu int
	ops string
	// Options of both sides, besides those above; of the server and the client.
	opts, server, client string
	// status are the client's completions in order; all success if nil.
	status []rdma.Status
	damage *Damage
	batch  bool
	rd     uint8 // READs and atomics at once; 1 if zero
	// access of the server's region and queue pair; everything if zero.
	access rdma.Access
	// delay before the server posts its receives.
	delay           time.Duration
	rnrRetry, timer uint8
	recvSize        int
	long            time.Duration // how long it may take
	// misfit makes what we tell the peer wrong.
	misfit func(*xInfo)
	srq    bool // our server receives from a shared receive queue
	// node, if set, is told of the node of package stack that our device then
	// runs on, instead of a Host.
	node func(n *stack.Node)
}

// xOp is one operation.
type xOp struct {
	kind   string
	n      int
	suffix string
}

func xOps(s string) (ops []xOp) {
	for one := range strings.SplitSeq(s, ",") {
		rep := 1
		if k, rest, ok := strings.Cut(one, "*"); ok {
			rep, _ = strconv.Atoi(k)
			one = rest
		}
		one, suffix, _ := strings.Cut(one, "@")
		kind, num, _ := strings.Cut(one, ":")
		op := xOp{kind, 8, suffix}
		if num != "" {
			op.n, _ = strconv.Atoi(num)
		}
		for range rep {
			ops = append(ops, op)
		}
	}
	return ops
}

func xServerMemory() []byte {
	m := make([]byte, xMemory)
	for i := range m {
		m[i] = byte(0xa0 + i%23)
	}
	clear(m[:64])
	m[0] = 42
	return m
}

func xClientMemory() []byte {
	m := make([]byte, xMemory)
	for i := range m {
		m[i] = byte(i*7 + i>>8)
	}
	return m
}

func xLocal(k int) int      { return 131072 + k*4096%524288 }
func xRecv(i, size int) int { return 65536 + i*size%(xMemory-131072) }
func xSum(b []byte) uint32  { h := fnv.New32a(); h.Write(b); return h.Sum32() }
func xServerSum(m []byte) string {
	return fmt.Sprintf("server memory: first8=%x fnv(64..64k)=%08x fnv(64k..128k)=%08x", binary.LittleEndian.Uint64(m), xSum(m[64:65536]), xSum(m[65536:131072]))
}
func xClientSum(m []byte) string {
	return fmt.Sprintf("client memory fnv(128k..128k+64k)=%08x", xSum(m[131072:196608]))
}

// model runs the operations on both memories, up to the first that fails.
func (c *xCase) model() (server, client []byte) {
	server, client = xServerMemory(), xClientMemory()
	size := c.recvSize
	if size == 0 {
		size = xRecvSz
	}
	recv := 0
	for k, op := range xOps(c.ops) {
		if c.status != nil && (k >= len(c.status) || c.status[k] != rdma.Success) {
			if c.typ == rdma.RC {
				break
			}
			continue
		}
		local := client[xLocal(k):][:op.n]
		switch {
		case strings.HasPrefix(op.kind, "send"):
			if c.typ != rdma.UD {
				copy(server[xRecv(recv, size):], local)
			}
			recv++
		case strings.HasPrefix(op.kind, "write"):
			copy(server[64:], local)
			if op.kind == "write_imm" {
				recv++
			}
		case op.kind == "read":
			copy(local, server[64:])
		case op.kind == "cas", op.kind == "faa":
			old := binary.LittleEndian.Uint64(server)
			binary.LittleEndian.PutUint64(local, old)
			if op.kind == "faa" {
				binary.LittleEndian.PutUint64(server, old+0x100)
			} else if old == 42 {
				binary.LittleEndian.PutUint64(server, 0x1122334455667788)
			}
		}
	}
	return server, client
}
