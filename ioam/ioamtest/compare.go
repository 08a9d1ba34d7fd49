package ioamtest

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/stack/packet"
)

// VectorFiles finds the files of recorded cases below root. TAPROOM_VECTORS
// names another root.
func VectorFiles(t testing.TB, root, pattern string) []string {
	t.Helper()
	if r := os.Getenv("TAPROOM_VECTORS"); r != "" {
		root = r
	}
	files, err := filepath.Glob(filepath.Join(root, "ioam", pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no %s below %s", pattern, root)
	}
	return files
}

// ReadJSON reads a file of recorded cases.
func ReadJSON(t testing.TB, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// mask is a range of octets that a run may decide: offset, length, kind.
type mask struct {
	off, n int
	kind   string
}

func (m *mask) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &[]any{&m.off, &m.n, &m.kind}) }

// check applies the rule of a masked field.
func (m *mask) check(got []byte, now time.Time) error {
	if m.kind == "icmpv6_checksum" {
		if !ValidICMP(got) {
			return fmt.Errorf("wrong ICMPv6 checksum in %x", got)
		}
		return nil
	}
	if m.n != 4 {
		return nil
	}
	v := binary.BigEndian.Uint32(got[m.off:])
	switch {
	case m.kind == "ts_sec" && (int64(v) < now.Unix()-1 || int64(v) > now.Unix()+1),
		m.kind == "ts_frac_usec" && v >= 1e6,
		m.kind == "queue_backlog_bytes" && v != 0 && v != 0xffffffff:
		return fmt.Errorf("%s at %d is %d", m.kind, m.off, v)
	}
	return nil
}

// compare reports where got is not what was recorded, or breaks the rule of a
// masked field.
func compare(got, want []byte, masks []mask, now time.Time) error {
	if len(got) != len(want) {
		return fmt.Errorf("length %d, want %d\n got %x\nwant %x", len(got), len(want), got, want)
	}
	free := make([]bool, len(want))
	for _, m := range masks {
		for i := range m.n {
			free[m.off+i] = true
		}
		if err := m.check(got, now); err != nil {
			return err
		}
	}
	for i := range want {
		if got[i] != want[i] && !free[i] {
			return fmt.Errorf("octet %d is %02x, want %02x\n got %x\nwant %x", i, got[i], want[i], got, want)
		}
	}
	return nil
}

type eventVector struct {
	NS      uint16   `json:"ns"`
	NodeLen uint8    `json:"nodelen"`
	Type    hexBytes `json:"type"`
	Data    hexBytes `json:"data"`
	Mask    []mask   `json:"mask"`
}

func checkEvents(sub *ioam.Subscription, want []eventVector, now time.Time) error {
	for i, w := range want {
		select {
		case e := <-sub.C:
			if e.Namespace != w.NS || e.NodeLen != w.NodeLen || e.Type != binary.BigEndian.Uint32(w.Type) {
				return fmt.Errorf("event %d is %v, want namespace %d node length %d type %x", i, &e, w.NS, w.NodeLen, w.Type)
			}
			if err := compare(e.Data(), w.Data, w.Mask, now); err != nil {
				return fmt.Errorf("event %d: %w", i, err)
			}
		default:
			return fmt.Errorf("%d events, want %d", i, len(want))
		}
	}
	select {
	case e := <-sub.C:
		return fmt.Errorf("one event too many: %v", &e)
	default:
		return nil
	}
}

// linuxReasons are the kernel's names for the reasons that hop-by-hop
// processing gives.
var linuxReasons = map[packet.Reason]string{
	packet.IOAMMalformed: "IP_INHDR", packet.BadHeader: "IP_INHDR",
	packet.OptionUnknown: "UNHANDLED_PROTO", packet.TooShort: "NOT_SPECIFIED",
}

func wallclock(w [2]float64) time.Time { return time.UnixMicro(int64(w[0] * 1e6)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
