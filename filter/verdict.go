package filter

// Action codes of tc (TC_ACT_*, uapi linux/pkt_cls.h).
const (
	ActUnspec     int32 = -1
	ActOK         int32 = 0
	ActReclassify int32 = 1
	ActShot       int32 = 2
	ActPipe       int32 = 3
	ActStolen     int32 = 4
	ActQueued     int32 = 5
	ActRepeat     int32 = 6
	ActRedirect   int32 = 7
	ActTrap       int32 = 8

	actGotoChain int32 = 0x2 << 28 // TC_ACT_GOTO_CHAIN: the chain is in the low bits
	chainMask          = 1<<28 - 1 // TC_ACT_EXT_VAL_MASK
)

// Return values of tcx programs (TCX_*, uapi linux/bpf.h).
const (
	tcxNext     int32 = -1
	tcxPass     int32 = 0
	tcxDrop     int32 = 2
	tcxRedirect int32 = 7
)

// directAction maps what a direct-action program returned to what happens.
// Codes that a classifier may not give, jumps and loops among them, mean that
// it has no opinion.
func directAction(ret int32) int32 {
	switch ret {
	case ActOK, ActShot, ActStolen, ActTrap, ActRedirect:
		return ret
	}
	return ActUnspec
}

// actionNames are tc's words for the results of the gact action.
var actionNames = map[int32]string{
	ActOK: "pass", ActShot: "drop", ActPipe: "pipe", ActReclassify: "reclassify",
	ActUnspec: "continue", ActTrap: "trap", ActStolen: "stolen",
}

// Netfilter's verdicts (uapi linux/netfilter.h).
const (
	nfDrop   = 0
	nfAccept = 1
)
