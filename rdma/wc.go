package rdma

import (
	"fmt"

	"taproom/rdma/roce"
)

// Status is how a work request ended, with the values of enum ibv_wc_status.
type Status uint8

// Completion statuses. Those of reliable datagrams never occur.
const (
	Success        Status = 0
	LocLenErr      Status = 1
	LocQPOpErr     Status = 2
	LocProtErr     Status = 4
	WRFlushErr     Status = 5
	MWBindErr      Status = 6
	BadRespErr     Status = 7
	LocAccessErr   Status = 8
	RemInvReqErr   Status = 9
	RemAccessErr   Status = 10
	RemOpErr       Status = 11
	RetryExcErr    Status = 12
	RNRRetryExcErr Status = 13
	RemAbortErr    Status = 16
	FatalErr       Status = 19
	RespTimeoutErr Status = 20
	GeneralErr     Status = 21
)

var statusNames = [...]string{
	Success: "success", LocLenErr: "local length error", LocQPOpErr: "local QP operation error",
	LocProtErr: "local protection error", WRFlushErr: "Work Request Flushed Error", MWBindErr: "memory bind operation error",
	BadRespErr: "bad response error", LocAccessErr: "local access error", RemInvReqErr: "remote invalid request error",
	RemAccessErr: "remote access error", RemOpErr: "remote operation error", RetryExcErr: "transport retry counter exceeded",
	RNRRetryExcErr: "RNR retry counter exceeded", RemAbortErr: "remote aborted error", FatalErr: "fatal error",
	RespTimeoutErr: "response timeout error", GeneralErr: "general error",
}

// String returns the words ibv_wc_status_str uses.
func (s Status) String() string {
	if int(s) < len(statusNames) && statusNames[s] != "" {
		return statusNames[s]
	}
	return fmt.Sprintf("status-%d", uint8(s))
}

// WCOpcode is what completed, with the values of enum ibv_wc_opcode.
type WCOpcode uint8

// Completion opcodes. After an error only ID, Status, QPN and what explains the
// error mean anything, as in verbs.
const (
	WCSend        WCOpcode = 0
	WCWrite       WCOpcode = 1
	WCRead        WCOpcode = 2
	WCCompSwap    WCOpcode = 3
	WCFetchAdd    WCOpcode = 4
	WCBindMW      WCOpcode = 5
	WCLocalInv    WCOpcode = 6
	WCFlush       WCOpcode = 8
	WCAtomicWrite WCOpcode = 9
	WCRegMR       WCOpcode = 10 // kernel verbs only; uapi has no number for it
	WCRecv        WCOpcode = 128
	WCRecvImm     WCOpcode = 129 // a WRITE with immediate data took the receive
)

var wcOpcodeNames = map[WCOpcode]string{
	WCSend: "SEND", WCWrite: "RDMA_WRITE", WCRead: "RDMA_READ", WCCompSwap: "COMP_SWAP", WCFetchAdd: "FETCH_ADD",
	WCBindMW: "BIND_MW", WCLocalInv: "LOCAL_INV", WCFlush: "FLUSH", WCAtomicWrite: "ATOMIC_WRITE", WCRegMR: "REG_MR",
	WCRecv: "RECV", WCRecvImm: "RECV_RDMA_WITH_IMM",
}

// String returns the verbs name without its prefix.
func (o WCOpcode) String() string {
	if n, ok := wcOpcodeNames[o]; ok {
		return n
	}
	return fmt.Sprintf("wc-opcode-%d", uint8(o))
}

// WCFlags say which fields of a [WC] are valid (enum ibv_wc_flags).
type WCFlags uint8

// Completion flags.
const (
	WCGRH     WCFlags = 1 << 0 // came over a routed network: always with RoCEv2; on UD the buffer starts with 40 bytes of IP header
	WCWithImm WCFlags = 1 << 1 // Imm is valid
	WCWithInv WCFlags = 1 << 2 // Imm is the rkey that was invalidated
)

// Cause says more precisely than [Status] why a work request failed.
type Cause uint8

// Causes.
const (
	CauseNone Cause = iota
	CauseQPError
	CauseLKey
	CauseLength
	CauseNoAnswer
	CauseRNR
	CauseNakSequence
	CauseNakInvalid
	CauseNakAccess
	CauseNakOperation
	CauseResponse
	CauseRdAtomicZero
	CauseMWBind
	CauseInvalidate
	CauseRecvTooShort
	CauseCQOverflow
	CauseRegMR
	CauseFault
)

var causeText = [...]string{
	CauseQPError:      "the queue pair is in error",
	CauseLKey:         "an SGE's lkey, range or right does not hold",
	CauseLength:       "the message is too long",
	CauseNoAnswer:     "no answer, all retries used",
	CauseRNR:          "the peer had no receive posted, all RNR retries used",
	CauseNakSequence:  "the peer kept missing packets, all retries used",
	CauseNakInvalid:   "the peer answered NAK invalid request",
	CauseNakAccess:    "the peer answered NAK remote access error",
	CauseNakOperation: "the peer answered NAK remote operational error",
	CauseResponse:     "the response does not fit the request",
	CauseRdAtomicZero: "max_rd_atomic is 0",
	CauseMWBind:       "the memory window cannot be bound so",
	CauseInvalidate:   "the key to invalidate is not a live one",
	CauseRecvTooShort: "the message is longer than the receive buffers",
	CauseCQOverflow:   "the completion queue is full",
	CauseRegMR:        "the memory region cannot be registered so",
	CauseFault:        "the memory is no longer there",
}

// String returns the reason in words.
func (c Cause) String() string {
	if int(c) < len(causeText) {
		return causeText[c]
	}
	return fmt.Sprintf("cause-%d", uint8(c))
}

// WC is a work completion.
type WC struct {
	ID        uint64 // of the work request
	Status    Status
	Opcode    WCOpcode
	Flags     WCFlags
	Cause     Cause    // with an error: why
	VendorErr uint32   // always 0, as with rxe
	ByteLen   uint32   // receives and READ: bytes that arrived, UD's 40 bytes of GRH included
	Imm       uint32   // immediate data as a number, or the invalidated rkey; see Flags
	QPN       uint32   // local queue pair
	SrcQP     uint32   // UD: the sender's
	PKeyIndex uint16   // QP1: always 0
	PSN       roce.PSN // with an error of the transport: of the packet it is about
	Time      int64    // clock of the device, ns
}

// Err returns nil for Success and a [*CompletionError] otherwise.
func (w *WC) Err() error {
	if w.Status == Success {
		return nil
	}
	return &CompletionError{ID: w.ID, Status: w.Status, QPN: w.QPN, PSN: w.PSN, Cause: w.Cause}
}

// CompletionError is a failed work request as an error.
type CompletionError struct {
	ID     uint64
	Status Status
	QPN    uint32
	PSN    roce.PSN
	Cause  Cause
}

// Error returns, for example, "rdma: qp 0x11 wr 7 psn 0x001000: remote access
// error: the peer answered NAK remote access error".
func (e *CompletionError) Error() string {
	return fmt.Sprintf("rdma: qp %#x wr %d psn %v: %v: %v", e.QPN, e.ID, e.PSN, e.Status, e.Cause)
}
