package rdma

import (
	"strconv"
	"strings"
	"time"

	"taproom/rdma/roce"
)

// traceHdr is what the trace keeps of a packet: BTH and the longest extension.
const traceHdr = roce.BTHLen + roce.AtomicETHLen

type traceEntry struct {
	at   int64
	sent bool
	n    uint8
	size uint16 // payload
	hdr  [traceHdr + roce.ICRCLen]byte
}

// traceRing holds the last packets of a queue pair. It is guarded by QP.mu.
type traceRing struct {
	ring []traceEntry
	next uint64
}

func (t *traceRing) add(at int64, sent bool, bth []byte, payload int) {
	if len(t.ring) == 0 {
		return
	}
	e := &t.ring[t.next%uint64(len(t.ring))]
	t.next++
	e.at, e.sent, e.size = at, sent, uint16(payload)
	h := min(roce.BTH(bth).Opcode().HeaderLen(), traceHdr)
	e.n = uint8(copy(e.hdr[:h], bth))
}

// Trace returns a line for each of the last packets the queue pair sent and
// received, oldest first: time of the device's clock, direction, and what
// [roce.Format] says of a packet.
func (q *QP) Trace() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.trace
	var lines []string
	first := uint64(0)
	if n := uint64(len(t.ring)); t.next > n {
		first = t.next - n
	}
	for i := first; i < t.next; i++ {
		e := &t.ring[i%uint64(len(t.ring))]
		b := append([]byte(nil), e.hdr[:e.n]...)
		roce.BTH(b).SetPad(0) // the pad went with the payload
		line := time.Duration(e.at).String() + " < "
		if e.sent {
			line = time.Duration(e.at).String() + " > "
		}
		body, err := roce.ParseBody(append(b, 0, 0, 0, 0))
		if err != nil {
			continue
		}
		// The bytes of the payload are not kept, their number is.
		lines = append(lines, line+strings.Replace(body.String(), " len=0", " len="+strconv.Itoa(int(e.size)), 1))
	}
	return lines
}
