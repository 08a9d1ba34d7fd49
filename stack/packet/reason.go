package packet

// Reason tells why a packet was dropped. Every drop in taproom has one.
type Reason uint8

// The reasons, roughly in the order of a packet's way.
const (
	NoReason          Reason = iota
	DeviceBadHeader          // a virtio-net header that contradicts the frame
	DeviceFull               // the device's or wire's queue was full
	DeviceDown               // the device, wire or interface is down
	DeviceError              // the device refused the frame
	TooShort                 // shorter than its headers
	OtherMAC                 // for another station
	UnknownProto             // an EtherType or protocol nobody handles
	BadHeader                // a malformed IP header
	BadChecksum              // a wrong IPv4 header checksum
	BadSource                // a source address no packet may have
	NoRoute                  // no route to the destination
	Prohibited               // an unreachable, prohibit or blackhole route
	NotForwarding            // forwarding is off
	TTLExceeded              // TTL or hop limit used up
	TooBig                   // larger than the MTU, and may not be fragmented
	NoNeighbor               // the next hop's link address cannot be found
	NeighborQueueFull        // too many packets wait for one next hop
	ReassemblyTimeout        // fragments that never became a packet
	ReassemblyLimit          // more fragments than memory is given to
	ByHandler                // a handler said drop
	ByClassifier             // a tc program or action said drop
	ByNetfilter              // a netfilter program said drop
	RedirectFailed           // the interface of a redirect is not there
	RedirectLoop             // redirected too many times
	IOAMMalformed            // an IOAM option Linux drops
	OptionUnknown            // an IPv6 option whose type says drop
	WireLoss                 // a wire's configured loss
	WireCorrupt              // a wire's configured corruption
	Backpressure             // the receiver could not keep up
	Shaper                   // a class's queue was full
	NodeClosed               // the node is going away
	numReasons
)

// NumReasons is one more than the largest Reason, for tables of counters.
const NumReasons = int(numReasons)

var reasonNames = [...]string{
	"none", "device-bad-header", "device-full", "device-down", "device-error", "too-short", "other-mac",
	"unknown-proto", "bad-header", "bad-checksum", "bad-source", "no-route", "prohibited", "not-forwarding",
	"ttl-exceeded", "too-big", "no-neighbor", "neighbor-queue-full", "reassembly-timeout", "reassembly-limit",
	"by-handler", "by-classifier", "by-netfilter", "redirect-failed", "redirect-loop", "ioam-malformed",
	"option-unknown", "wire-loss", "wire-corrupt", "backpressure", "shaper", "node-closed",
}

var _ = [1]struct{}{}[len(reasonNames)-int(numReasons)] // one name each

func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}
