// Package cbpf reads, checks and runs classic BPF: the packet filters of
// tcpdump and of tc's "bytecode", with Linux's extensions.
//
// A filter is checked exactly as Linux checks one that is attached to a socket or
// to cls_bpf, and gives the answers that Linux gives. [New] compiles it for the
// direct runner, [Filter.Run]; [Filter.Translate] makes an eBPF program of it for
// the compiler of filter/vm.
//
//	insns, err := cbpf.Parse(text)  // "tcpdump -ddd tcp", or tc bytecode
//	f, err := cbpf.New(insns)
//	keep := f.Run(frame, nil)       // 0: drop; else bytes to keep
//
// A Filter never changes and may be run from many goroutines at once.
package cbpf
