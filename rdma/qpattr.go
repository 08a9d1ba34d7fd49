package rdma

import (
	"fmt"
	"strings"

	"taproom/rdma/roce"
)

// QPState is a queue pair's state (enum ibv_qp_state).
//
//	RESET -> INIT -> RTR -> RTS <-> SQD
//	                         |
//	                        SQE -> RTS     (UC, UD: a send failed)
//	any -> ERR, any -> RESET
type QPState uint8

// Queue pair states.
const (
	Reset QPState = iota
	Init          // receives may be posted
	RTR           // ready to receive
	RTS           // ready to send
	SQD           // send queue drained, or draining
	SQE           // send queue error: sends flush, receives go on
	Err           // everything flushes
)

var stateNames = [...]string{"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"}

// String returns the state's name in verbs.
func (s QPState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// QPAttr are what Modify sets and Query returns (struct ibv_qp_attr).
type QPAttr struct {
	State            QPState
	CurState         QPState
	PathMTU          roce.MTU
	QKey             uint32
	RQPSN            roce.PSN // of the first packet to come
	SQPSN            roce.PSN // of the first packet to go
	DestQPN          uint32
	Access           Access // remote rights of the peer
	AH               AHAttr
	PKeyIndex        uint16
	EnSQDAsyncNotify bool
	MaxRdAtomic      uint8  // READs and atomics under way from here
	MaxDestRdAtomic  uint8  // and from the peer
	MinRNRTimer      uint8  // timer code, see roce.RNRDelay
	PortNum          uint8  // 1
	Timeout          uint8  // 4.096 us * 2^Timeout; 0: wait for ever
	RetryCnt         uint8  // 0..7
	RNRRetry         uint8  // 0..6; 7: for ever
	UDPSrcPort       uint16 // 0: as rxe computes it
	Cap              QPCap  // Query only
}

// AttrMask says which attributes a Modify sets (enum ibv_qp_attr_mask).
type AttrMask uint32

// Attributes. AttrUDPSrcPort is not in verbs' own mask; vendors' libraries have
// a call for it.
const (
	AttrState            AttrMask = 1 << 0
	AttrCurState         AttrMask = 1 << 1
	AttrEnSQDAsyncNotify AttrMask = 1 << 2
	AttrAccess           AttrMask = 1 << 3
	AttrPKeyIndex        AttrMask = 1 << 4
	AttrPort             AttrMask = 1 << 5
	AttrQKey             AttrMask = 1 << 6
	AttrAV               AttrMask = 1 << 7
	AttrPathMTU          AttrMask = 1 << 8
	AttrTimeout          AttrMask = 1 << 9
	AttrRetryCnt         AttrMask = 1 << 10
	AttrRNRRetry         AttrMask = 1 << 11
	AttrRQPSN            AttrMask = 1 << 12
	AttrMaxRdAtomic      AttrMask = 1 << 13
	AttrAltPath          AttrMask = 1 << 14
	AttrMinRNRTimer      AttrMask = 1 << 15
	AttrSQPSN            AttrMask = 1 << 16
	AttrMaxDestRdAtomic  AttrMask = 1 << 17
	AttrPathMigState     AttrMask = 1 << 18
	AttrCap              AttrMask = 1 << 19
	AttrDestQPN          AttrMask = 1 << 20
	AttrUDPSrcPort       AttrMask = 1 << 30
)

var attrNames = map[AttrMask]string{
	AttrState: "STATE", AttrCurState: "CUR_STATE", AttrEnSQDAsyncNotify: "EN_SQD_ASYNC_NOTIFY", AttrAccess: "ACCESS_FLAGS",
	AttrPKeyIndex: "PKEY_INDEX", AttrPort: "PORT", AttrQKey: "QKEY", AttrAV: "AV", AttrPathMTU: "PATH_MTU", AttrTimeout: "TIMEOUT",
	AttrRetryCnt: "RETRY_CNT", AttrRNRRetry: "RNR_RETRY", AttrRQPSN: "RQ_PSN", AttrMaxRdAtomic: "MAX_QP_RD_ATOMIC",
	AttrAltPath: "ALT_PATH", AttrMinRNRTimer: "MIN_RNR_TIMER", AttrSQPSN: "SQ_PSN", AttrMaxDestRdAtomic: "MAX_DEST_RD_ATOMIC",
	AttrPathMigState: "PATH_MIG_STATE", AttrCap: "CAP", AttrDestQPN: "DEST_QPN", AttrUDPSrcPort: "UDP_SRC_PORT",
}

// String lists the attributes by their names in verbs.
func (m AttrMask) String() string {
	var s []string
	for i := range 32 {
		if b := AttrMask(1) << i; m&b != 0 {
			if n := attrNames[b]; n != "" {
				s = append(s, n)
			} else {
				s = append(s, fmt.Sprintf("bit-%d", i))
			}
		}
	}
	return strings.Join(s, "|")
}

// transition says which attributes a change of state needs, and which it may set.
type transition struct{ need, may AttrMask }

const (
	mRC = AttrAccess | AttrMinRNRTimer | AttrCurState
	mUC = AttrAccess | AttrCurState
	mUD = AttrQKey | AttrCurState
)

// transitions are the changes of state but those to RESET and ERR, by type
// (IBTA 11.2.5.2, table 91; the alternate path is not offered).
var transitions = map[[2]QPState]map[QPType]transition{
	{Reset, Init}: {
		RC:  {need: AttrPKeyIndex | AttrPort | AttrAccess},
		UC:  {need: AttrPKeyIndex | AttrPort | AttrAccess},
		UD:  {need: AttrPKeyIndex | AttrPort | AttrQKey},
		GSI: {need: AttrPKeyIndex | AttrQKey, may: AttrPort},
	},
	{Init, Init}: {
		RC:  {may: AttrPKeyIndex | AttrPort | AttrAccess},
		UC:  {may: AttrPKeyIndex | AttrPort | AttrAccess},
		UD:  {may: AttrPKeyIndex | AttrPort | AttrQKey},
		GSI: {may: AttrPKeyIndex | AttrPort | AttrQKey},
	},
	{Init, RTR}: {
		RC:  {need: AttrAV | AttrPathMTU | AttrDestQPN | AttrRQPSN | AttrMaxDestRdAtomic | AttrMinRNRTimer, may: AttrPKeyIndex | AttrAccess | AttrUDPSrcPort},
		UC:  {need: AttrAV | AttrPathMTU | AttrDestQPN | AttrRQPSN, may: AttrPKeyIndex | AttrAccess | AttrUDPSrcPort},
		UD:  {may: AttrPKeyIndex | AttrQKey | AttrUDPSrcPort},
		GSI: {may: AttrPKeyIndex | AttrQKey | AttrUDPSrcPort},
	},
	{RTR, RTS}: {
		RC:  {need: AttrSQPSN | AttrTimeout | AttrRetryCnt | AttrRNRRetry | AttrMaxRdAtomic, may: mRC | AttrUDPSrcPort},
		UC:  {need: AttrSQPSN, may: mUC | AttrUDPSrcPort},
		UD:  {need: AttrSQPSN, may: mUD | AttrUDPSrcPort},
		GSI: {need: AttrSQPSN, may: mUD | AttrUDPSrcPort},
	},
	{RTS, RTS}: {RC: {may: mRC | AttrUDPSrcPort}, UC: {may: mUC | AttrUDPSrcPort}, UD: {may: mUD | AttrUDPSrcPort}, GSI: {may: mUD | AttrUDPSrcPort}},
	{RTS, SQD}: {RC: {may: AttrEnSQDAsyncNotify}, UC: {may: AttrEnSQDAsyncNotify}, UD: {may: AttrEnSQDAsyncNotify}, GSI: {may: AttrEnSQDAsyncNotify}},
	{SQD, RTS}: {RC: {may: mRC}, UC: {may: mUC}, UD: {may: mUD}, GSI: {may: mUD}},
	{SQD, SQD}: {
		RC: {may: AttrPort | AttrAV | AttrTimeout | AttrRetryCnt | AttrRNRRetry | AttrMaxRdAtomic | AttrMaxDestRdAtomic | AttrAccess |
			AttrPKeyIndex | AttrMinRNRTimer | AttrUDPSrcPort},
		UC:  {may: AttrAV | AttrAccess | AttrPKeyIndex | AttrUDPSrcPort},
		UD:  {may: AttrPKeyIndex | AttrQKey | AttrUDPSrcPort},
		GSI: {may: AttrPKeyIndex | AttrQKey | AttrUDPSrcPort},
	},
	{SQE, RTS}: {UC: {may: mUC}, UD: {may: mUD}, GSI: {may: mUD}},
}
