package replay

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"taproom/rdma/roce"
)

// Who is a side of a scenario.
type Who uint8

// Sides. The server is guest a of the lab, the client guest b.
const (
	Server Who = iota
	Client
)

// String returns server or client.
func (w Who) String() string { return [...]string{"server", "client"}[w] }

// Peer returns the other side.
func (w Who) Peer() Who { return w ^ 1 }

// Endpoint is what one side tells the other about itself.
type Endpoint struct {
	QPN  uint32
	PSN  roce.PSN // the first it sends with
	RKey uint32   // verbx
	Addr uint64   // verbx: of its memory
	GID  netip.Addr
}

// Completion is a work completion as verbx printed it.
type Completion struct {
	ID      uint64
	Status  int // ibv_wc_status
	Opcode  int // ibv_wc_opcode; 0 with a bad status
	Len     int
	Flags   int    // ibv_wc_flags
	Imm     uint32 // immediate data or invalidated key
	Time    time.Duration
	Old     *uint64 // an atomic's old value
	GRH     []byte  // datagrams
	Payload []byte  // datagrams: the first bytes, at most 20
	SrcQP   uint32  // datagrams
}

// Side is one side of a scenario.
type Side struct {
	Command       string
	Exit          int
	Lines         []string // what it printed
	Local, Remote Endpoint
	Options       *Options // verbx only
	Completions   []Completion
	Flushed       int // completions with status 5 in all, if more than one was flushed
	Sums          Sums
}

// Event is a thing the wire did to a packet.
type Event struct {
	Action string // drop, dup, swap, corrupt, ce, setop
	Opcode roce.Opcode
	PSN    roce.PSN
	From   Who
}

// Packet is a captured RoCE packet.
type Packet struct {
	roce.Packet
	Time time.Duration
	From Who
	Fate string // what the wire did to it after it was captured: "" or an Action
}

// Scenario is one recording.
type Scenario struct {
	Name    string
	At      Who // whose interface the capture was taken on
	Rules   string
	Log     []Event
	Server  Side
	Client  Side
	Verbx   *Options // the client's, if both sides ran verbx
	Window  uint32   // rkey of the server's memory window, if there is one
	Work    []WorkRequest
	Frames  []Frame
	Packets []Packet // the RoCE packets among Frames
	Hidden  []Event  // of packets that the wire changed before they were captured
}

// Side returns one of the sides.
func (s *Scenario) Side(w Who) *Side {
	if w == Server {
		return &s.Server
	}
	return &s.Client
}

// Parse reads a scenario from its capture and its text.
func Parse(name string, pcap, text []byte) (*Scenario, error) {
	s := &Scenario{Name: name, At: Client}
	if err := s.parseText(string(text)); err != nil {
		return nil, fmt.Errorf("replay: %s.txt: %w", name, err)
	}
	frames, err := ReadPCAP(pcap)
	if err != nil {
		return nil, fmt.Errorf("%w (%s.pcap)", err, name)
	}
	s.Frames = frames
	s.addPackets()
	if s.Server.Options != nil && s.Client.Options != nil {
		s.Verbx = s.Client.Options
		s.Work = s.Verbx.workRequests(s.Client.Local, s.Client.Remote, s.Window)
	}
	return s, nil
}

// addPackets finds the RoCE packets, who sent them, and what became of them.
func (s *Scenario) addPackets() {
	var client netip.Addr
	for _, f := range s.Frames {
		p, err := roce.Parse(f.Network())
		if err != nil {
			continue
		}
		if !client.IsValid() { // the first packet is a request of the client's, but for groups'
			client = p.Src()
		}
		from := Server
		if p.Src() == client {
			from = Client
		}
		s.Packets = append(s.Packets, Packet{Packet: p, Time: f.Time, From: from})
		if h := p.IETH(); h != nil {
			s.Window = h.RKey()
		}
	}
	next := 0
	for _, e := range s.Log {
		if e.From != s.At {
			s.Hidden = append(s.Hidden, e)
			continue
		}
		for i := next; i < len(s.Packets); i++ {
			p := &s.Packets[i]
			if p.From == e.From && p.BTH.Opcode() == e.Opcode && p.BTH.PSN() == e.PSN && p.Fate == "" {
				p.Fate, next = e.Action, i+1
				break
			}
		}
	}
}

// Sent returns the packets a side sent, in order, as far as the capture has
// them: those of the side it was not taken at are missing where Hidden says
// drop, and stand in the changed order or form where it says anything else.
func (s *Scenario) Sent(w Who) []Packet {
	var out []Packet
	for _, p := range s.Packets {
		if p.From == w {
			out = append(out, p)
		}
	}
	return out
}

// Arrived returns the packets that reached a side, in order: those its peer
// sent, after what the wire did to them. Packets changed in their bytes
// (corrupt, setop, ce) after the capture are left out when corrupt, and as they
// were sent otherwise.
func (s *Scenario) Arrived(w Who) []Packet {
	var out []Packet
	var held []Packet
	for _, p := range s.Sent(w.Peer()) {
		switch p.Fate {
		case "drop", "corrupt":
			continue
		case "dup":
			out = append(out, p)
		case "swap":
			held = append(held, p)
			continue
		}
		out = append(append(out, p), held...)
		held = nil
	}
	return append(out, held...)
}

func (s *Scenario) parseText(text string) error {
	var side *Side
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "--- server":
			side = &s.Server
		case line == "--- client":
			side = &s.Client
		case side != nil:
			side.Lines = append(side.Lines, line)
			if err := side.parseLine(line); err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
		default:
			if err := s.parseHead(line); err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	return nil
}

func (s *Scenario) parseHead(line string) error {
	key, value, _ := strings.Cut(line, ": ")
	switch key {
	case "capture":
		if strings.Contains(value, "guest a") {
			s.At = Server
		}
	case "server (a)":
		return s.Server.setCommand(value)
	case "client (b)":
		return s.Client.setCommand(value)
	case "wire rules":
		s.Rules = value
	case "exit":
		_, err := fmt.Sscanf(value, "client %d server %d", &s.Client.Exit, &s.Server.Exit)
		return err
	default:
		if f := strings.Fields(line); len(f) == 5 && f[3] == "from" {
			return s.parseEvent(f)
		}
	}
	return nil
}

// parseEvent reads "drop op=04 psn=001002 from b".
func (s *Scenario) parseEvent(f []string) error {
	op, err := strconv.ParseUint(strings.TrimPrefix(f[1], "op="), 16, 8)
	if err != nil {
		return err
	}
	psn, err := strconv.ParseUint(strings.TrimPrefix(f[2], "psn="), 16, 24)
	if err != nil {
		return err
	}
	from := Server
	if f[4] == "b" {
		from = Client
	}
	s.Log = append(s.Log, Event{f[0], roce.Opcode(op), roce.PSN(psn), from})
	return nil
}

func (d *Side) setCommand(c string) (err error) {
	d.Command = strings.TrimSpace(c)
	if args := strings.Fields(c); len(args) > 0 && args[0] == "verbx" {
		d.Options, err = ParseOptions(args)
	}
	return err
}
