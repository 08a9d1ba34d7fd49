// Package filter holds BPF programs against a real kernel: the same object
// files, attached in the same places of a router that is a network namespace
// and of one that is a taproom node, with the same frames. What comes out, and
// what is in the maps afterwards, has to be the same.
package filter
