package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Frame is a captured Ethernet frame.
type Frame struct {
	Time time.Duration // since the capture's first frame
	Data []byte
}

var errTruncated = errors.New("replay: capture ends inside a record")

const (
	pcapMagicMicro = 0xa1b2c3d4
	pcapMagicNano  = 0xa1b23c4d
	linkEthernet   = 1
	pcapHeaderLen  = 24
	pcapRecordLen  = 16
)

// ReadPCAP reads a whole pcap file (not pcapng) of Ethernet frames, either byte
// order, microseconds or nanoseconds. The frames share b's memory.
func ReadPCAP(b []byte) ([]Frame, error) {
	if len(b) < pcapHeaderLen {
		return nil, errTruncated
	}
	var order binary.ByteOrder = binary.LittleEndian
	unit := time.Microsecond
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch o.Uint32(b) {
		case pcapMagicNano:
			unit = time.Nanosecond
			fallthrough
		case pcapMagicMicro:
			order = o
		}
	}
	if m := order.Uint32(b); m != pcapMagicMicro && m != pcapMagicNano {
		return nil, fmt.Errorf("replay: magic %#x is not a pcap file's", m)
	}
	if l := order.Uint32(b[20:]) & 0xffff; l != linkEthernet {
		return nil, fmt.Errorf("replay: link type %d, only Ethernet (1) is read", l)
	}
	var frames []Frame
	var first time.Duration
	for b = b[pcapHeaderLen:]; len(b) > 0; {
		if len(b) < pcapRecordLen {
			return nil, errTruncated
		}
		at := time.Duration(order.Uint32(b))*time.Second + time.Duration(order.Uint32(b[4:]))*unit
		n := uint64(order.Uint32(b[8:]))
		b = b[pcapRecordLen:]
		if n > uint64(len(b)) {
			return nil, errTruncated
		}
		if frames == nil {
			first = at
		}
		frames = append(frames, Frame{at - first, b[:n:n]})
		b = b[n:]
	}
	return frames, nil
}

// Ethernet header, without tags.
const ethernetLen = 14

// Network returns what follows the Ethernet header of an untagged IP frame, or
// nil.
func (f Frame) Network() []byte {
	if len(f.Data) < ethernetLen {
		return nil
	}
	switch binary.BigEndian.Uint16(f.Data[12:]) {
	case 0x0800, 0x86dd:
		return f.Data[ethernetLen:]
	}
	return nil
}
