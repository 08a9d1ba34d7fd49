// Package dhcp answers what a host asks of its network before it can use it:
// DHCPv4 (RFC 2131), DHCPv6 (RFC 8415), router solicitations (RFC 4861), and
// neighbours that somebody else's network has (proxy ARP, proxy ND).
//
// There is one host on the link, so there is one lease and nothing to
// remember: the answer is a function of Services. It is a handler on the node,
// runs on the device's reader and answers with one packet for one.
package dhcp
