package cm

import (
	"fmt"

	"taproom/rdma/roce"
)

// ServiceID names what a client wants to talk to.
type ServiceID uint64

// Sizes of the private data of each message in bytes. Decoded private data
// always has the full size: the wire does not say how much of it is meant.
const (
	REQPrivateLen     = 92
	REPPrivateLen     = 196
	RTUPrivateLen     = 224
	REJPrivateLen     = 148
	MRAPrivateLen     = 222
	DREQPrivateLen    = 220
	DREPPrivateLen    = 224
	SIDRReqPrivateLen = 216
	SIDRRepPrivateLen = 136
)

// Transport says what kind of queue pair a REQ is for.
type TransportType uint8

// Transport types (IBTA 12.6.5).
const (
	TransportRC TransportType = 0
	TransportUC TransportType = 1
)

// REQ asks for a connection (IBTA 12.6.5). Alternate paths, EE contexts and
// LIDs, which RoCE does not have, are not here: LIDs are sent as 0xffff, the
// rest as zero.
type REQ struct {
	LocalCommID     uint32
	Service         ServiceID
	LocalGUID       uint64
	LocalQKey       uint32
	LocalQPN        uint32 // 24 bits
	RespResources   uint8  // READs and atomics the active side takes at once
	InitiatorDepth  uint8  // and asks for at once
	RemoteTimeout   uint8  // time the passive CM has to answer: 4.096us * 2^n
	Transport       TransportType
	FlowControl     bool
	StartingPSN     roce.PSN // the passive side's first
	LocalTimeout    uint8    // time the active CM takes to answer
	RetryCount      uint8    // of the connection, 3 bits
	PKey            uint16
	MTU             roce.MTU
	RNRRetry        uint8 // 3 bits
	MaxCMRetries    uint8 // 4 bits
	SRQ             bool
	LocalGID        [16]byte
	RemoteGID       [16]byte
	FlowLabel       uint32 // 20 bits
	PacketRate      uint8  // 6 bits
	TrafficClass    uint8
	HopLimit        uint8
	SL              uint8 // 4 bits
	SubnetLocal     bool
	LocalAckTimeout uint8 // 5 bits
	Private         []byte
}

// Attribute returns AttrREQ.
func (*REQ) Attribute() Attribute { return AttrREQ }

func (r *REQ) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put64(b, 8, uint64(r.Service))
	put64(b, 16, r.LocalGUID)
	put32(b, 28, r.LocalQKey)
	put24(b, 32, r.LocalQPN)
	b[35] = r.RespResources
	b[39] = r.InitiatorDepth
	b[43] = r.RemoteTimeout<<3 | uint8(r.Transport)&3<<1 | flag(r.FlowControl, 1)
	put24(b, 44, uint32(r.StartingPSN))
	b[47] = r.LocalTimeout<<3 | r.RetryCount&7
	put16(b, 48, r.PKey)
	b[50] = uint8(r.MTU)<<4 | r.RNRRetry&7
	b[51] = r.MaxCMRetries<<4 | flag(r.SRQ, 8)
	put32(b, 52, 0xffffffff) // both LIDs
	copy(b[56:72], r.LocalGID[:])
	copy(b[72:88], r.RemoteGID[:])
	put32(b, 88, r.FlowLabel<<12|uint32(r.PacketRate&0x3f))
	b[92], b[93] = r.TrafficClass, r.HopLimit
	b[94] = r.SL<<4 | flag(r.SubnetLocal, 8)
	b[95] = r.LocalAckTimeout << 3
	copyTo(b, 140, r.Private)
}

func (r *REQ) decode(b []byte) {
	*r = REQ{
		LocalCommID: u32(b, 0), Service: ServiceID(u64(b, 8)), LocalGUID: u64(b, 16), LocalQKey: u32(b, 28),
		LocalQPN: u24(b, 32), RespResources: b[35], InitiatorDepth: b[39],
		RemoteTimeout: b[43] >> 3, Transport: TransportType(b[43] >> 1 & 3), FlowControl: b[43]&1 != 0,
		StartingPSN: roce.PSN(u24(b, 44)), LocalTimeout: b[47] >> 3, RetryCount: b[47] & 7, PKey: u16(b, 48),
		MTU: roce.MTU(b[50] >> 4), RNRRetry: b[50] & 7, MaxCMRetries: b[51] >> 4, SRQ: b[51]&8 != 0,
		LocalGID: [16]byte(b[56:72]), RemoteGID: [16]byte(b[72:88]), FlowLabel: u32(b, 88) >> 12, PacketRate: b[91] & 0x3f,
		TrafficClass: b[92], HopLimit: b[93], SL: b[94] >> 4, SubnetLocal: b[94]&8 != 0, LocalAckTimeout: b[95] >> 3,
		Private: private(b, 140),
	}
}

// REP grants a connection (IBTA 12.6.8).
type REP struct {
	LocalCommID    uint32
	RemoteCommID   uint32
	LocalQKey      uint32
	LocalQPN       uint32
	StartingPSN    roce.PSN // the active side's first
	RespResources  uint8
	InitiatorDepth uint8
	TargetAckDelay uint8 // 5 bits
	Failover       uint8 // 2 bits
	FlowControl    bool
	RNRRetry       uint8
	SRQ            bool
	LocalGUID      uint64
	Private        []byte
}

// Attribute returns AttrREP.
func (*REP) Attribute() Attribute { return AttrREP }

func (r *REP) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put32(b, 4, r.RemoteCommID)
	put32(b, 8, r.LocalQKey)
	put24(b, 12, r.LocalQPN)
	put24(b, 20, uint32(r.StartingPSN))
	b[24], b[25] = r.RespResources, r.InitiatorDepth
	b[26] = r.TargetAckDelay<<3 | r.Failover&3<<1 | flag(r.FlowControl, 1)
	b[27] = r.RNRRetry<<5 | flag(r.SRQ, 0x10)
	put64(b, 28, r.LocalGUID)
	copyTo(b, 36, r.Private)
}

func (r *REP) decode(b []byte) {
	*r = REP{
		LocalCommID: u32(b, 0), RemoteCommID: u32(b, 4), LocalQKey: u32(b, 8), LocalQPN: u24(b, 12),
		StartingPSN: roce.PSN(u24(b, 20)), RespResources: b[24], InitiatorDepth: b[25], TargetAckDelay: b[26] >> 3,
		Failover: b[26] >> 1 & 3, FlowControl: b[26]&1 != 0, RNRRetry: b[27] >> 5, SRQ: b[27]&0x10 != 0,
		LocalGUID: u64(b, 28), Private: private(b, 36),
	}
}

// RTU says that the active side is ready to use the connection (IBTA 12.6.9).
type RTU struct {
	LocalCommID, RemoteCommID uint32
	Private                   []byte
}

// Attribute returns AttrRTU.
func (*RTU) Attribute() Attribute { return AttrRTU }

func (r *RTU) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put32(b, 4, r.RemoteCommID)
	copyTo(b, 8, r.Private)
}

func (r *RTU) decode(b []byte) { *r = RTU{u32(b, 0), u32(b, 4), private(b, 8)} }

// Answered names the message that a REJ or an MRA is about.
type Answered uint8

// Messages that can be rejected or delayed (IBTA 12.6.6, 12.6.7).
const (
	AboutREQ  Answered = 0
	AboutREP  Answered = 1
	AboutNone Answered = 2 // REJ only; MRA has LAP there
)

// Reason is why a connection was rejected (IBTA 12.6.7.2).
type Reason uint16

// Reasons that occur with RoCE.
const (
	ReasonNoQP             Reason = 1
	ReasonNoResources      Reason = 3
	ReasonTimeout          Reason = 4
	ReasonUnsupported      Reason = 5
	ReasonInvalidCommID    Reason = 6
	ReasonInvalidInstance  Reason = 7
	ReasonInvalidServiceID Reason = 8
	ReasonInvalidTransport Reason = 9
	ReasonStale            Reason = 10
	ReasonInvalidGID       Reason = 13
	ReasonInvalidMTU       Reason = 26
	ReasonConsumer         Reason = 28
)

var reasonNames = map[Reason]string{
	ReasonNoQP: "no queue pair", ReasonNoResources: "no resources", ReasonTimeout: "timeout", ReasonUnsupported: "unsupported request",
	ReasonInvalidCommID: "invalid communication ID", ReasonInvalidInstance: "invalid communication instance",
	ReasonInvalidServiceID: "invalid service ID", ReasonInvalidTransport: "invalid transport service type",
	ReasonStale: "stale connection", ReasonInvalidGID: "invalid GID", ReasonInvalidMTU: "invalid path MTU", ReasonConsumer: "consumer defined",
}

// String returns the specification's words.
func (r Reason) String() string {
	if n := reasonNames[r]; n != "" {
		return n
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// REJ refuses a connection, or ends the attempt (IBTA 12.6.7).
type REJ struct {
	LocalCommID, RemoteCommID uint32
	About                     Answered
	Reason                    Reason
	Info                      []byte // additional reject information, at most 72 bytes
	Private                   []byte
}

const rejInfoLen = 72

// Attribute returns AttrREJ.
func (*REJ) Attribute() Attribute { return AttrREJ }

func (r *REJ) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put32(b, 4, r.RemoteCommID)
	b[8] = uint8(r.About) << 6
	b[9] = uint8(min(len(r.Info), rejInfoLen)) << 1
	put16(b, 10, uint16(r.Reason))
	copy(b[12:12+rejInfoLen], r.Info)
	copyTo(b, 84, r.Private)
}

func (r *REJ) decode(b []byte) {
	n := min(int(b[9]>>1), rejInfoLen)
	*r = REJ{u32(b, 0), u32(b, 4), Answered(b[8] >> 6), Reason(u16(b, 10)), append([]byte(nil), b[12:12+n]...), private(b, 84)}
}

// MRA says that a REQ or REP has come, and how much longer its answer may take
// (IBTA 12.6.6).
type MRA struct {
	LocalCommID, RemoteCommID uint32
	About                     Answered
	ServiceTimeout            uint8 // 4.096us * 2^n from now on
	Private                   []byte
}

// Attribute returns AttrMRA.
func (*MRA) Attribute() Attribute { return AttrMRA }

func (r *MRA) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put32(b, 4, r.RemoteCommID)
	b[8], b[9] = uint8(r.About)<<6, r.ServiceTimeout<<3
	copyTo(b, 10, r.Private)
}

func (r *MRA) decode(b []byte) {
	*r = MRA{u32(b, 0), u32(b, 4), Answered(b[8] >> 6), b[9] >> 3, private(b, 10)}
}

// DREQ asks to end a connection (IBTA 12.6.10).
type DREQ struct {
	LocalCommID, RemoteCommID uint32
	RemoteQPN                 uint32
	Private                   []byte
}

// Attribute returns AttrDREQ.
func (*DREQ) Attribute() Attribute { return AttrDREQ }

func (r *DREQ) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put32(b, 4, r.RemoteCommID)
	put24(b, 8, r.RemoteQPN)
	copyTo(b, 12, r.Private)
}

func (r *DREQ) decode(b []byte) { *r = DREQ{u32(b, 0), u32(b, 4), u24(b, 8), private(b, 12)} }

// DREP answers a DREQ (IBTA 12.6.11).
type DREP struct {
	LocalCommID, RemoteCommID uint32
	Private                   []byte
}

// Attribute returns AttrDREP.
func (*DREP) Attribute() Attribute { return AttrDREP }

func (r *DREP) encode(b []byte) {
	put32(b, 0, r.LocalCommID)
	put32(b, 4, r.RemoteCommID)
	copyTo(b, 8, r.Private)
}

func (r *DREP) decode(b []byte) { *r = DREP{u32(b, 0), u32(b, 4), private(b, 8)} }

// SIDRReq asks for the queue pair of a datagram service (IBTA 12.11.1.1).
type SIDRReq struct {
	RequestID uint32
	PKey      uint16
	Service   ServiceID
	Private   []byte
}

// Attribute returns AttrSIDRReq.
func (*SIDRReq) Attribute() Attribute { return AttrSIDRReq }

func (r *SIDRReq) encode(b []byte) {
	put32(b, 0, r.RequestID)
	put16(b, 4, r.PKey)
	put64(b, 8, uint64(r.Service))
	copyTo(b, 16, r.Private)
}

func (r *SIDRReq) decode(b []byte) {
	*r = SIDRReq{u32(b, 0), u16(b, 4), ServiceID(u64(b, 8)), private(b, 16)}
}

// SIDRStatus is how a SIDR_REQ was answered (IBTA 12.11.1.2).
type SIDRStatus uint8

// Statuses of a SIDR_REP.
const (
	SIDRSuccess     SIDRStatus = 0
	SIDRUnsupported SIDRStatus = 1
	SIDRReject      SIDRStatus = 2
	SIDRNoQP        SIDRStatus = 3
	SIDRRedirect    SIDRStatus = 4
)

// SIDRRep answers a SIDR_REQ.
type SIDRRep struct {
	RequestID uint32
	Status    SIDRStatus
	QPN       uint32
	Service   ServiceID
	QKey      uint32
	Info      []byte // at most 72 bytes
	Private   []byte
}

// Attribute returns AttrSIDRRep.
func (*SIDRRep) Attribute() Attribute { return AttrSIDRRep }

func (r *SIDRRep) encode(b []byte) {
	put32(b, 0, r.RequestID)
	b[4], b[5] = uint8(r.Status), uint8(min(len(r.Info), rejInfoLen))
	put24(b, 8, r.QPN)
	put64(b, 12, uint64(r.Service))
	put32(b, 20, r.QKey)
	copy(b[24:24+rejInfoLen], r.Info)
	copyTo(b, 96, r.Private)
}

func (r *SIDRRep) decode(b []byte) {
	n := min(int(b[5]), rejInfoLen)
	*r = SIDRRep{u32(b, 0), SIDRStatus(b[4]), u24(b, 8), ServiceID(u64(b, 12)), u32(b, 20), append([]byte(nil), b[24:24+n]...), private(b, 96)}
}

func flag(v bool, mask uint8) uint8 {
	if v {
		return mask
	}
	return 0
}
