package helper

type entry struct {
	id     ID
	progs  Progs
	ret    Ret
	traits Trait
	args   []Arg
}

// Shorthand of the table below.
const (
	all    = allProgs
	tc     = Classifier
	skb    = SocketFilter | Classifier
	xdp    = XDP
	tcxdp  = Classifier | XDP
	packet = SocketFilter | Classifier | XDP
)

var (
	anyArg     = Arg{Kind: Any}
	ctxArg     = Arg{Kind: Ctx}
	ctxOrNull  = Arg{Kind: Ctx, Flags: Nullable}
	mapArg     = Arg{Kind: MapPtr}
	keyArg     = Arg{Kind: MapKey}
	valueIn    = Arg{Kind: MapValue}
	valueOut   = Arg{Kind: MapValue, Flags: Write | Uninit}
	memIn      = Arg{Kind: Mem}
	memInNull  = Arg{Kind: Mem, Flags: Nullable}
	memInOut   = Arg{Kind: Mem, Flags: Write}
	memOut     = Arg{Kind: Mem, Flags: Write | Uninit}
	memOutNull = Arg{Kind: Mem, Flags: Write | Uninit | Nullable}
	sizeArg    = Arg{Kind: Size}
	sizeOrZero = Arg{Kind: SizeOrZero}
	allocSize  = Arg{Kind: AllocSize}
	lockArg    = Arg{Kind: SpinLock}
	timerArg   = Arg{Kind: Timer}
	sockArg    = Arg{Kind: SockCommon}
	btfSock    = Arg{Kind: BTFSock}
	sockGiven  = Arg{Kind: BTFSock, Flags: Release}
	recordOut  = Arg{Kind: Record, Flags: Release}
	funcArg    = Arg{Kind: Func}
	stackArg   = Arg{Kind: StackOrNull}
	strArg     = Arg{Kind: ConstStr}
	longOut    = Arg{Kind: FixedMem, Flags: Write | Uninit | Aligned, Size: 8}
	mtuInOut   = Arg{Kind: FixedMem, Flags: Write | Aligned, Size: 4}
	ip4Hdr     = Arg{Kind: FixedMem, Size: 20}
	ip6Hdr     = Arg{Kind: FixedMem, Size: 40}
	tcpHdr     = Arg{Kind: FixedMem, Size: 20}
	dynIn      = Arg{Kind: Dynptr}
	dynLocal   = Arg{Kind: Dynptr, Flags: Write | Uninit | LocalDynptr}
	dynRing    = Arg{Kind: Dynptr, Flags: Write | Uninit | RingDynptr}
	dynRingOut = Arg{Kind: Dynptr, Flags: Release | RingDynptr}
)

func args(a ...Arg) []Arg { return a }

// table lists what we offer: number, program kinds, result, traits, arguments.
var table = []entry{
	// Maps.
	{MapLookupElem, all, RetMapValueOrNull, PacketArgs, args(mapArg, keyArg)},
	{MapUpdateElem, all, RetInt, PacketArgs, args(mapArg, keyArg, valueIn, anyArg)},
	{MapDeleteElem, all, RetInt, PacketArgs, args(mapArg, keyArg)},
	{MapPushElem, all, RetInt, PacketArgs, args(mapArg, valueIn, anyArg)},
	{MapPopElem, all, RetInt, 0, args(mapArg, valueOut)},
	{MapPeekElem, all, RetInt, 0, args(mapArg, valueOut)},
	{MapLookupPercpuElem, all, RetMapValueOrNull, PacketArgs, args(mapArg, keyArg, anyArg)},
	{ForEachMapElem, all, RetInt, Callback, args(mapArg, funcArg, stackArg, anyArg)},
	{TailCall, all, RetVoid, 0, args(ctxArg, mapArg, anyArg)},
	{RedirectMap, xdp, RetInt, 0, args(mapArg, anyArg, anyArg)},
	{SpinLockID, all, RetVoid, 0, args(lockArg)},
	{SpinUnlockID, all, RetVoid, 0, args(lockArg)},
	{TimerInit, all, RetInt, GPL, args(timerArg, mapArg, anyArg)},
	{TimerSetCallback, all, RetInt, GPL | Callback, args(timerArg, funcArg)},
	{TimerStart, all, RetInt, GPL, args(timerArg, anyArg, anyArg)},
	{TimerCancel, all, RetInt, GPL, args(timerArg)},

	// Control flow.
	{Loop, all, RetInt, Callback, args(anyArg, funcArg, stackArg, anyArg)},

	// Time, identity, chance.
	{KtimeGetNS, all, RetInt, 0, nil},
	{KtimeGetBootNS, all, RetInt, 0, nil},
	{KtimeGetTAINS, all, RetInt, 0, nil},
	{KtimeGetCoarseNS, packet, RetInt, 0, nil},
	{Jiffies64, all, RetInt, 0, nil},
	{GetPrandomU32, all, RetInt, 0, nil},
	{GetSmpProcessorID, all, RetInt, 0, nil},
	{GetNUMANodeID, all, RetInt, 0, nil},
	{GetCurrentPIDTGID, all, RetInt, 0, nil},
	{GetCurrentUIDGID, all, RetInt, 0, nil},
	{GetCurrentComm, all, RetInt, 0, args(memOut, sizeArg)},
	{GetCurrentCgroupID, all, RetInt, 0, nil},
	{GetCgroupClassid, all, RetInt, 0, args(ctxArg)},
	{GetRouteRealm, tc, RetInt, 0, args(ctxArg)},
	{SKBCgroupID, tc, RetInt, 0, args(ctxArg)},
	{SKBAncestorCgroupID, tc, RetInt, 0, args(ctxArg, anyArg)},
	{SKBCgroupClassid, tc, RetInt, 0, args(ctxArg)},
	{GetSocketCookie, skb, RetInt, 0, args(ctxArg)},
	{GetSocketUID, skb, RetInt, 0, args(ctxArg)},
	{GetNetnsCookie, skb, RetInt, 0, args(ctxOrNull)},

	// Output and strings.
	{TracePrintk, all, RetInt, GPL, args(memIn, sizeArg)},
	{TraceVprintk, all, RetInt, GPL, args(memIn, sizeArg, memInNull, sizeOrZero)},
	{Snprintf, all, RetInt, GPL, args(memOutNull, sizeOrZero, strArg, memInNull, sizeOrZero)},
	{Strtol, all, RetInt, 0, args(memIn, sizeArg, anyArg, longOut)},
	{Strtoul, all, RetInt, 0, args(memIn, sizeArg, anyArg, longOut)},
	{Strncmp, all, RetInt, 0, args(memIn, sizeArg, strArg)},
	{PerfEventOutput, packet, RetInt, GPL, args(ctxArg, mapArg, anyArg, memIn, sizeOrZero)},
	{PerfEventRead, all, RetInt, GPL, args(mapArg, anyArg)},
	{PerfEventReadValue, all, RetInt, GPL, args(mapArg, anyArg, memOut, sizeArg)},
	{RingbufOutput, all, RetInt, 0, args(mapArg, memIn, sizeOrZero, anyArg)},
	{RingbufReserve, all, RetRecordOrNull, Acquires, args(mapArg, allocSize, anyArg)},
	{RingbufSubmit, all, RetVoid, 0, args(recordOut, anyArg)},
	{RingbufDiscard, all, RetVoid, 0, args(recordOut, anyArg)},
	{RingbufQuery, all, RetInt, 0, args(mapArg, anyArg)},
	{RingbufReserveDynptr, all, RetInt, 0, args(mapArg, anyArg, anyArg, dynRing)},
	{RingbufSubmitDynptr, all, RetVoid, 0, args(dynRingOut, anyArg)},
	{RingbufDiscardDynptr, all, RetVoid, 0, args(dynRingOut, anyArg)},

	// Dynptrs.
	{DynptrFromMem, all, RetInt, 0, args(memOut, sizeOrZero, anyArg, dynLocal)},
	{DynptrRead, all, RetInt, 0, args(memOut, sizeOrZero, dynIn, anyArg, anyArg)},
	{DynptrWrite, all, RetInt, 0, args(dynIn, anyArg, memIn, sizeOrZero, anyArg)},
	{DynptrData, all, RetDynptrMemOrNull, 0, args(dynIn, anyArg, allocSize)},

	// The packet.
	{SKBStoreBytes, tc, RetInt, MovesData, args(ctxArg, anyArg, memIn, sizeArg, anyArg)},
	{SKBLoadBytes, skb, RetInt, 0, args(ctxArg, anyArg, memOut, sizeArg)},
	{SKBLoadBytesRelative, skb, RetInt, 0, args(ctxArg, anyArg, memOut, sizeArg, anyArg)},
	{SKBPullData, tc, RetInt, MovesData, args(ctxArg, anyArg)},
	{SKBVLANPush, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg)},
	{SKBVLANPop, tc, RetInt, MovesData, args(ctxArg)},
	{SKBChangeProto, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg)},
	{SKBChangeType, tc, RetInt, 0, args(ctxArg, anyArg)},
	{SKBChangeTail, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg)},
	{SKBChangeHead, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg)},
	{SKBAdjustRoom, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg, anyArg)},
	{SKBECNSetCE, tc, RetInt, 0, args(ctxArg)},
	{SKBSetTstamp, tc, RetInt, 0, args(ctxArg, anyArg, anyArg)},
	{GetHashRecalc, tc, RetInt, 0, args(ctxArg)},
	{SetHashInvalid, tc, RetInt, 0, args(ctxArg)},
	{SetHash, tc, RetInt, 0, args(ctxArg, anyArg)},
	{CheckMTU, tcxdp, RetInt, GPL, args(ctxArg, anyArg, mtuInOut, anyArg, anyArg)},
	{XDPAdjustHead, xdp, RetInt, MovesData, args(ctxArg, anyArg)},
	{XDPAdjustMeta, xdp, RetInt, MovesData, args(ctxArg, anyArg)},
	{XDPAdjustTail, xdp, RetInt, MovesData, args(ctxArg, anyArg)},
	{XDPGetBuffLen, xdp, RetInt, 0, args(ctxArg)},
	{XDPLoadBytes, xdp, RetInt, 0, args(ctxArg, anyArg, memOut, sizeArg)},
	{XDPStoreBytes, xdp, RetInt, 0, args(ctxArg, anyArg, memIn, sizeArg)},

	// Checksums.
	{L3CsumReplace, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg, anyArg, anyArg)},
	{L4CsumReplace, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg, anyArg, anyArg)},
	{CsumDiff, tcxdp, RetInt, PacketArgs, args(memInNull, sizeOrZero, memInNull, sizeOrZero, anyArg)},
	{CsumUpdate, tc, RetInt, 0, args(ctxArg, anyArg)},
	{CsumLevel, tc, RetInt, 0, args(ctxArg, anyArg)},

	// Where it goes.
	{Redirect, tcxdp, RetInt, 0, args(anyArg, anyArg)},
	{RedirectNeigh, tc, RetInt, 0, args(anyArg, memInNull, sizeOrZero, anyArg)},
	{RedirectPeer, tc, RetInt, 0, args(anyArg, anyArg)},
	{CloneRedirect, tc, RetInt, MovesData, args(ctxArg, anyArg, anyArg)},
	{FIBLookup, tcxdp, RetInt, GPL, args(ctxArg, memInOut, sizeArg, anyArg)},
	{SKBGetTunnelKey, tc, RetInt, 0, args(ctxArg, memOut, sizeArg, anyArg)},
	{SKBSetTunnelKey, tc, RetInt, 0, args(ctxArg, memIn, sizeArg, anyArg)},
	{SKBGetTunnelOpt, tc, RetInt, 0, args(ctxArg, memOut, sizeArg)},
	{SKBSetTunnelOpt, tc, RetInt, 0, args(ctxArg, memIn, sizeArg)},
	{SKBGetXfrmState, tc, RetInt, 0, args(ctxArg, anyArg, memOut, sizeArg, anyArg)},

	// Sockets.
	{SkLookupTCP, tcxdp, RetSocketOrNull, Acquires | PacketArgs, args(ctxArg, memIn, sizeArg, anyArg, anyArg)},
	{SkLookupUDP, tcxdp, RetSocketOrNull, Acquires | PacketArgs, args(ctxArg, memIn, sizeArg, anyArg, anyArg)},
	{SkcLookupTCP, tcxdp, RetSockCommonOrNull, Acquires | PacketArgs, args(ctxArg, memIn, sizeArg, anyArg, anyArg)},
	{SkRelease, tcxdp, RetInt, 0, args(sockGiven)},
	{SkFullsock, tc, RetSocketOrNull, Casts, args(sockArg)},
	{TCPSock, tc, RetTCPSockOrNull, Casts, args(sockArg)},
	{GetListenerSock, tc, RetSocketOrNull, 0, args(sockArg)},
	{SkAssign, tc, RetInt, 0, args(ctxArg, btfSock, anyArg)},
	{TCPCheckSyncookie, tcxdp, RetInt, GPL | PacketArgs, args(btfSock, memIn, sizeArg, memIn, sizeArg)},
	{TCPGenSyncookie, tcxdp, RetInt, GPL | PacketArgs, args(btfSock, memIn, sizeArg, memIn, sizeArg)},
	{TCPRawGenSyncookieIpv4, tcxdp, RetInt, GPL | PacketArgs, args(ip4Hdr, memIn, sizeOrZero)},
	{TCPRawGenSyncookieIpv6, tcxdp, RetInt, GPL | PacketArgs, args(ip6Hdr, memIn, sizeOrZero)},
	{TCPRawCheckSyncookieIpv4, tcxdp, RetInt, GPL | PacketArgs, args(ip4Hdr, tcpHdr)},
	{TCPRawCheckSyncookieIpv6, tcxdp, RetInt, GPL | PacketArgs, args(ip6Hdr, tcpHdr)},
}

// refused lists helpers that Linux has for these program kinds and we do not:
// they look at tasks, kernel memory, or per-socket storage of a real kernel.
var refused = map[Progs][]ID{
	all: {GetCurrentTask, CurrentTaskUnderCgroup, SendSignal, SendSignalThread, ProbeReadUser,
		ProbeReadKernel, ProbeReadUserStr, ProbeReadKernelStr, GetNSCurrentPIDTGID,
		GetCurrentAncestorCgroupID, GetTaskStack, CopyFromUser, SnprintfBTF, PerCPUPtr, ThisCPUPtr,
		TaskStorageGet, TaskStorageDelete, GetCurrentTaskBTF, TaskPtRegs, GetBranchSnapshot,
		FindVMA, CopyFromUserTask, KptrXchg, UserRingbufDrain, CgrpStorageGet, CgrpStorageDelete},
	tc: {SKBUnderCgroup, SkStorageGet, SkStorageDelete},
	packet: {SkcToTCP6Sock, SkcToTCPSock, SkcToTCPTimewaitSock, SkcToTCPRequestSock,
		SkcToUDP6Sock, SkcToUnixSock, SkcToMPTCPSock},
}
