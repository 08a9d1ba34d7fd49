// Package guest gives a network namespace its way out: a TAP inside, a node
// and a relay behind it, and what a host expects from its network: addresses
// and routes, DHCP, router advertisements, a resolver. It is what the commands
// that serve containers have in common.
//
// A Guest is served by goroutines of its own from Open to Close. It keeps no
// descriptor of the namespace but the TAP and, if it follows what listens
// inside, four files of /proc; after Open it needs no privilege any more, see
// Confine.
package guest
