package rdma

import (
	"fmt"

	"taproom/rdma/roce"
)

// SGE is a piece of a registered region.
type SGE struct {
	Addr   uint64
	Length uint32
	LKey   uint32
}

// WROpcode is what a work request does, with the values of enum ibv_wr_opcode.
type WROpcode uint8

// Work request opcodes.
const (
	WRWrite       WROpcode = 0
	WRWriteImm    WROpcode = 1
	WRSend        WROpcode = 2
	WRSendImm     WROpcode = 3
	WRRead        WROpcode = 4
	WRCompareSwap WROpcode = 5
	WRFetchAdd    WROpcode = 6
	WRLocalInv    WROpcode = 7
	WRBindMW      WROpcode = 8
	WRSendInv     WROpcode = 9
	WRFlush       WROpcode = 14
	WRAtomicWrite WROpcode = 15
	WRRegMR       WROpcode = 32 // kernel verbs' number
)

// wrInfo is a row of the table of work requests.
type wrInfo struct {
	name     string
	wc       WCOpcode
	types    uint8 // of queue pairs: bits 1<<RC and so on
	first    roce.Opcode
	middle   roce.Opcode
	last     roce.Opcode
	only     roce.Opcode // for RC; UC is 0x20 further
	local    bool        // done here, nothing goes out
	explicit bool        // ends with a response of its own, not an ACK
	inline   bool        // may be inline
	send     bool        // SEND of some kind
	access   Access      // rights the SGEs need
}

const (
	onRC = 1 << RC
	onUC = 1 << UC
	onUD = 1<<UD | 1<<GSI
)

var wrTable = [33]wrInfo{
	WRWrite:       {name: "RDMA_WRITE", wc: WCWrite, types: onRC | onUC, first: roce.RCWriteFirst, middle: roce.RCWriteMiddle, last: roce.RCWriteLast, only: roce.RCWriteOnly, inline: true},
	WRWriteImm:    {name: "RDMA_WRITE_WITH_IMM", wc: WCWrite, types: onRC | onUC, first: roce.RCWriteFirst, middle: roce.RCWriteMiddle, last: roce.RCWriteLastImm, only: roce.RCWriteOnlyImm, inline: true},
	WRSend:        {name: "SEND", wc: WCSend, types: onRC | onUC | onUD, first: roce.RCSendFirst, middle: roce.RCSendMiddle, last: roce.RCSendLast, only: roce.RCSendOnly, inline: true, send: true},
	WRSendImm:     {name: "SEND_WITH_IMM", wc: WCSend, types: onRC | onUC | onUD, first: roce.RCSendFirst, middle: roce.RCSendMiddle, last: roce.RCSendLastImm, only: roce.RCSendOnlyImm, inline: true, send: true},
	WRSendInv:     {name: "SEND_WITH_INV", wc: WCSend, types: onRC, first: roce.RCSendFirst, middle: roce.RCSendMiddle, last: roce.RCSendLastInv, only: roce.RCSendOnlyInv, inline: true, send: true},
	WRRead:        {name: "RDMA_READ", wc: WCRead, types: onRC, only: roce.RCReadRequest, explicit: true, access: LocalWrite},
	WRCompareSwap: {name: "ATOMIC_CMP_AND_SWP", wc: WCCompSwap, types: onRC, only: roce.RCCompareSwap, explicit: true, access: LocalWrite},
	WRFetchAdd:    {name: "ATOMIC_FETCH_AND_ADD", wc: WCFetchAdd, types: onRC, only: roce.RCFetchAdd, explicit: true, access: LocalWrite},
	WRAtomicWrite: {name: "ATOMIC_WRITE", wc: WCAtomicWrite, types: onRC, only: roce.RCAtomicWrite, explicit: true, inline: true},
	WRFlush:       {name: "FLUSH", wc: WCFlush, types: onRC, only: roce.RCFlush, explicit: true},
	WRLocalInv:    {name: "LOCAL_INV", wc: WCLocalInv, types: onRC | onUC, local: true},
	WRBindMW:      {name: "BIND_MW", wc: WCBindMW, types: onRC | onUC, local: true},
	WRRegMR:       {name: "REG_MR", wc: WCRegMR, types: onRC | onUC, local: true},
}

// many tells whether the message may take several PSNs: SENDs and WRITEs by
// their packets, READ by those of the answer.
func (i *wrInfo) many() bool {
	return i.only != i.middle && i.middle != 0 || i.only == roce.RCReadRequest
}

// info returns the opcode's row, nil for one there is not.
func (o WROpcode) info() *wrInfo {
	if int(o) < len(wrTable) && wrTable[o].name != "" {
		return &wrTable[o]
	}
	return nil
}

// String returns the verbs name without its prefix.
func (o WROpcode) String() string {
	if i := o.info(); i != nil {
		return i.name
	}
	return fmt.Sprintf("wr-opcode-%d", uint8(o))
}

// SendFlags modify a work request (enum ibv_send_flags).
type SendFlags uint8

// Send flags.
const (
	Fence     SendFlags = 1 << 0 // wait for READs and atomics before it
	Signaled  SendFlags = 1 << 1 // complete with an entry; errors always do
	Solicited SendFlags = 1 << 2 // the peer's completion is a solicited event
	Inline    SendFlags = 1 << 3 // take the bytes now; see SendWR.Inline
)

// SendWR is a work request for the send queue. It and the slices in it are the
// caller's again when the post has returned; the memory that SGEs name is the
// device's until the completion.
type SendWR struct {
	ID     uint64
	Opcode WROpcode
	Flags  SendFlags
	SGList []SGE
	Inline []byte // with flag Inline: the bytes; if nil, the memory of SGList
	Imm    uint32 // *_WITH_IMM: immediate data as a number
	InvKey uint32 // SEND_WITH_INV: the peer's rkey; LOCAL_INV: ours

	RemoteAddr uint64 // WRITE, READ, atomics, FLUSH
	RKey       uint32
	CompareAdd uint64 // CMP_SWP: compare; FETCH_ADD: add
	Swap       uint64

	// ATOMIC_WRITE takes its eight bytes from SGList or Inline.
	// FLUSH: Length bytes from RemoteAddr on (or the whole region).
	FlushLength uint32
	Placement   roce.Placement
	Selectivity roce.Selectivity

	AH         *AH // UD
	RemoteQPN  uint32
	RemoteQKey uint32 // the top bit set: the queue pair's own

	MW      *MW // BIND_MW
	Bind    BindInfo
	NewRKey uint32 // BIND_MW of type 2, and REG_MR: the key from now on
	MR      *MR    // REG_MR
	Access  Access // REG_MR
}

// RecvWR is a work request for a receive queue. As with SendWR, it is the
// caller's again after the post.
type RecvWR struct {
	ID     uint64
	SGList []SGE
}
