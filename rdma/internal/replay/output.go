package replay

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"taproom/rdma/roce"
)

// parseLine takes from a line of a program's output what a player can use.
func (d *Side) parseLine(line string) error {
	switch {
	case strings.HasPrefix(line, "local qpn="):
		local, remote, _ := strings.Cut(line, " | ")
		if err := d.Local.parseVerbx(local); err != nil {
			return err
		}
		return d.Remote.parseVerbx(remote)
	case strings.HasPrefix(line, "  local address:"):
		return d.Local.parsePingpong(line)
	case strings.HasPrefix(line, "  remote address:"):
		return d.Remote.parsePingpong(line)
	case strings.HasPrefix(line, "wc "), strings.Contains(line, " wc id="):
		return d.parseCompletion(line)
	case strings.HasPrefix(line, "  atomic old value "):
		v, err := strconv.ParseUint(strings.TrimPrefix(line, "  atomic old value "), 16, 64)
		if c := d.last(); c != nil {
			c.Old = &v
		}
		return err
	case strings.HasPrefix(line, "  grh "):
		return d.parseGRH(line)
	case strings.HasPrefix(line, "server memory:"):
		_, err := fmt.Sscanf(line, "server memory: first8=%x fnv(64..64k)=%x fnv(64k..128k)=%x", &d.Sums.First8, &d.Sums.Low, &d.Sums.High)
		return err
	case strings.HasPrefix(line, "client memory "):
		_, err := fmt.Sscanf(line, "client memory fnv(128k..128k+64k)=%x", &d.Sums.Local)
		return err
	case strings.HasSuffix(line, " flushed in all)"):
		_, err := fmt.Sscanf(line, "(%d flushed in all)", &d.Flushed)
		return err
	}
	return nil
}

func (d *Side) last() *Completion {
	if len(d.Completions) == 0 {
		return nil
	}
	return &d.Completions[len(d.Completions)-1]
}

// parseVerbx reads "local qpn=000011 psn=001000 rkey=00000285 addr=7fd1177cf000".
func (e *Endpoint) parseVerbx(s string) error {
	_, s, _ = strings.Cut(s, " ")
	_, err := fmt.Sscanf(s, "qpn=%x psn=%x rkey=%x addr=%x", &e.QPN, &e.PSN, &e.RKey, &e.Addr)
	return err
}

// parsePingpong reads "  local address:  LID 0x0000, QPN 0x000021, PSN 0x56ed96,
// GID ::ffff:10.9.0.1"; the datagram program has a colon before GID.
func (e *Endpoint) parsePingpong(s string) error {
	f := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
	for i := 0; i+1 < len(f); i++ {
		v := strings.TrimSuffix(f[i+1], ":")
		var err error
		switch f[i] {
		case "QPN":
			var n uint64
			n, err = strconv.ParseUint(v, 0, 24)
			e.QPN = uint32(n)
		case "PSN":
			var n uint64
			n, err = strconv.ParseUint(v, 0, 24)
			e.PSN = roce.PSN(n)
		case "GID":
			e.GID, err = netip.ParseAddr(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseCompletion reads "OP t=0.0248 wc id=100 status=0(success) opcode=0 len=1
// flags=0 imm=0 vendor=0"; the server prints no operation and no time.
func (d *Side) parseCompletion(line string) error {
	var c Completion
	head, rest, _ := strings.Cut(line, "wc id=")
	if _, t, ok := strings.Cut(head, "t="); ok {
		sec, err := strconv.ParseFloat(strings.TrimSpace(t), 64)
		if err != nil {
			return err
		}
		c.Time = time.Duration(sec * float64(time.Second))
	}
	id, rest, _ := strings.Cut(rest, " status=")
	status, rest, _ := strings.Cut(rest, "(")
	_, rest, _ = strings.Cut(rest, ") ")
	var vendor int
	if _, err := fmt.Sscanf(rest, "opcode=%d len=%d flags=%x imm=%x vendor=%x", &c.Opcode, &c.Len, &c.Flags, &c.Imm, &vendor); err != nil {
		return err
	}
	var err error
	if c.ID, err = strconv.ParseUint(id, 16, 64); err != nil {
		return err
	}
	if c.Status, err = strconv.Atoi(status); err != nil {
		return err
	}
	d.Completions = append(d.Completions, c)
	return nil
}

// parseGRH reads "  grh HEX payload HEX src_qp=00001f slid=0 sl=0".
func (d *Side) parseGRH(line string) (err error) {
	c := d.last()
	if c == nil {
		return fmt.Errorf("no completion before it")
	}
	f := strings.Fields(line)
	for i := 1; i < len(f); i++ {
		switch {
		case f[i-1] == "grh":
			c.GRH, err = hex.DecodeString(f[i])
		case f[i-1] == "payload":
			c.Payload, err = hex.DecodeString(f[i])
		case strings.HasPrefix(f[i], "src_qp="):
			var n uint64
			n, err = strconv.ParseUint(f[i][len("src_qp="):], 16, 24)
			c.SrcQP = uint32(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
