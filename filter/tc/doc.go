// Package tc speaks tc(8): it carries out its command lines for qdisc, class,
// filter and chain on a node's interfaces, and prints what tc prints, as text
// or as JSON.
//
//	c := tc.Command{Filters: fs, Load: loader}
//	out, err := c.Run("filter", "add", "dev", "eth0", "ingress", "bpf", "da", "obj", "f.o", "sec", "tc")
//
// It knows clsact, ingress and htb, bpf filters with their options, and the
// actions gact, mirred and skbedit. Errors from below are *filter.Error, whose
// words are tc's; those about the command line name the word that is wrong.
package tc
