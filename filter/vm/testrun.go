package vm

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"taproom/stack/packet"
)

// TestOptions describe a run on made-up input, as BPF_PROG_TEST_RUN does.
type TestOptions struct {
	// Data is the input: a frame, at least a whole Ethernet header. Netfilter
	// programs get what is behind it, except at LOCAL_OUT, where there is none.
	Data []byte
	// SKB holds the context fields that may be given.
	SKB TestSKB
	// At is where a netfilter program runs.
	At NFHook
	// Repeat is how often to run; 0 means once. Every repetition gets the packet as
	// the one before left it.
	Repeat int
	// Env is the world around; nil means a loopback interface and nothing else.
	Env Env
}

// TestSKB are the members of struct __sk_buff that BPF_PROG_TEST_RUN takes and gives.
type TestSKB struct {
	Mark, Priority uint32
	Ifindex        uint32 // 0 means 1, the loopback interface
	IngressIfindex uint32
	CB             [5]uint32
	Tstamp         uint64
	WireLen        uint32
	GSOSegs        uint32
	GSOSize        uint32
	Hwtstamp       uint64
	Len            uint32 // results from here on
	Protocol       uint32
	VLANPresent    uint32
	VLANTCI        uint32
	VLANProto      uint32
	PktType        uint32
	QueueMapping   uint32
	TCIndex        uint32
	Hash           uint32
	TCClassid      uint32
}

// TestResult is what came of it.
type TestResult struct {
	Return   uint32
	Data     []byte // the packet afterwards, without a tag that is in SKB
	SKB      TestSKB
	Redirect int           // interface that bpf_redirect named last
	Duration time.Duration // of one run, on average
}

// ErrTestInput is returned for input that BPF_PROG_TEST_RUN refuses.
var ErrTestInput = errors.New("vm: input refused")

const (
	ethernetLen    = packet.EthernetLen
	testLoopback   = 1
	testMaxLen     = 65536
	ipv4Min        = 20
	ipv6Min        = 40
	defaultRepeats = 1
)

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrTestInput, fmt.Sprintf(format, args...), syscall.EINVAL)
}

// TestRun runs the program on made-up input.
func (p *Prog) TestRun(o TestOptions) (TestResult, error) {
	pk, err := p.testPacket(o)
	if err != nil {
		return TestResult{}, err
	}
	defer pk.Release()
	if o.Env == nil {
		o.Env = new(testEnv)
	}
	r := Acquire()
	defer r.Release()
	var res TestResult
	n := max(o.Repeat, defaultRepeats)
	begin := time.Now()
	for range n {
		switch p.kind {
		case ctxXDP:
			res.Return, err = r.XDP(p, pk, o.Env)
		case ctxNetfilter:
			res.Return, err = r.Netfilter(p, pk, o.At, o.Env)
		default:
			res.Return, err = r.SKB(p, pk, o.Env)
		}
		if err != nil {
			return res, err
		}
	}
	res.Duration = time.Since(begin) / time.Duration(n)
	res.Redirect = pk.RedirectTo
	if p.kind == ctxNetfilter && o.At.Hook != NFLocalOut {
		res.Data = append(res.Data, o.Data[:ethernetLen]...)
	}
	if p.isSocketFilter() {
		res.Data = append(res.Data, o.Data[:ethernetLen]...)
	}
	if p.kind == ctxXDP && r.xdp.meta > 0 {
		// The output begins with the metadata.
		res.Data = append(res.Data, pk.Push(r.xdp.meta)[:r.xdp.meta]...)
		pk.Trim(r.xdp.meta)
	}
	at := len(res.Data)
	res.Data = append(res.Data, make([]byte, pk.Len())...)
	pk.CopyTo(res.Data[at:], 0)
	res.SKB = testSKB(r, pk)
	return res, nil
}

// testPacket builds the packet as bpf_prog_test_run_skb does.
func (p *Prog) testPacket(o TestOptions) (*packet.Packet, error) {
	b := o.Data
	if p.kind == ctxNetfilter {
		return p.testNetfilter(o)
	}
	if len(b) < ethernetLen || len(b) > testMaxLen {
		return nil, refuse("%d bytes of input", len(b))
	}
	pk := packet.New(b)
	pk.ParseLink()
	pk.In = int(o.SKB.IngressIfindex)
	pk.Out = max(int(o.SKB.Ifindex), testLoopback)
	if p.kind == ctxXDP {
		pk.In, pk.Out = testLoopback, 0
		clear(pk.Push(xdpHeadroom)[:xdpHeadroom]) // zero in the kernel, too
		pk.Trim(xdpHeadroom)
		pk.SetMAC(0)
		return pk, nil
	}
	if short(pk.Proto, b[ethernetLen:]) {
		pk.Release()
		return nil, refuse("the IP header is cut short")
	}
	pk.Type = testType(b)
	pk.Mark, pk.Priority, pk.CB = o.SKB.Mark, o.SKB.Priority, o.SKB.CB
	pk.Time = int64(o.SKB.Tstamp)
	pk.GSO.Size, pk.GSO.Segs = uint16(o.SKB.GSOSize), uint16(o.SKB.GSOSegs)
	if p.isSocketFilter() {
		pk.Trim(ethernetLen)
	}
	return pk, nil
}

// testNetfilter builds the packet as bpf_prog_test_run_nf does.
func (p *Prog) testNetfilter(o TestOptions) (*packet.Packet, error) {
	b := o.Data
	if o.At.Hook != NFLocalOut {
		if len(b) < ethernetLen {
			return nil, refuse("%d bytes of input", len(b))
		}
		b = b[ethernetLen:]
	}
	proto, least := uint16(packet.EtherIPv4), ipv4Min
	switch o.At.PF {
	case NFProtoIPv4:
	case NFProtoIPv6:
		proto, least = packet.EtherIPv6, ipv6Min
	default:
		return nil, refuse("protocol family %d", o.At.PF)
	}
	if o.At.Hook > NFPostRouting || len(b) < least {
		return nil, refuse("hook %d, %d bytes", o.At.Hook, len(b))
	}
	pk := packet.New(b)
	pk.Proto = proto
	pk.SetL3(0)
	switch o.At.Hook {
	case NFPreRouting, NFLocalIn:
		pk.In = testLoopback
	case NFForward:
		pk.In, pk.Out = testLoopback, testLoopback
	default:
		pk.Out = testLoopback
	}
	return pk, nil
}

// short reports whether an IP packet lacks part of its header, which the kernel
// refuses since 6.18.
func short(proto uint16, b []byte) bool {
	switch proto {
	case packet.EtherIPv4:
		return len(b) < ipv4Min
	case packet.EtherIPv6:
		return len(b) < ipv6Min
	}
	return false
}

// testType is eth_type_trans on the loopback device, whose address and broadcast address
// are zero: what others broadcast is a multicast there.
func testType(b []byte) packet.Type {
	switch mac := [6]byte(b[:6]); {
	case mac == [6]byte{}:
		return packet.Host
	case mac[0]&1 != 0:
		return packet.Multicast
	}
	return packet.OtherHost
}

func testSKB(r *Run, pk *packet.Packet) TestSKB {
	if r.kind != ctxSKB {
		return TestSKB{}
	}
	r.fillSKB(pk) // a compiled program that does not read it runs without
	c := r.skbCtx()
	return TestSKB{
		Mark: c.Mark, Priority: c.Priority, Ifindex: c.Ifindex, IngressIfindex: c.IngressIfindex, CB: c.CB,
		Tstamp: c.Tstamp, WireLen: c.WireLen, GSOSegs: c.GSOSegs, GSOSize: c.GSOSize, Hwtstamp: c.Hwtstamp,
		Len: uint32(pk.Len()), Protocol: c.Protocol, VLANPresent: c.VLANPresent, VLANTCI: c.VLANTCI,
		VLANProto: c.VLANProto, PktType: c.PktType, QueueMapping: c.QueueMapping, TCIndex: c.TCIndex,
		Hash: c.Hash, TCClassid: c.TCClassid,
	}
}
