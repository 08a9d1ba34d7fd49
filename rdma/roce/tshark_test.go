package roce_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"taproom/rdma/internal/replay"
	"taproom/rdma/roce"
)

// tsharkFields are what Wireshark's dissector is asked for, and what we say to
// the same: "" where the packet has no such field.
var tsharkFields = []struct {
	name string
	ours func(p *roce.Packet) (uint64, bool)
}{
	{"infiniband.bth.opcode", func(p *roce.Packet) (uint64, bool) { return uint64(p.BTH.Opcode()), true }},
	{"infiniband.bth.psn", func(p *roce.Packet) (uint64, bool) { return uint64(p.BTH.PSN()), true }},
	{"infiniband.bth.destqp", func(p *roce.Packet) (uint64, bool) { return uint64(p.BTH.DestQP()), true }},
	{"infiniband.bth.a", func(p *roce.Packet) (uint64, bool) { return num(p.BTH.AckReq()), true }},
	{"infiniband.bth.se", func(p *roce.Packet) (uint64, bool) { return num(p.BTH.Solicited()), true }},
	{"infiniband.bth.padcnt", func(p *roce.Packet) (uint64, bool) { return uint64(p.BTH.Pad()), true }},
	{"infiniband.bth.p_key", func(p *roce.Packet) (uint64, bool) { return uint64(p.BTH.PKey()), true }},
	{"infiniband.deth.q_key", func(p *roce.Packet) (uint64, bool) {
		if h := p.DETH(); h != nil {
			return uint64(h.QKey()), true
		}
		return 0, false
	}},
	{"infiniband.deth.srcqp", func(p *roce.Packet) (uint64, bool) {
		if h := p.DETH(); h != nil {
			return uint64(h.SrcQP()), true
		}
		return 0, false
	}},
	{"infiniband.reth.dmalen", func(p *roce.Packet) (uint64, bool) {
		if h := p.RETH(); h != nil {
			return uint64(h.Length()), true
		}
		return 0, false
	}},
	{"infiniband.aeth.syndrome", func(p *roce.Packet) (uint64, bool) {
		if h := p.AETH(); h != nil {
			return uint64(h.Syndrome()), true
		}
		return 0, false
	}},
	{"infiniband.aeth.msn", func(p *roce.Packet) (uint64, bool) {
		if h := p.AETH(); h != nil {
			return uint64(h.MSN()), true
		}
		return 0, false
	}},
	{"infiniband.atomiceth.swapdt", func(p *roce.Packet) (uint64, bool) {
		if h := p.AtomicETH(); h != nil {
			return h.SwapAdd(), true
		}
		return 0, false
	}},
	{"infiniband.atomiceth.cmpdt", func(p *roce.Packet) (uint64, bool) {
		if h := p.AtomicETH(); h != nil {
			return h.Compare(), true
		}
		return 0, false
	}},
	{"infiniband.atomicacketh.origremdt", func(p *roce.Packet) (uint64, bool) {
		if h := p.AtomicAckETH(); h != nil {
			return h.Original(), true
		}
		return 0, false
	}},
	{"infiniband.invariant.crc", func(p *roce.Packet) (uint64, bool) {
		b := p.Bytes() // Wireshark shows it in network order
		return uint64(binary.BigEndian.Uint32(b[len(b)-roce.ICRCLen:])), true
	}},
}

func num(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// TestTshark compares our fields with those of Wireshark, on all recordings.
func TestTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	args := []string{"-n", "-T", "fields", "-E", "separator=,", "-Y", "infiniband"}
	for _, f := range tsharkFields {
		args = append(args, "-e", f.name)
	}
	var file bytes.Buffer
	var packets []*replay.Packet
	file.Write([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0})
	for _, s := range replay.Load(t) {
		for i := range s.Packets {
			p := &s.Packets[i]
			packets = append(packets, p)
			n := uint32(14 + len(p.Bytes()))
			_ = binary.Write(&file, binary.LittleEndian, []uint32{1, 0, n, n})
			eth := [14]byte{12: 0x08}
			if p.V6() {
				eth[12], eth[13] = 0x86, 0xdd
			}
			file.Write(eth[:])
			file.Write(p.Bytes())
		}
	}
	name := filepath.Join(t.TempDir(), "all.pcap")
	if err := os.WriteFile(name, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, append(args, "-r", name)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("tshark sees %d packets, %d are there", len(lines), len(packets))
	}
	for i, line := range lines {
		got := strings.Split(line, ",")
		for k, f := range tsharkFields {
			want := ""
			if v, ok := f.ours(&packets[i].Packet); ok {
				want = fmt.Sprint(v)
			}
			if v, err := strconv.ParseUint(got[k], 0, 64); err == nil {
				got[k] = fmt.Sprint(v)
			}
			if got[k] == "" && f.name == "infiniband.invariant.crc" {
				continue // not shown where tshark gives the payload to another dissector
			}
			if got[k] != want {
				t.Errorf("%v: %s is %s, tshark says %s", &packets[i].Packet, f.name, want, got[k])
			}
		}
	}
	t.Logf("%d packets, %d fields each", len(packets), len(tsharkFields))
}
