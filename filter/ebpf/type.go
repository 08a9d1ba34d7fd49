package ebpf

import "fmt"

// ProgType is a program type, numbered as enum bpf_prog_type.
type ProgType uint32

// The program types that taproom knows. Others are kept as numbers.
const (
	Unspec         ProgType = 0
	SocketFilter   ProgType = 1
	Kprobe         ProgType = 2
	SchedCLS       ProgType = 3
	SchedACT       ProgType = 4
	Tracepoint     ProgType = 5
	XDP            ProgType = 6
	PerfEvent      ProgType = 7
	CGroupSKB      ProgType = 8
	CGroupSock     ProgType = 9
	LWTIn          ProgType = 10
	LWTOut         ProgType = 11
	LWTXmit        ProgType = 12
	SockOps        ProgType = 13
	SKSKB          ProgType = 14
	CGroupDevice   ProgType = 15
	SKMsg          ProgType = 16
	RawTracepoint  ProgType = 17
	CGroupSockAddr ProgType = 18
	LWTSeg6Local   ProgType = 19
	FlowDissector  ProgType = 22
	SKReuseport    ProgType = 21
	Tracing        ProgType = 26
	StructOps      ProgType = 27
	Extension      ProgType = 28
	LSM            ProgType = 29
	SKLookup       ProgType = 30
	Syscall        ProgType = 31
	Netfilter      ProgType = 32
)

var progTypeNames = map[ProgType]string{
	Unspec: "unspec", SocketFilter: "socket_filter", Kprobe: "kprobe", SchedCLS: "sched_cls",
	SchedACT: "sched_act", Tracepoint: "tracepoint", XDP: "xdp", PerfEvent: "perf_event",
	CGroupSKB: "cgroup_skb", CGroupSock: "cgroup_sock", LWTIn: "lwt_in", LWTOut: "lwt_out",
	LWTXmit: "lwt_xmit", SockOps: "sock_ops", SKSKB: "sk_skb", CGroupDevice: "cgroup_device",
	SKMsg: "sk_msg", RawTracepoint: "raw_tracepoint", CGroupSockAddr: "cgroup_sock_addr",
	LWTSeg6Local: "lwt_seg6local", SKReuseport: "sk_reuseport", FlowDissector: "flow_dissector",
	Tracing: "tracing", StructOps: "struct_ops", Extension: "ext", LSM: "lsm",
	SKLookup: "sk_lookup", Syscall: "syscall", Netfilter: "netfilter",
}

// String returns bpftool's name of the type.
func (t ProgType) String() string {
	if s, ok := progTypeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("type_%d", uint32(t))
}

// Attach types that taproom gives a meaning (enum bpf_attach_type).
const (
	AttachNone       uint32 = 0
	AttachNetfilter  uint32 = 45
	AttachTCXIngress uint32 = 46
	AttachTCXEgress  uint32 = 47
)
