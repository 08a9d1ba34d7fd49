package roce

import "fmt"

// Opcode is the first byte of a [BTH]: the transport service in its upper three
// bits, the operation in the lower five (IBTA 9.2.1, table 38).
type Opcode uint8

// Opcodes of the reliable connection (RC), unreliable connection (UC) and
// unreliable datagram (UD) services, and the congestion notification packet
// (IBTA A17.9.3). Reliable datagram and XRC are not spoken here.
const (
	RCSendFirst        Opcode = 0x00
	RCSendMiddle       Opcode = 0x01
	RCSendLast         Opcode = 0x02
	RCSendLastImm      Opcode = 0x03
	RCSendOnly         Opcode = 0x04
	RCSendOnlyImm      Opcode = 0x05
	RCWriteFirst       Opcode = 0x06
	RCWriteMiddle      Opcode = 0x07
	RCWriteLast        Opcode = 0x08
	RCWriteLastImm     Opcode = 0x09
	RCWriteOnly        Opcode = 0x0a
	RCWriteOnlyImm     Opcode = 0x0b
	RCReadRequest      Opcode = 0x0c
	RCReadRespFirst    Opcode = 0x0d
	RCReadRespMiddle   Opcode = 0x0e
	RCReadRespLast     Opcode = 0x0f
	RCReadRespOnly     Opcode = 0x10
	RCAck              Opcode = 0x11
	RCAtomicAck        Opcode = 0x12
	RCCompareSwap      Opcode = 0x13
	RCFetchAdd         Opcode = 0x14
	RCSendLastInv      Opcode = 0x16
	RCSendOnlyInv      Opcode = 0x17
	RCFlush            Opcode = 0x1c
	RCAtomicWrite      Opcode = 0x1d
	UCSendFirst        Opcode = 0x20
	UCSendMiddle       Opcode = 0x21
	UCSendLast         Opcode = 0x22
	UCSendLastImm      Opcode = 0x23
	UCSendOnly         Opcode = 0x24
	UCSendOnlyImm      Opcode = 0x25
	UCWriteFirst       Opcode = 0x26
	UCWriteMiddle      Opcode = 0x27
	UCWriteLast        Opcode = 0x28
	UCWriteLastImm     Opcode = 0x29
	UCWriteOnly        Opcode = 0x2a
	UCWriteOnlyImm     Opcode = 0x2b
	UDSendOnly         Opcode = 0x64
	UDSendOnlyImm      Opcode = 0x65
	CongestionNotified Opcode = 0x81
)

// Service is the transport service an opcode belongs to: its upper three bits.
type Service uint8

// Services (IBTA 9.2.1). A number without a constant here belongs to a service
// that RoCE devices of this kind do not offer.
const (
	ServiceRC  Service = 0
	ServiceUC  Service = 1
	ServiceUD  Service = 3
	ServiceCNP Service = 4
)

// String returns RC, UC, UD or CNP.
func (s Service) String() string {
	switch s {
	case ServiceRC:
		return "RC"
	case ServiceUC:
		return "UC"
	case ServiceUD:
		return "UD"
	case ServiceCNP:
		return "CNP"
	}
	return fmt.Sprintf("service-%d", uint8(s))
}

// Operation is what the message, of which a packet is a part, does.
type Operation uint8

// Operations.
const (
	OpNone Operation = iota
	OpSend
	OpWrite
	OpReadRequest
	OpReadResponse
	OpAck
	OpAtomicAck
	OpCompareSwap
	OpFetchAdd
	OpFlush
	OpAtomicWrite
	OpCNP
)

// Headers is a set of extension headers. They follow the BTH in the order of
// the constants.
type Headers uint16

// Extension headers.
const (
	HasDETH Headers = 1 << iota
	HasFETH
	HasRETH
	HasAtomicETH
	HasAETH
	HasAtomicAckETH
	HasImm
	HasIETH
	HasCNPReserved // the 16 zero bytes of a congestion notification packet
	headersEnd
)

// headerLen holds the length of each header, by bit number in Headers.
var headerLen = [...]uint8{DETHLen, FETHLen, RETHLen, AtomicETHLen, AETHLen, AtomicAckETHLen, ImmLen, IETHLen, CNPReservedLen}

// Part says which packet of a message this is.
type Part uint8

// Parts. They are a set: ONLY is FIRST and LAST at once.
const (
	First  Part = 1
	Last   Part = 2
	Middle Part = 0
	Only        = First | Last
)

// Answer is the kind of packet by which a responder acknowledges a request.
type Answer uint8

// Answers. FLUSH and ATOMIC WRITE are answered with a READ RESPONSE ONLY
// without payload, not with an ACK (IBTA A19.4).
const (
	NoAnswer       Answer = iota // UC, UD, and packets that are answers themselves
	AnswerAck                    // ACKNOWLEDGE
	AnswerRead                   // READ RESPONSE FIRST .. LAST, or ONLY
	AnswerAtomic                 // ATOMIC ACKNOWLEDGE
	AnswerReadOnly               // READ RESPONSE ONLY, empty
)

// Info is a row of the opcode table. The zero Info (Known false) is that of an
// opcode this package does not know.
type Info struct {
	Name    string    // without the service: "SEND_ONLY_IMM"
	Service Service   //
	Op      Operation //
	Headers Headers   // extension headers
	ExtLen  uint8     // their length in bytes, BTH not counted
	Part    Part      // of the message
	Answer  Answer    // for requests
	Known   bool      //
	Payload bool      // may carry payload
	Request bool      // flows from requester to responder
	Imm     bool      // carries immediate data
	Inv     bool      // carries an rkey to invalidate
	// Consumes tells that the packet ends a message that takes a receive work
	// request at the responder: SEND's end, or WRITE's end with immediate data.
	Consumes bool
	full     string   // Opcode.String
	offset   [9]uint8 // of each header from the start of the BTH, 0 = absent
}

var table = buildTable()

func buildTable() (t [256]Info) {
	row := func(op Opcode, name string, kind Operation, part Part, h Headers, answer Answer) {
		i := Info{Name: name, Service: op.Service(), Op: kind, Part: part, Headers: h, Answer: answer, Known: true}
		i.full = i.Service.String() + " " + name
		if kind == OpCNP {
			i.full = name
		}
		i.Imm, i.Inv = h&HasImm != 0, h&HasIETH != 0
		switch kind {
		case OpSend, OpWrite, OpReadResponse, OpAtomicWrite:
			i.Payload = true
		}
		switch kind {
		case OpReadResponse, OpAck, OpAtomicAck, OpCNP:
		default:
			i.Request = true
		}
		i.Consumes = part&Last != 0 && (kind == OpSend || kind == OpWrite && i.Imm)
		for n, l := range headerLen {
			if h&(1<<n) != 0 {
				i.offset[n] = BTHLen + i.ExtLen
				i.ExtLen += l
			}
		}
		t[op] = i
	}
	for _, s := range []struct {
		base   Opcode
		answer Answer
	}{{0x00, AnswerAck}, {0x20, NoAnswer}} {
		row(s.base+0x00, "SEND_FIRST", OpSend, First, 0, s.answer)
		row(s.base+0x01, "SEND_MIDDLE", OpSend, Middle, 0, s.answer)
		row(s.base+0x02, "SEND_LAST", OpSend, Last, 0, s.answer)
		row(s.base+0x03, "SEND_LAST_IMM", OpSend, Last, HasImm, s.answer)
		row(s.base+0x04, "SEND_ONLY", OpSend, Only, 0, s.answer)
		row(s.base+0x05, "SEND_ONLY_IMM", OpSend, Only, HasImm, s.answer)
		row(s.base+0x06, "WRITE_FIRST", OpWrite, First, HasRETH, s.answer)
		row(s.base+0x07, "WRITE_MIDDLE", OpWrite, Middle, 0, s.answer)
		row(s.base+0x08, "WRITE_LAST", OpWrite, Last, 0, s.answer)
		row(s.base+0x09, "WRITE_LAST_IMM", OpWrite, Last, HasImm, s.answer)
		row(s.base+0x0a, "WRITE_ONLY", OpWrite, Only, HasRETH, s.answer)
		row(s.base+0x0b, "WRITE_ONLY_IMM", OpWrite, Only, HasRETH|HasImm, s.answer)
	}
	row(RCReadRequest, "READ_REQUEST", OpReadRequest, Only, HasRETH, AnswerRead)
	row(RCReadRespFirst, "READ_RESP_FIRST", OpReadResponse, First, HasAETH, NoAnswer)
	row(RCReadRespMiddle, "READ_RESP_MIDDLE", OpReadResponse, Middle, 0, NoAnswer)
	row(RCReadRespLast, "READ_RESP_LAST", OpReadResponse, Last, HasAETH, NoAnswer)
	row(RCReadRespOnly, "READ_RESP_ONLY", OpReadResponse, Only, HasAETH, NoAnswer)
	row(RCAck, "ACK", OpAck, Only, HasAETH, NoAnswer)
	row(RCAtomicAck, "ATOMIC_ACK", OpAtomicAck, Only, HasAETH|HasAtomicAckETH, NoAnswer)
	row(RCCompareSwap, "CMP_SWAP", OpCompareSwap, Only, HasAtomicETH, AnswerAtomic)
	row(RCFetchAdd, "FETCH_ADD", OpFetchAdd, Only, HasAtomicETH, AnswerAtomic)
	row(RCSendLastInv, "SEND_LAST_INV", OpSend, Last, HasIETH, AnswerAck)
	row(RCSendOnlyInv, "SEND_ONLY_INV", OpSend, Only, HasIETH, AnswerAck)
	row(RCFlush, "FLUSH", OpFlush, Only, HasFETH|HasRETH, AnswerReadOnly)
	row(RCAtomicWrite, "ATOMIC_WRITE", OpAtomicWrite, Only, HasRETH, AnswerReadOnly)
	row(UDSendOnly, "SEND_ONLY", OpSend, Only, HasDETH, NoAnswer)
	row(UDSendOnlyImm, "SEND_ONLY_IMM", OpSend, Only, HasDETH|HasImm, NoAnswer)
	row(CongestionNotified, "CNP", OpCNP, Only, HasCNPReserved, NoAnswer)
	return t
}

// Info returns the opcode's row of the table. The result is shared and must not
// be written to.
func (o Opcode) Info() *Info { return &table[o] }

// Known tells whether the opcode is one of the constants above.
func (o Opcode) Known() bool { return table[o].Known }

// Service returns the upper three bits.
func (o Opcode) Service() Service { return Service(o >> 5) }

// HeaderLen is the length of BTH and extension headers together.
func (o Opcode) HeaderLen() int { return BTHLen + int(table[o].ExtLen) }

// String returns, for example, "RC SEND_ONLY_IMM".
func (o Opcode) String() string {
	if i := &table[o]; i.Known {
		return i.full
	}
	return fmt.Sprintf("opcode-%#02x", uint8(o))
}
